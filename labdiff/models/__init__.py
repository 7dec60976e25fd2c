"""The networks that ship with the labs."""
