"""Several candidates beside one baseline: each judged alone, given up alone, one of them promoted."""

import math
import re

import numpy as np
import pytest
from tests.streams.drive import HOUR, START, Drive, rate, rollout

from tidegate.records import Alert, DeploymentCommand, DeploymentStatus, Freeze, Step, Variant
from tidegate_infra.cli import rollout_view
from tidegate_streams.frozen import freeze, thaw
from tidegate_streams.rollouts.admission import doubt
from tidegate_streams.rollouts.explanation import explained, lines
from tidegate_streams.rollouts.past import Past
from tidegate_streams.rollouts.reference import Reference
from tidegate_streams.rollouts.strata import Stratum, VariantPane
from tidegate_streams.rollouts.variants import served_bp
from tidegate_streams.statistics import emix
from tidegate_streams.statistics.emix import Counts

VARIANTS = [
    Variant(name="march", role="baseline", request_model="a"),
    Variant(name="june", role="candidate", request_model="b"),
    Variant(name="july", role="candidate", request_model="c"),
]
GUARDS = [rate(rollback_margin=1.2), rate("abstain_rate", rollback_margin=1.2)]
THREE = {
    "strategy": "ab",
    "variants": VARIANTS,
    "steps": [Step(weight_bp=6_001, min_calls=100)],
    "metrics": GUARDS,
    "max_duration_us": HOUR,
}
LIKE = (0.02, 0.2)


def played(drive, june=LIKE, july=LIKE, panes=400, calls=600):
    """Serve shares of failures and abstentions until the rollout has ended or is held."""
    rates = {"march": LIKE, "june": june, "july": july}
    for _ in range(panes):
        if drive.state.state not in ("initialising", "progressing"):
            break
        made = {}
        for name, bad in rates.items():
            n = calls * drive.weight(name) // 10_000
            counts = {
                metric.name: (n, int(drive.rng.binomial(n, p)))
                for metric, p in zip(drive.state.plan.metrics, bad, strict=True)
            }
            made |= {name: VariantPane(calls=n, rates=counts)} if n else {}
        drive.look({Stratum(drive.state.revision, drive.pane_us, False): made})
        drive.state = thaw(freeze(drive.state).pack())
    return drive


def weights(command):
    return {one.variant: one.weight_bp for one in command.weights}


def test_a_harmful_candidate_is_given_up_its_share_goes_to_the_baseline_and_the_other_goes_on():
    drive = played(Drive(rollout(**THREE)), june=(0.1, 0.2), july=(0.02, 0.17))
    start, drop, promote = drive.of(DeploymentCommand)
    assert [start.action, drop.action, promote.action] == ["start", "drop", "promote"]
    assert weights(start) == {"march": 4_000, "june": 3_000, "july": 3_000}
    assert weights(drop) == {"march": 7_000, "june": 0, "july": 3_000}
    assert weights(promote) == {"march": 0, "june": 0, "july": 10_000}
    assert drop.state == "progressing"
    assert drop.reason.startswith("june is given up, march serves the share, and july goes on: error_rate")
    assert "july is promoted: it is better than march in abstain_rate beyond doubt" in promote.reason
    rows = {(row.candidate, row.metric): row for row in promote.evidence}
    assert rows["june", "error_rate"].verdict == "fail"
    dropped = {(row.candidate, row.metric): row for row in drop.evidence}
    stayed = (rows["june", "error_rate"], dropped["june", "error_rate"])
    assert len({(row.n_candidate, row.n_baseline, row.log_e_rollback) for row in stayed}) == 1


def test_calls_of_a_candidate_that_was_given_up_are_not_compared_any_more():
    drive = Drive(rollout(**THREE, dry_run=True))
    bad = VariantPane(calls=200, rates={"error_rate": (200, 60), "abstain_rate": (200, 40)})
    good = VariantPane(calls=200, rates={"error_rate": (200, 4), "abstain_rate": (200, 40)})
    panes = {"march": good, "june": bad, "july": good}
    while not drive.state.dropped:
        drive.look({Stratum(drive.state.revision, drive.pane_us, False): panes})
    compared = drive.state.totals["june"].calls
    for _ in range(30):
        drive.look({Stratum(drive.state.revision, drive.pane_us, False): panes})
    assert drive.state.dropped == {"june"}
    assert drive.state.totals["june"].calls == compared < drive.state.totals["july"].calls


