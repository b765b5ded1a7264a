"""Price tables."""

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class PriceTable:
    """A price table, written before the first claim that names it. Key: hash."""

    hash: str
    source: str
    ts: int
    data: bytes
