"""Runs a submission's program where nothing is to be stolen, and believes nothing of what comes out."""
