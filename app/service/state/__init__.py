"""Opening collections, state and keys where the settings say that they are."""
