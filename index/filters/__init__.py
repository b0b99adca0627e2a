"""Filters on labels and payloads, and the columns of payload fields that they read."""
