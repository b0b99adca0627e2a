"""Whether the codes of new items still look like those that a collection began with."""
