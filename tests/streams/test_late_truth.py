"""What comes late adds to what is known and changes nothing of it, live and in replay alike."""

import copy
import math
from collections import Counter

import numpy as np
import pytest
from benchmarks import late_truth
from hypothesis import given
from hypothesis import strategies as st
from tests.streams.conftest import Journal
from tests.streams.folding import BOUNDED, RULES, SECOND, START, rollout

from tidegate import codec
from tidegate.errors import ContractError
from tidegate.records import DecisionMetric, WindowMetricsBatch
from tidegate_streams import closing, fold, partials
from tidegate_streams.admission import unpack
from tidegate_streams.frozen import freeze, thaw
from tidegate_streams.partials import PANE_US
from tidegate_streams.rollouts.strata import Stratum
from tidegate_streams.statistics import emix
from tidegate_streams.statistics.emix import Counts

METRICS = {"calls": "error_rate", "feedback": "feedback.thumbs", "evaluations": "evaluation.faithful"}
ODDS = {"kind": "rate", "margin_kind": "odds", "rollback_margin": 1.1, "promotion_margin": 2.0}


@st.composite
def scripts(draw, copies=1):
    """Heartbeats, and batches of calls or ratings of the past: in time, late and too late, in any order."""
    script, now = [], 0
    for _ in range(draw(st.integers(4, 12))):
        now += draw(st.integers(1, 15))
        if draw(st.booleans()):
            script.append(("beat", now, []))
        else:
            ago = draw(st.lists(st.sampled_from([0, 0, 4, 11, 25, 50, 65, 90]), min_size=1, max_size=4))
            events = [(now - a, draw(st.sampled_from(["v1", "v2"])), draw(st.booleans())) for a in ago]
            script.append((draw(st.sampled_from(sorted(METRICS))), now, events * copies))
    return [*script, ("beat", now + 20, [])]


def journal(script, **changes):
    made = Journal()
    metrics = [DecisionMetric(name=name, **ODDS) for name in METRICS.values()]
    yield made.beat(START)
    yield made.rollout(codec.encode(rollout(metrics=metrics, **changes)))
    for kind, second, events in script:
        if kind == "beat":
            yield made.beat(START + second * SECOND)
            continue
        calls = [
            made.Call(
                ts_us=START + at * SECOND,
                revision=1,
                status="error" if bad else "ok",
                dimensions={"variant": variant},
            )
            for at, variant, bad in events
        ]
        if kind == "calls":
            yield from made.calls(calls)
        else:
            name = METRICS[kind].partition(".")[2]
            rated = zip(calls, events, strict=True)
            yield made.ratings(kind, [(call, name, not bad) for call, (_, _, bad) in rated])


def looks_due(script):
    """What each look is to see by the watermark at each arrival: end of the pane -> counts."""
    closed_us, panes, late, looks = START, {}, Counter(), []
    for kind, second, events in script:
        for at, variant, bad in events:
            pane_us = (START + at * SECOND) // PANE_US * PANE_US
            is_late = pane_us < closed_us
            if is_late and pane_us + PANE_US + RULES.allowed_lateness_us <= closed_us:
                continue
            counts = late if is_late else panes.setdefault(pane_us, Counter())
            place = (Stratum(1, pane_us, is_late), variant, METRICS[kind])
            counts[*place, "units"] += 1
            counts[*place, "bad"] += bad
        until_us = (START + second * SECOND) // PANE_US * PANE_US
        if kind == "beat" and until_us > closed_us:
            for pane_us in range(closed_us, until_us, PANE_US):
                looks.append((pane_us + PANE_US, panes.pop(pane_us, Counter()) + late))
                late = Counter()
            closed_us = until_us
    return [(end_us, counts) for end_us, counts in looks if counts]


def counted(strata):
    return +Counter(
        {
            (stratum, variant, name, what): n
            for stratum, variants in strata.items()
            for variant, pane in variants.items()
            for name, (units, bad) in (pane.rates | pane.rated).items()
            if name in METRICS.values()
            for what, n in (("units", units), ("bad", bad))
        }
    )


