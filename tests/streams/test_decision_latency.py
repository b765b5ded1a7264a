"""The benchmark of latency: when a call is counted, whatever windows say it."""

from benchmarks.decision_latency import Heard, early

SERIES = ("acme", "bot", "old")
T0 = 1_760_000_000_000_000


def test_a_call_waits_until_the_first_window_that_counts_it_and_only_once() -> None:
    ends = {SERIES: [T0 + second * 1_000_000 for second in (1, 2, 15, 16)]}
    at = T0 / 1e6
    heard = Heard(
        counted=[
            (at + 2.5, SERIES, T0, 1),
            (at + 3.5, SERIES, T0, 2),
            # A window behind them, of which one call is known, and the first again.
            (at + 18, SERIES, T0 + 10_000_000, 1),
            (at + 18, SERIES, T0, 2),
            (at + 20, SERIES, T0 + 10_000_000, 2),
        ]
    )
    assert early(heard, ends).to_list() == [1.5, 1.5, 3.0, 4.0]
