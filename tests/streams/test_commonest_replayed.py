"""Names that a bug makes up, late ones too: a replay keeps the same of them as the run before it did."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.streams.folding import BOUNDED, LATENESS, MINUTE, RULES, START
from tests.streams.test_commonest import MOST_NAMES, rated

from tidegate_streams import closing, commonest, panes, partials, rollups
from tidegate_streams.partials import PANE_US
from tidegate_streams.state import State

CAP = 2
PANES_A_CLOSE = st.sampled_from([1, 3, 7])
"""A minute ends at some of the closes, at others two do."""


def arriving(counts, pane_us):
    """Ratings of one series in one pane, not rolled up yet."""
    rows = rated("feedback", counts)["feedback"].with_columns(pane_us=pl.lit(pane_us), shard=pl.lit("x"))
    stratum = {"comparable": True, "assignment_revision": None, "aa": None, "call_us": pane_us}
    schema = partials.SCHEMAS["feedback"]
    rows = rows.with_columns(pl.lit(value, dtype=schema[name]).alias(name) for name, value in stratum.items())
    return panes.EMPTY | {"feedback": rows.select(list(schema))}


def kept(journal, cut):
    """What windows are formed of after each close, when those before `cut` were published already."""
    state = State(0, RULES, closed_us=START)
    for offset, (arrived, until_us) in enumerate(journal):
        state.arrived = [arriving(names, pane_us) for names, pane_us in arrived]
        closing.close(state, offset, until_us, windows=offset >= cut)
        if offset >= cut:
            yield [rollups.merge(table)["feedback"].rows() for table in state.history.tables.values()]


@st.composite
def journals(draw):
    """What arrives between closes: of the newest pane, and of one that closed within the allowed lateness."""
    names = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 9), min_size=CAP)
    closes, now_us = [], START
    for _ in range(draw(st.integers(4, 7))):
        until_us = now_us + draw(PANES_A_CLOSE) * PANE_US
        late_us = now_us - draw(st.integers(1, LATENESS // PANE_US - 1)) * PANE_US
        arrived = [(draw(names), until_us - PANE_US)]
        if draw(st.booleans()):
            arrived.append((draw(names), late_us))
        closes.append((arrived, until_us))
        now_us = until_us
    return closes


@BOUNDED
@given(journal=journals(), data=st.data())
def test_a_replay_keeps_the_names_that_were_kept_live(journal, data):
    cut = data.draw(st.integers(2, len(journal) - 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commonest, "MOST_NAMES", CAP)
        patch.setattr(closing, "PUT_OFF_ROWS", data.draw(st.sampled_from([0, 8, 10_000])))
        live = list(kept(journal, 0))
        assert list(kept(journal, cut)) == live[cut:]


def test_a_rare_name_that_is_rated_late_counts_in_a_replay_as_it_did_live():
    names = {f"n{n:03}": 2 for n in range(MOST_NAMES + 100)}
    journal = [
        ([(names, START)], START + MINUTE),
        ([({"n299": 5}, START)], START + MINUTE + PANE_US),
        ([], START + MINUTE + 2 * PANE_US),
    ]
    assert list(kept(journal, 2)) == list(kept(journal, 0))[2:]
