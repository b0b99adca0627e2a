"""Exact Hamming search: flat scan, table lookups, reranking, and the answers."""
