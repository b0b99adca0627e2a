"""Jobs: work that takes longer than a request. Most of it runs in processes of its own."""