@BOUNDED
@given(scripts())
def test_each_record_is_looked_at_once_with_its_pane_or_when_late_beside_it_and_no_look_ever_changes(script):
    seen, kept = [], []
    on_look = closing.machine.on_look

    def noted(state, pane_end_us, strata, *rest):
        seen.append((pane_end_us, strata))
        kept.append(copy.deepcopy(strata))
        return on_look(state, pane_end_us, strata, *rest)

    state = fold.State(0, RULES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(closing.machine, "on_look", noted)
        for offset, message in enumerate(journal(script, alpha_rollback=1e-9, min_calls=1_000)):
            fold.apply(state, offset, message, windows=False)
    assert [strata for _, strata in seen] == kept
    assert [(end_us, counted(strata)) for end_us, strata in seen if counted(strata)] == looks_due(script)
    in_time = [stratum for _, strata in seen for stratum in strata if not stratum.is_late]
    assert len(in_time) == len(set(in_time))
    (deployment,) = state.rollouts.values()
    at = emix.points(math.log(1.1), math.log(2.0))
    for name in METRICS.values():
        added = sum(
            (
                emix.log_likelihood(compared(variants, name), at)
                for _, strata in seen
                for stratum, variants in strata.items()
                if stratum.pane_us >= START
            ),
            np.zeros(emix.N_POINTS),
        )
        assert np.allclose(deployment.evidence["v2"][name].curves[0], added, atol=1e-9)


def compared(variants, name):
    (n_b, k_b), (n_c, k_c) = (
        variants[one].rates.get(name, (0, 0)) if one in variants else (0, 0) for one in ("v1", "v2")
    )
    return Counts(n_b, n_c, k_b, k_c)


@BOUNDED
@given(scripts(copies=30), st.integers(0, 15))
def test_late_calls_and_ratings_give_the_same_commands_and_evidence_live_in_replay_and_after_a_restart(
    script, killed_after
):
    messages = list(enumerate(journal(script)))

    def decided(state, some, *, windows):
        return [
            record
            for offset, message in some
            for record in fold.apply(state, offset, message, windows=windows)
            if not isinstance(record, WindowMetricsBatch)
        ]

    live = decided(fold.State(0, RULES), messages, windows=True)
    replayed = fold.State(0, RULES)
    begun = decided(replayed, messages[:killed_after], windows=False)
    restarted = thaw(freeze(replayed).pack())
    assert live[0].action == "start"
    assert begun + decided(replayed, messages[killed_after:], windows=False) == live
    assert begun + decided(restarted, messages[killed_after:], windows=True) == live


def test_a_journal_from_when_ratings_were_compared_by_their_own_time_is_read_as_it_was_meant():
    made = Journal()
    call = made.Call(ts_us=START, revision=1)
    batch = made.ratings("feedback", [(call, "thumbs", True)], rated_us=START + 25 * SECOND)
    new = partials.unpack(batch.frames[0].rows)
    batch.frames[0].rows = partials.pack(new.drop("call_us"))
    assert unpack(batch)["feedback"].equals(new.with_columns(call_us="pane_us"))
    assert new["call_us"].to_list() == [START]
    batch.frames[0].rows = partials.pack(new.drop("call_us", "valued"))
    with pytest.raises(ContractError, match="another release"):
        unpack(batch)


@pytest.mark.parametrize(
    "name",
    [
        "30 % of the baseline's records up to 80 s late",
        "90 % of the candidate's, 30 % of the baseline's, moving",
        "bad ones of both later than good ones",
    ],
)
def test_a_healthy_candidate_is_rolled_back_within_alpha_though_one_variant_is_known_later(name):
    runs = 200
    false = late_truth.false_rollbacks(late_truth.WORLDS[name], runs, seed=1, looks=60)
    assert false / runs <= late_truth.ALPHA + 2 * math.sqrt(late_truth.ALPHA / runs)


@pytest.mark.parametrize(
    ("name", "runs"), [("the candidate 10 minutes later", 20), ("the same, of 10 calls a pane", 20)]
)
def test_a_healthy_candidate_is_seldom_rolled_back_for_ratings_that_come_at_other_ages(name, runs):
    world = late_truth.RATED[name]
    assert late_truth.false_rollbacks(world, runs, seed=1, looks=180) <= 1


def test_ratings_compared_by_their_own_time_would_roll_back_what_is_rated_later():
    world = late_truth.RATED["the candidate 10 minutes later"]
    assert late_truth.false_rollbacks(world, 20, seed=1, looks=180, by_own_time=True) > 15


def test_the_simulation_finds_what_a_variant_that_hides_its_bad_records_does():
    world = late_truth.WORLDS["bad ones of the baseline alone later"]
    assert late_truth.false_rollbacks(world, 50, seed=1) > 10


def test_ratings_of_a_variant_that_is_none_of_the_rollouts_keep_no_others_waiting():
    made, state = Journal(), fold.State(0, RULES)
    metrics = [DecisionMetric(name="feedback.thumbs", **ODDS)]
    messages = [made.beat(START), made.rollout(codec.encode(rollout(metrics=metrics)))]
    for second in range(0, 200, 10):
        given = ("v1", "v2", "v9") if second == 100 else ("v1", "v2")
        for variant in given:
            call = made.Call(
                ts_us=START + (0 if variant == "v9" else second * SECOND),
                revision=1,
                dimensions={"variant": variant},
            )
            rated_us = START + second * SECOND
            messages.append(made.ratings("feedback", [(call, "thumbs", True)], rated_us))
        messages.append(made.beat(START + (second + 10) * SECOND))
    for offset, message in enumerate(messages):
        fold.apply(state, offset, message, windows=False)
    (counts,) = state.rollouts["acme/prod/chat"].evidence["v2"]["feedback.thumbs"].counts
    assert counts == Counts(20, 20, 0, 0)
