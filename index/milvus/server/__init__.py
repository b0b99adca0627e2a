"""One Milvus server: calls, collections there, and items as its columns."""
