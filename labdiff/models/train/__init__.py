"""Training the checkpoints that ship with the labs."""
