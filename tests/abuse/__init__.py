"""Attacks on a running service, each beside a well-behaved client."""
