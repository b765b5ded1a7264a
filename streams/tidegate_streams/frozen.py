"""A state as bytes, and back to an equal one: for snapshots, which only the release that wrote them reads.

Each field of each class is kept by walking over it, so that a new one cannot be forgotten. It is not pickle:
the bytes come back from a topic, and reading them must never run what somebody put there.
"""

import json
import struct
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np
import polars as pl

from tidegate.errors import ContractError
from tidegate_streams import partials

_SCALARS = frozenset({type(None), bool, int, float, str})
_PACKAGES = ("tidegate.", "tidegate_streams.")
_PREFACE = struct.Struct(">Q")


@dataclass(slots=True)
class Frozen:
    """A value that what happens to the original no longer changes; tables, which never change, are shared."""

    tree: Any = None
    tables: list[pl.DataFrame] = field(default_factory=list)
    _places: dict[int, int] = field(default_factory=dict)

    def pack(self) -> bytes:
        """Return it as bytes; this is the longer part of the work, and any thread may do it."""
        packed = [partials.pack(table) for table in self.tables]
        tree = json.dumps([[len(one) for one in packed], self.tree], separators=(",", ":")).encode()
        return b"".join([_PREFACE.pack(len(tree)), tree, *packed])

    def take(self, value: Any) -> Any:
        """Return a value as what JSON can hold, tables by their number."""
        kind = type(value)
        if kind in _SCALARS:
            return value
        if kind is list:
            return self._all(value)
        if kind is tuple:
            return {"tuple": self._all(value)}
        if kind in (set, frozenset):
            return {kind.__name__: self._all(sorted(value))}
        if kind in (dict, Counter):
            return {kind.__name__: [self._all(value), self._all(value.values())]}
        if kind is pl.DataFrame:
            return {"table": self._place(value)}
        if isinstance(value, np.generic):
            return value.item()
        if kind is np.ndarray and value.dtype == np.float64:
            return {"array": value.tolist()}
        name = f"{kind.__module__}:{kind.__qualname__}"
        if is_dataclass(kind):
            return {name: self._all(getattr(value, one.name) for one in fields(kind))}
        if issubclass(kind, tuple) and hasattr(kind, "_fields"):
            return {name: self._all(value)}
        raise TypeError(f"{name} cannot be kept in a snapshot: teach Frozen.take and thaw about it")

    def _all(self, values: Iterable[Any]) -> list[Any]:
        held = list(values)
        # Sketches and histograms hold most of the numbers: those lists are taken whole.
        return held if _SCALARS.issuperset(map(type, held)) else [self.take(one) for one in held]

    def _place(self, table: pl.DataFrame) -> int:
        if id(table) not in self._places:
            self._places[id(table)] = len(self.tables)
            self.tables.append(table)
        return self._places[id(table)]


def freeze(value: Any) -> Frozen:
    """Hold a value fast: dataclasses, named tuples, containers, numbers, text, tables and arrays of floats.

    Raises
    ------
    TypeError
        When something in it is of another kind.
    """
    frozen = Frozen()
    frozen.tree = frozen.take(value)
    return frozen


def thaw(data: bytes) -> Any:
    """Return the value that was frozen and packed: equal, of the same classes, in the same order.

    Raises
    ------
    ContractError
        When these are no such bytes.
    """
    try:
        (length,) = _PREFACE.unpack_from(data)
        start = _PREFACE.size + length
        lengths, tree = json.loads(data[_PREFACE.size : start])
        tables = []
        for length in lengths:
            tables.append(partials.unpack(data[start : start + length]))
            start += length
        return _thawed(tree, tables)
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        OSError,
        RecursionError,
        TypeError,
        ValueError,
        struct.error,
        pl.exceptions.PolarsError,
        pl.exceptions.PanicException,
    ) as error:
        raise ContractError("undecodable", f"not a packed state: {type(error).__name__}: {error}") from error


def _thawed(node: Any, tables: list[pl.DataFrame]) -> Any:
    if isinstance(node, list):
        return node if _SCALARS.issuperset(map(type, node)) else [_thawed(one, tables) for one in node]
    if not isinstance(node, dict):
        return node
    ((kind, held),) = node.items()
    match kind:
        case "table":
            return tables[held]
        case "array":
            return np.array(held, dtype=np.float64)
        case "tuple" | "set" | "frozenset":
            return {"tuple": tuple, "set": set, "frozenset": frozenset}[kind](_thawed(held, tables))
        case "dict" | "Counter":
            pairs = dict(zip(*(_thawed(part, tables) for part in held), strict=True))
            return pairs if kind == "dict" else Counter(pairs)
    values = _thawed(held, tables)
    cls = _class(kind)
    if issubclass(cls, tuple):
        return cls(*values)
    made = object.__new__(cls)
    # Past the constructor: it is equal to what it was, not made anew.
    for one, value in zip(fields(cls), values, strict=True):  # type: ignore[arg-type]  # dataclass, by _class
        object.__setattr__(made, one.name, value)
    return made


def _class(name: str) -> type:
    module, _, qualname = name.partition(":")
    cls = getattr(sys.modules.get(module), qualname, None) if module.startswith(_PACKAGES) else None
    if isinstance(cls, type) and (is_dataclass(cls) or (issubclass(cls, tuple) and hasattr(cls, "_fields"))):
        return cls
    raise ValueError(f"{name} is no class of a state")
