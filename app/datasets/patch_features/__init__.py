"""Features of colour images from dictionaries of patches, learned without labels."""
