"""Collections whose codes are in Milvus, and all else about them in a database of SQLAlchemy.

`index.milvus.store.MilvusStore` is a `backend.Store`. Pymilvus is imported only with that module.
"""
