"""The trained nets, their teacher and their loss."""
