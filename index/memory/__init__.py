"""Items in memory: segments of codes and ids with their lookup tables, and views of them."""
