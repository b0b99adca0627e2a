"""Items in memory: segments of codes and ids, and consistent views of them."""
