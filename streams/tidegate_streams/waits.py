"""When the ratings of calls are compared: with those of calls of the same time, at fixed ages of these.

A rating is compared in the block of calls that its call ended in. Each block is looked at when it has certain
ages, with the ratings that came since the one before; so whatever decides when a rating comes, if it does so
alike in both variants, like is compared with like. Blocks are longer where ratings come late: these are few,
and a stratum in which a single rating stands says nothing.
"""

from typing import NamedTuple

import polars as pl

from tidegate_streams.partials import PANE_US

_MINUTE_US = 60_000_000


class Wait(NamedTuple):
    """One of the ages at which the ratings of calls are compared.

    Parameters
    ----------
    block_us
        Length of the blocks of calls; each is a multiple of the one before.
    age_us
        How long after a block's end.
    """

    block_us: int
    age_us: int

    def block_of(self, call_us: int) -> int:
        """Return the start of the block in which a call ended."""
        return call_us // self.block_us * self.block_us

    def due_us(self, call_us: int) -> int:
        """Return when the ratings of a call's block are compared, in microseconds since the epoch."""
        return self.block_of(call_us) + self.block_us + self.age_us


WAITS = (
    Wait(PANE_US, 0),
    Wait(PANE_US, 2 * PANE_US),
    *(Wait(_MINUTE_US, minutes * _MINUTE_US) for minutes in (1, 3, 10, 30)),
    *(Wait(10 * _MINUTE_US, minutes * _MINUTE_US) for minutes in (100, 300, 1_000, 3_000)),
)
"""Ages to three days of each other by about a factor of three: a rating waits at most so much longer than its
call is old. Ratings of calls over about two days old decide nothing."""


def call_time(call_us: pl.Expr, rated_us: pl.Expr) -> pl.Expr:
    """Return when rated calls ended, no more exactly than the waits ask that are left to their ratings.

    Parameters
    ----------
    call_us, rated_us
        When the call ended and when it was rated, in microseconds since the epoch, the call not later.

    Returns
    -------
    polars.Expr
        Start of a pane or block, named ``call_us``; null for calls that are too old for any wait.
    """
    first_look_us = rated_us // PANE_US * PANE_US + PANE_US
    blocks = [call_us // wait.block_us * wait.block_us for wait in WAITS]
    return pl.coalesce(
        pl.when(first_look_us <= block_us + wait.block_us + wait.age_us).then(block_us)
        for wait, block_us in zip(WAITS, blocks, strict=True)
    ).alias("call_us")


def wait_of(call_us: int, look_us: int) -> int | None:
    """Return which of `WAITS` a rating falls to that is first looked at at some time; None if it is too old.

    Parameters
    ----------
    call_us
        When its call ended, or a block of calls that it is known to fall to.
    look_us
        End of the pane that is looked at, both in microseconds since the epoch.
    """
    for number, (block_us, age_us) in enumerate(WAITS):
        if look_us <= call_us // block_us * block_us + block_us + age_us:
            return number
    return None
