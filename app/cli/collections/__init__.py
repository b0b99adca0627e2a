"""The commands that show, fill and search the collections of a running service."""
