"""The benchmark: hashing methods at several code lengths, measured by retrieval.

It imports no FastAPI: the command line and the processes of jobs run it. Only the parts of
`app.benchmark.neighbours` that measure load Faiss.
"""
