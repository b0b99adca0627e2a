"""Exact Hamming search: flat scan, multi-index tables, filters and reranking."""
