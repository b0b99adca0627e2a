"""Attacks on a running service, which a well-behaved client uses at the same time."""
