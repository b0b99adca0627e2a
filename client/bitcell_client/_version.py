"""The version of this distribution, the same as the service's."""

__version__ = "0.1.0"
