"""What theorems about random and trained codes say of given descriptors: one module per law.

Each module states its law, the source, and where the law stops being true, and estimates the
quantities from a sample. Only numpy and scipy are needed.
"""
