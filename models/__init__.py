"""What computes on pixels and samples: arrays in, arrays out."""

from __future__ import annotations
