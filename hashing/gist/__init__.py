"""Images to GIST descriptors."""

from __future__ import annotations

from hashing.gist.descriptor import Gist
from hashing.gist.operators import gabor_bank

__all__ = ["Gist", "gabor_bank"]
