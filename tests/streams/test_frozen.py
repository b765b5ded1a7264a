"""A state becomes bytes and comes back equal, whatever it holds, and nothing else comes back with it."""

import json
from collections import Counter
from contextlib import suppress
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.errors import ContractError
from tidegate.records import RolloutAction
from tidegate_streams import frozen, rollups
from tidegate_streams.frozen import freeze, thaw
from tidegate_streams.ranges import Ranges
from tidegate_streams.rollouts.state import Counting
from tidegate_streams.statistics.emix import Counts

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
keys = st.integers() | st.text() | st.tuples(st.integers(), st.text())
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(keys, inner)
        | st.frozensets(st.integers())
        | st.sets(st.text())
        | st.builds(Counting, st.integers(), inner)
        | st.builds(Counts, st.integers(10, 20), st.integers(10, 20), st.integers(0, 10), st.integers(0, 10))
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(values)
def test_what_is_thawed_is_equal_and_of_the_same_kinds(value: Any) -> None:
    again = thaw(freeze(value).pack())
    assert again == value
    assert freeze(again).pack() == freeze(value).pack()


def test_tables_arrays_and_counters_come_back_and_what_is_shared_is_kept_once() -> None:
    table = pl.DataFrame({"a": [1, None], "b": [[{"n": 1}], []]})
    counts = Counter(a=np.int64(2))
    held = freeze({"one": [table, table], "array": np.array([[0.1, np.inf]]), "counts": counts})
    assert len(held.tables) == 1
    again = thaw(held.pack())
    assert again["one"][1].equals(table)
    assert again["one"][1].schema == table.schema
    assert again["array"].tolist() == [[0.1, np.inf]]
    assert again["counts"] == counts
    assert type(again["counts"]) is Counter


def test_what_changes_after_the_freezing_is_not_in_it() -> None:
    ranges: Ranges[str] = Ranges(seen={("a", 0): 1})
    held = freeze(ranges)
    ranges.seen["a", 0] = 2
    assert thaw(held.pack()) == Ranges(seen={("a", 0): 1})


def test_equal_values_are_equal_bytes() -> None:
    assert freeze(rollups.EMPTY).pack() == freeze(dict(rollups.EMPTY)).pack()


@pytest.mark.parametrize("value", [object(), b"bytes", {"a": lambda: None}, print])
def test_what_cannot_be_kept_is_said_at_once(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot be kept in a snapshot"):
        freeze(value)


@pytest.mark.parametrize(
    "name",
    ["os:system", "subprocess:Popen", "builtins:eval", "tidegate_streams.frozen:thaw", "nobody:Nothing"],
)
def test_only_plain_classes_of_this_package_are_made_from_bytes(name: str) -> None:
    tree = json.dumps([[], {name: ["ls"]}]).encode()
    with pytest.raises(ContractError, match="is no class of a state"):
        thaw(frozen._PREFACE.pack(len(tree)) + tree)


def test_bytes_that_are_nested_without_end_are_refused() -> None:
    tree = b"[[]," + b"[" * 200_000 + b"]" * 200_000 + b"]"
    with pytest.raises(ContractError, match="RecursionError"):
        thaw(len(tree).to_bytes(8, "big") + tree)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_damaged_bytes_are_refused_or_read_as_a_value_but_break_nothing(data: st.DataObject) -> None:
    action = RolloutAction(action_id="a", key="k", generation=1, action="x", actor="", reason="", ts=1)
    packed = bytearray(freeze([action, pl.DataFrame({"a": [1]})]).pack())
    place = data.draw(st.integers(0, len(packed) - 1))
    packed[place] ^= data.draw(st.integers(1, 255))
    with suppress(ContractError):
        thaw(bytes(packed[: data.draw(st.integers(0, len(packed)))]))
