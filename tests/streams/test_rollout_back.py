"""Traffic goes back to a variant that is not well itself, and not silently."""

import pytest
from tests.streams.drive import Drive, rate, rollout

from tidegate.records import Alert, Variant
from tidegate_streams.frozen import freeze, thaw
from tidegate_streams.rollouts.strata import Stratum, VariantPane

MARCH, JUNE = (
    Variant(name="march", role="baseline"),
    Variant(name="june", role="candidate", request_model="b"),
)
SWAPPED = [Variant(name="june", role="baseline", request_model="b"), Variant(name="march", role="candidate")]


def summary(drive):
    firing = [alert for alert in drive.of(Alert) if alert.status == "firing"]
    return next(pair.value for pair in firing[-1].annotations if pair.key == "summary")


def failed_june():
    drive = Drive(rollout(variants=[MARCH, JUNE])).serve_until("rolled_back", worse=30)
    assert "Mind" not in drive.command.reason
    return drive


@pytest.mark.parametrize("how", ["rollback", "abort"])
def test_a_variant_that_was_rolled_back_before_is_not_gone_back_to_silently(how):
    drive = failed_june()
    drive.state = thaw(freeze(drive.state).pack())
    drive.spec(rollout(generation=2, name="march-again", variants=SWAPPED))
    drive.act(how, generation=2)
    assert drive.command.action == how
    warning = "Mind that june was itself rolled back in june-snapshot (generation 1)."
    assert drive.command.reason.endswith(warning)
    if how == "rollback":
        assert warning in summary(drive)


def test_another_definition_of_the_same_name_is_another_variant():
    drive = failed_june()
    mended = [Variant(name="june", role="baseline", request_model="c"), SWAPPED[1]]
    drive.spec(rollout(generation=2, variants=mended))
    drive.act("rollback", generation=2)
    assert "Mind" not in drive.command.reason


def test_a_variant_that_was_promoted_since_is_well_again():
    drive = failed_june()
    drive.spec(rollout(generation=2, variants=[MARCH, JUNE]))
    drive.act("promote", generation=2)
    drive.spec(rollout(generation=3, name="march-again", variants=SWAPPED))
    drive.act("rollback", generation=3)
    assert "Mind" not in drive.command.reason


def test_a_baseline_in_an_outage_or_worse_in_something_is_named():
    drive = Drive(rollout(metrics=[rate(), rate("abstain_rate")])).serve(4)
    arms = {
        "march": {"error_rate": (300, 300), "abstain_rate": (300, 150)},
        "june": {"error_rate": (300, 300), "abstain_rate": (300, 0)},
    }
    for _ in range(20):
        panes = {name: VariantPane(calls=300, rates=rates) for name, rates in arms.items()}
        drive.look({Stratum(drive.state.revision, drive.pane_us, False): panes})
    drive.act("rollback")
    assert drive.command.reason.endswith(
        "I say so. Mind that march has had nothing good in error_rate for its last 4,200 calls and is worse "
        "than june in abstain_rate."
    )