def test_traffic_goes_back_when_the_last_candidate_is_harmful_too():
    drive = played(Drive(rollout(**THREE)), june=(0.5, 0.2), july=(0.08, 0.2))
    assert drive.actions == ["start", "drop", "rollback"]
    assert weights(drive.command) == {"march": 10_000, "june": 0, "july": 0}
    assert len(drive.state.failed) == 2


def test_candidates_that_are_all_harmful_at_one_look_are_rolled_back_together():
    drive = played(Drive(rollout(**THREE)), june=(0.9, 0.2), july=(0.9, 0.2))
    assert drive.actions == ["start", "rollback"]
    assert drive.command.reason.startswith("june and july are rolled back to march: (june) error_rate")


def test_candidates_that_are_alike_end_inconclusive_and_each_is_spoken_of():
    drive = played(Drive(rollout(**THREE | {"max_duration_us": HOUR // 3})))
    assert drive.actions == ["start", "hold"]
    assert "With june: " in drive.command.reason
    assert "With july: " in drive.command.reason


def test_of_two_that_are_better_the_one_that_is_better_by_more_wins():
    drive = played(Drive(rollout(**THREE)), june=(0.02, 0.1), july=(0.02, 0.02))
    assert drive.actions == ["start", "promote"]
    assert weights(drive.command)["july"] == 10_000
    assert drive.state.failed == {}


def test_each_candidate_has_an_even_part_of_the_errors():
    drive = played(Drive(rollout(**THREE)), panes=9)
    assert {row.alpha_rollback for row in drive.progress.evidence} == {0.005}
    assert {row.alpha_promotion for row in drive.progress.evidence} == {0.025}
    assert "its e_rollback reaches 200" in "\n".join(lines(drive.state.plan, drive.progress))


@pytest.mark.long
@pytest.mark.parametrize(("margin", "at_margin"), [("rollback", 1.1), ("promotion", 2.0)])
def test_of_three_candidates_at_a_margin_any_is_judged_wrongly_within_alpha(margin, at_margin):
    """Of 400 rollouts with 300 looks: 15 that give one up, 11 that exclude the harm of one; 5 % are 20."""
    runs, looks, alpha, usual = 400, 300, 0.05, 0.05
    rng = np.random.default_rng(7 if margin == "rollback" else 8)
    log_e = emix.log_e_rollback if margin == "rollback" else emix.log_e_promotion
    points = emix.points(math.log(1.1), math.log(2.0))
    odds = at_margin * usual / (1 - usual)
    wrong = 0
    for _ in range(runs):
        bad = rng.binomial(40, usual, looks)
        worse = rng.binomial(20, odds / (1 + odds), (3, looks))
        curves = np.zeros((3, emix.N_POINTS))
        for look in range(looks):
            for new in range(3):
                counts = Counts(40, 20, int(bad[look]), int(worse[new, look]))
                curves[new] += emix.log_likelihood(counts, points)
            if max(log_e(curve) for curve in curves) >= math.log(3 / alpha):
                wrong += 1
                break
    assert wrong <= alpha * runs + 3 * math.sqrt(alpha * runs)


@pytest.mark.parametrize("seed", range(3))
def test_no_candidate_of_many_is_given_up_or_promoted_when_all_are_alike(seed):
    names = [f"v{i}" for i in range(4)]
    variants = [VARIANTS[0], *(Variant(name=n, role="candidate", request_model=n) for n in names)]
    drive = Drive(rollout(**THREE | {"variants": variants, "metrics": [rate()]}))
    rng = np.random.default_rng(seed)
    for _ in range(60):
        made = {
            one.name: VariantPane(calls=200, rates={"error_rate": (200, int(rng.binomial(200, 0.05)))})
            for one in variants
        }
        drive.look({Stratum(drive.state.revision, drive.pane_us, False): made})
    assert drive.actions == ["start"]
    assert weights(drive.command) == {"march": 4_000} | dict.fromkeys(names, 1_500)


def test_the_sample_ratio_is_checked_over_all_variants_and_the_one_that_loses_users_is_named():
    from tests.streams.test_rollout_split import sketch

    drive = Drive(rollout(**THREE))
    rng = np.random.default_rng(5)
    for pane in range(60):
        users = np.arange(300 * pane, 300 * (pane + 1))
        got = rng.choice(["march", "june", "july", "lost"], 300, p=[0.4, 0.3, 0.2, 0.1])
        made = {name: users[got == name] for name in ("march", "june", "july")}
        panes = {
            name: VariantPane(calls=len(some), users=sketch(some), rates={"error_rate": (len(some), 1)})
            for name, some in made.items()
        }
        drive.look({Stratum(drive.state.revision, drive.pane_us, False): panes})
    assert drive.actions == ["start", "hold"]
    assert drive.state.held_for == "split"
    assert "fell to june, where the shares ask for" in drive.command.reason
    assert "fell to july, where the shares ask for" in drive.command.reason


def test_a_given_up_candidate_is_asked_to_serve_nobody_and_the_shares_stay_whole():
    spec = rollout(**THREE)
    assert served_bp(spec, 0) == {"march": 4_000, "june": 3_000, "july": 3_000}
    assert served_bp(spec, 0, frozenset({"june"})) == {"march": 7_000, "june": 0, "july": 3_000}


def test_a_person_promotes_one_by_name_and_must_say_which():
    drive = played(Drive(rollout(**THREE)), panes=6)
    (unsaid,) = drive.act("promote")
    assert unsaid.detail == "2 candidates are tried: say which to promote, june or july"
    (unknown,) = drive.act("promote", target="jule")
    assert "'jule' is no candidate that is tried: promote june or july" in unknown.detail
    drive.act("promote", target="july")
    assert weights(drive.command) == {"march": 0, "june": 0, "july": 10_000}
    assert drive.command.reason == "july promoted to all traffic by grace: I say so"


def test_a_person_gives_up_one_by_name_and_then_the_other():
    drive = played(Drive(rollout(**THREE)), panes=6)
    drive.act("rollback", target="june")
    assert (drive.command.action, drive.command.state) == ("drop", "progressing")
    assert drive.command.reason == "june rolled back to march by grace: I say so"
    drive.act("rollback", target="july")
    assert (drive.command.action, drive.command.state) == ("rollback", "rolling_back")
    assert weights(drive.command)["march"] == 10_000
    firing = [alert for alert in drive.of(Alert) if alert.status == "firing"]
    assert [alert.rule for alert in firing] == ["rollout_rolled_back"]


def test_a_hold_stays_a_hold_when_a_candidate_is_given_up_in_it():
    drive = played(Drive(rollout(**THREE)), panes=6)
    drive.act("pause")
    for _ in range(30):
        made = {
            name: VariantPane(calls=200, rates={"error_rate": (200, bad), "abstain_rate": (200, 40)})
            for name, bad in (("march", 4), ("june", 100), ("july", 4))
        }
        drive.look({Stratum(2, drive.pane_us, False): made})
    assert drive.actions == ["start", "pause", "drop"]
    assert (drive.state.state, drive.state.held_for, drive.progress.paused) == ("holding", "person", True)


def test_a_share_does_not_go_back_silently_to_a_baseline_that_is_worse_than_the_others():
    drive = played(
        Drive(rollout(**THREE | {"steps": [Step(weight_bp=6_000, min_calls=10**6)]})),
        july=(0.02, 0.05),
        panes=30,
    )
    drive.act("rollback", target="june")
    assert drive.command.action == "drop"
    assert drive.command.reason.endswith("Mind that march is worse than july in abstain_rate.")


def test_a_promoted_candidate_is_the_only_one_that_a_later_rollback_speaks_of():
    drive = played(Drive(rollout(**THREE)), june=(0.02, 0.02))
    drive.act("rollback")
    assert drive.command.reason.startswith("june rolled back to march by grace: I say so. Mind that march")
    assert list(drive.state.failed.values()) == ["june-snapshot (generation 1)"]


def test_what_is_left_of_a_journal_tells_who_was_given_up_and_who_won():
    drive = played(Drive(rollout(**THREE)), june=(0.3, 0.2), july=(0.02, 0.1))
    start, drop, promote = drive.of(DeploymentCommand)
    assert (Past({1: start}).dropped, Past({1: start}).winner) == (frozenset(), "")
    assert Past({2: drop}).dropped == {"june"}
    assert Past({3: promote}).winner == "july"


def test_the_explanation_lists_what_each_candidate_still_needs():
    drive = played(Drive(rollout(**THREE)), june=(0.3, 0.2), panes=30)
    assert drive.actions == ["start", "drop"]
    view = explained(drive.state.plan, drive.progress)
    assert {one["candidate"] for one in view["to_promote"]} == {"july"}
    table = next(line for line in rollout_view.lines(view) if line.startswith("CANDIDATE"))
    assert table.split()[:3] == ["CANDIDATE", "METRIC", "VERDICT"]
    said = "\n".join(lines(drive.state.plan, drive.progress))
    assert "To promote july" in said
    assert "To promote june" not in said


def test_command_alert_and_explanation_say_the_same_of_every_candidate():
    drive = played(Drive(rollout(**THREE)), june=(0.5, 0.2), july=(0.08, 0.2))
    told = [row.sentence for row in drive.command.evidence]
    (fired,) = drive.of(Alert)
    words = {pair.key: pair.value for pair in fired.annotations}
    assert words == {"summary": drive.command.reason, "description": "\n".join(told)}
    assert [row.sentence for row in drive.progress.evidence] == told
    said = lines(drive.state.plan, drive.progress)
    assert [line.strip() for line in said if line.strip() in told] == told
    assert f"state       rolling_back: {drive.command.reason}" in said


def test_whether_several_can_decide_is_asked_of_each_at_its_share():
    past = VariantPane(calls=60_000, rates={"error_rate": (60_000, 1_200), "abstain_rate": (60_000, 12_000)})
    usual = Reference({(START - HOUR) // 600_000_000: {"march": past}})
    needed = []
    for variants in (VARIANTS[:2], VARIANTS):
        plan = THREE | {"metrics": [rate()], "variants": variants}
        assert doubt(rollout(**plan), usual, START) is None
        told = doubt(rollout(**plan | {"max_duration_us": HOUR // 30}), usual, START)
        needed.append(int(re.search(r"error_rate needs about ([\d,]+) calls", told)[1].replace(",", "")))
    # Of the calls 70 % are of the pair that is compared, which are as many at a stricter alpha, or more.
    assert 1 / 0.7 < needed[1] / needed[0] < 3


@pytest.mark.parametrize("strategy", ["canary", "rolling", "blue_green", "shadow"])
def test_what_rises_switches_or_copies_takes_one_candidate_and_says_so(strategy):
    share = {"weight_bp": 0, "mirror_bp": 5_000} if strategy == "shadow" else {"weight_bp": 5_000}
    changes = THREE | {"strategy": strategy, "steps": [Step(**share)]}
    (refused,) = Drive(rollout(**changes)).of(DeploymentStatus)
    assert f"{strategy} brings in one candidate, here are 2: use ab" in refused.detail


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"on_inconclusive": "promote"}, "an inconclusive end cannot promote one of 2 candidates"),
        ({"steps": [Step(weight_bp=1)]}, "which 2 candidates cannot share"),
        (
            {"variants": [*VARIANTS[:2], Variant(name="july", role="candidate", request_model="b")]},
            "same thing",
        ),
        ({"variants": [*VARIANTS, Variant(name="may", role="baseline", request_model="d")]}, "one baseline"),
    ],
)
def test_several_candidates_that_cannot_be_told_apart_or_ended_are_refused(changes, problem):
    (refused,) = Drive(rollout(**THREE | changes)).of(DeploymentStatus)
    assert problem in refused.detail


def test_a_freeze_keeps_a_harmful_candidate_from_nothing():
    frozen = [Freeze(starts_at=START + 60_000_000, ends_at=START + 2 * HOUR)]
    drive = played(Drive(rollout(**THREE, freezes=frozen)), june=(0.3, 0.2), july=(0.02, 0.02), panes=60)
    assert drive.actions == ["start", "drop"]
