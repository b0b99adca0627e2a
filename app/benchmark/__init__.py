"""The benchmark: hashing methods at several code lengths, measured by retrieval.

It imports neither FastAPI nor Faiss: the command line and the processes of jobs run it.
"""
