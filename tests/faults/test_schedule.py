"""A run is told by its seed alone."""

from collections import Counter

import pytest
from tests.faults.schedule import KINDS, schedule

SESSION_S = 4.0


def test_the_same_seed_draws_the_same_faults_and_another_seed_draws_others() -> None:
    assert schedule(7, 12, 40, SESSION_S) == schedule(7, 12, 40, SESSION_S)
    assert schedule(7, 12, 40, SESSION_S) != schedule(8, 12, 40, SESSION_S)


@pytest.mark.parametrize("seed", range(20))
def test_every_kind_strikes_before_any_strikes_twice_and_all_within_the_span(seed: int) -> None:
    faults = schedule(seed, 2 * len(KINDS), 40, SESSION_S)
    assert Counter(fault.kind for fault in faults) == dict.fromkeys(KINDS, 2)
    assert [fault.at_s for fault in faults] == sorted(fault.at_s for fault in faults)
    assert all(0 <= fault.at_s <= 40 for fault in faults)


def test_eighty_seeds_strike_every_target_and_outlast_every_session() -> None:
    faults = [fault for seed in range(80) for fault in schedule(seed, len(KINDS), 40, SESSION_S)]
    pairs = {(name, target) for name, kind in KINDS.items() for target in kind.targets}
    assert {(fault.kind, fault.target) for fault in faults} == pairs
    assert all(fault.seconds > SESSION_S for fault in faults if fault.kind == "outlast")
