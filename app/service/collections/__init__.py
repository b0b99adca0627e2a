"""What the service does with collections: fill, search, re-encode, snapshot and measure them."""
