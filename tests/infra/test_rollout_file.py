import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.errors import ConfigError, Refused
from tidegate.limits import LARGEST_CONTROL_BYTES, MOST_METRICS
from tidegate.metrics import CATALOGUE, LEVELS
from tidegate.records import Step
from tidegate_infra import rollout_file, rollout_log
from tidegate_infra.rollout_file import FileError, load, quantities
from tidegate_infra.rollout_log import Present
from tidegate_infra.settings import Settings
from tidegate_streams.rollouts.soundness import objection

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "docs/examples").glob("*.yaml"))
PAGE = (ROOT / "docs/rollout-file.md").read_text()

GOOD = """\
apiVersion: tidegate/v1
kind: Rollout
metadata:
  name: june-snapshot
  tenant: acme
  environment: prod
  deployment: answers
variants:
  march:
    role: baseline
    model: gpt-4-0314
  june:
    role: candidate
    model: gpt-4-0613
steps:
  - weight: 5%
  - weight: 25%
    minCalls: 500
metrics:
  - error_rate
  - name: latency_us
    rollbackMargin: +5%
    promotionMargin: +20%
"""


def problems(text):
    with pytest.raises(FileError) as caught:
        load(text, "r.yaml")
    assert isinstance(caught.value, ConfigError)
    return caught.value.problems


def changed(old, new):
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


def test_a_short_file_gets_its_defaults():
    spec = load(GOOD, "r.yaml")
    assert (spec.name, spec.tenant, spec.environment, spec.deployment) == (
        "june-snapshot",
        "acme",
        "prod",
        "answers",
    )
    assert (spec.strategy, spec.assignment_unit, spec.salt) == ("canary", "user", "june-snapshot")
    assert spec.steps == [Step(weight_bp=500, min_calls=100), Step(weight_bp=2_500, min_calls=500)]
    errors, latency = spec.metrics
    known = CATALOGUE["error_rate"]
    assert (errors.margin_kind, errors.rollback_margin, errors.promotion_margin) == (
        known.margin_kind,
        known.rollback_margin,
        known.promotion_margin,
    )
    assert latency.quantiles == list(LEVELS)
    assert (latency.margin_kind, latency.rollback_margin, latency.promotion_margin) == ("relative", 0.05, 0.2)
    assert (spec.alpha_rollback, spec.alpha_promotion, spec.on_inconclusive) == (0.01, 0.05, "hold")
    assert spec.max_duration_us == 24 * 3_600_000_000
    assert (spec.generation, spec.ts, spec.actor, spec.source_yaml) == (0, 0, "", GOOD)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_fine(path):
    spec = rollout_file.read(path)
    assert spec.metrics
    assert objection(spec) is None


def test_a_path_and_its_text_are_the_same_rollout():
    path = EXAMPLES[0]
    assert load(path) == load(path.read_text(), "another name") == rollout_file.read(path)


def test_the_hash_follows_the_plan_and_not_its_comments():
    spec = load(GOOD, "r.yaml")
    assert load(f"# a comment\n{GOOD}", "r.yaml").spec_hash == spec.spec_hash
    assert load(changed("25%", "30%"), "r.yaml").spec_hash != spec.spec_hash


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "path", "message"),
    [
        ("tidegate/v1", "tidegate/v2", 1, 13, "apiVersion", "is not known here: write tidegate/v1"),
        ("kind: Rollout", "kind: Rolout", 2, 7, "kind", "'Rolout' is not known here"),
        ("tenant: acme", "tenant: a/b", 5, 11, "metadata.tenant", "'a/b' is no name"),
        ("  environment: prod\n", "", 4, 3, "metadata", "environment is missing: add `environment: prod`"),
        ("  tenant: acme", "  tenant: acme\n  tennant: x", 6, 3, "metadata.tennant", "did you mean tenant?"),
        ("kind: Rollout", "kind: Rollout\nfilter: []", 3, 1, "filter", "did you mean filters?"),
        ("role: baseline", "role: candidate", 9, 3, "variants", "no variant is the baseline"),
        ("role: baseline", "role: base", 10, 11, "variants.march.role", "use one of baseline, candidate"),
        ("gpt-4-0613", "gpt-4-0314", 12, 3, "variants.june", "a rollout onto itself decides nothing"),
        ("weight: 25%", "weight: 5%", 17, 13, "steps[1].weight", "5% does not increase on 5%"),
        ("weight: 25%", "weight: 0.25", 17, 13, "steps[1].weight", "write it in percent, such as 10%"),
        ("weight: 25%", "weight: 100%", 17, 13, "steps[1].weight", "above 0% and below 100%"),
        ("weight: 25%", "weight: 5.001%", 17, 13, "steps[1].weight", "in steps of 0.01%"),
        ("minCalls: 500", "minCalls: -5", 18, 15, "steps[1].minCalls", "'-5' is no count"),
        ("minCalls: 500", "minCals: 500", 18, 5, "steps[1].minCals", "did you mean minCalls?"),
        ("minCalls: 500", "warmUp: soon", 18, 13, "steps[1].warmUp", "'soon' is no duration"),
        ("minCalls: 500", "maxDuration: 0s", 18, 18, "steps[1].maxDuration", "leaves no time"),
        ("minCalls: 500", "approval: yes", 18, 15, "steps[1].approval", "neither true nor false"),
        ("minCalls: 500", "minCalls: 5\n    minCalls: 6", 19, 5, "steps[1].minCalls", "first in line 18"),
        ("error_rate", "eror_rate", 20, 5, "metrics[0]", "did you mean error_rate?"),
        ("error_rate", "feedback.", 20, 5, "metrics[0]", "did you mean feedback.NAME?"),
        ("error_rate", "latency_us", 21, 5, "metrics[1]", "latency_us is listed twice"),
        ("+5%", "-5%", 22, 21, "metrics[1].rollbackMargin", "'-5%' has the wrong sign"),
        ("+5%", "5", 22, 21, "metrics[1].rollbackMargin", "write it as +5%, 200ms or 1.10 odds"),
        ("+5%", "2 points", 22, 21, "metrics[1].rollbackMargin", "no unit that latency_us is measured in"),
        ("+5%", "200ms", 23, 22, "metrics[1].promotionMargin", "both margins must be of one kind"),
        ("+20%", "+2%", 23, 22, "metrics[1].promotionMargin", "tighter than the rollback margin"),
        ("- error_rate", "- {name: error_rate, rollbackMargin: 0.9 odds}", 20, 40,
         "metrics[0].rollbackMargin", "odds margins are at least 1"),
        ("- error_rate", "- {name: error_rate, rollbackMargin: 1.5 odds}", 20, 5, "metrics[0]",
         "promotionMargin is missing"),
        ("- error_rate", "- {name: error_rate, quantiles: [p50]}", 20, 24, "metrics[0].quantiles",
         "unknown key 'quantiles'"),
        ("rollbackMargin: +5%", "quantiles: [p50, p101]", 22, 22, "metrics[1].quantiles[1]", "no quantile"),
        ("rollbackMargin: +5%", "quantiles: [p101]", 22, 17, "metrics[1].quantiles[0]", "no quantile"),
        ("rollbackMargin: +5%", "quantiles: []", 22, 16, "metrics[1].quantiles", "no quantile: write a list"),
        ("- error_rate", "- {name: error_rate, rollbackMargin: 3 points}", 20, 40,
         "metrics[0].rollbackMargin", "margin (2 points) is tighter than the rollback margin (3 points)"),
        ("rollbackMargin: +5%", "weight: 0", 22, 13, "metrics[1].weight", "write a positive number"),
        ("kind: Rollout", "kind: Rollout\nalpha: {rollback: 0.5}", 3, 19, "alpha.rollback", "below 0.5"),
        ("kind: Rollout", "kind: Rollout\nalpha: {promotion: 0}", 3, 20, "alpha.promotion", "above 0"),
        ("kind: Rollout", "kind: Rollout\nmaxDuration: 3 weeks", 3, 14, "maxDuration", "30s, 10m, 1h30m"),
        ("kind: Rollout", "kind: Rollout\nstrategy: big_bang", 3, 11, "strategy", "use one of canary"),
        ("minCalls: 500", "minDuration: 9m\n    maxDuration: 9m", 19, 18,
         "steps[1].maxDuration", "the step must last longer than this"),
        ("minCalls: 500", "minDuration: 24h", 15, 1, "steps", "last at least 1440 minutes"),
        ("minCalls: 500", "minDuration: 2h\nmaxDuration: 2h", 19, 14, "maxDuration", "leaves no time"),
        ("kind: Rollout", "kind: Rollout\nfreezes: [{from: 2026-12-24, to: 2026-12-27T00:00Z}]", 3, 18,
         "freezes[0].from", "must say its time zone"),
        ("kind: Rollout", "kind: Rollout\nfreezes: [{from: 2026-12-24T08:00Z, to: soon}]", 3, 41,
         "freezes[0].to", "'soon' is no time"),
        ("kind: Rollout", "kind: Rollout\nfreezes: [{from: 2026-12-24T08:00Z, to: 2026-12-24 07:00 UTC}]", 3,
         11, "freezes[0]", "it ends before it begins"),
        ("gpt-4-0613", f"{'ö' * 129}", 14, 12, "variants.june.model", "has 258 bytes: events have names of"),
        ("gpt-4-0613", "''", 14, 12, "variants.june.model", "is empty"),
        ("error_rate", f"feedback.{'x' * 257}", 20, 5, "metrics[0]", "has 257 bytes"),
        ("kind: Rollout", "kind: !!python/name:os.system Rollout", 2, 7, "kind", "plain values only"),
        ("kind: Rollout", "kind: [Rollout]", 2, 7, "kind", "a single value is needed"),
        ("  - weight: 5%\n  - weight: 25%\n    minCalls: 500\n", "  5%\n", 16, 3, "steps", "list is needed"),
        ("  - weight: 5%\n  - weight: 25%\n    minCalls: 500\n", "  []\n", 16, 3, "steps", "no step"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_where_it_stands(old, new, line, column, path, message):
    (problem,) = problems(changed(old, new))
    assert (problem.line, problem.column, problem.path) == (line, column, path)
    assert message in problem.message
    assert str(problem).startswith(f"r.yaml:{line}:{column}: {path}: ")


def test_all_mistakes_come_at_once_in_the_order_of_the_file():
    text = GOOD.replace("acme", "a/b").replace("25%", "1%").replace("+20%", "+2%")
    found = problems(text)
    assert [problem.path for problem in found] == [
        "metadata.tenant",
        "steps[1].weight",
        "metrics[1].promotionMargin",
    ]
    with pytest.raises(FileError) as caught:
        load(text, "r.yaml")
    assert str(caught.value).splitlines() == [str(problem) for problem in found]


def test_an_empty_mapping_names_all_that_is_missing():
    named = " ".join(problem.message for problem in problems("{}"))
    for key in ("apiVersion", "kind", "metadata", "variants", "steps", "metrics"):
        assert f"{key} is missing" in named


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "empty"),
        ("kind: [1,\n", 2, "no YAML"),
        ("kind: 'x\n", 2, "no YAML"),
        ("kind: \0", 1, "no YAML"),
        (b"kind: \xff\xfe", 1, "not UTF-8 at byte 6"),
        (f"{GOOD}---\n{GOOD}", 24, "a second document"),
        ("a: &a [x, x]\nb: [*a, *a]\n", 2, "alias *a"),
        ("[" * 100_000, 1, "nested over 20 levels"),
        ("x" * 1_000_001, 1, "over 1,000,000 bytes"),
    ],
)
def test_what_is_no_plain_document_is_refused_before_anything_is_expanded(text, line, message):
    (problem,) = problems(text)
    assert (problem.line, problem.path) == (line, "")
    assert message in problem.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + f"# {'x' * LARGEST_CONTROL_BYTES}\n", "bytes, at most 262,144: shorten it"),
        (
            GOOD + "".join(f"  - evaluation.e{number}\n" for number in range(MOST_METRICS - 1)),
            "101 metrics, at most 100: keep those that decide",
        ),
    ],
    ids=["long", "many"],
)
def test_what_would_outgrow_a_message_is_refused(text, message):
    (problem,) = problems(text)
    assert message in problem.message


def test_a_specification_that_is_too_large_with_its_reason_is_not_written():
    spec = replace(load(GOOD), generation=1, reason="x" * LARGEST_CONTROL_BYTES)
    with pytest.raises(Refused, match=r"acme/prod/answers: the specification .* nothing was written"):
        rollout_log.put(Settings(), spec, Present(None, 0))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileError, match=r"nowhere\.yaml:1:1: cannot be read: No such file"):
        rollout_file.read(tmp_path / "nowhere.yaml")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_is_in_the_file_the_answer_is_a_rollout_or_its_problems(data):
    lines = GOOD.splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        i = data.draw(st.integers(0, len(lines) - 1))
        kind = data.draw(st.sampled_from(["drop", "repeat", "text", "value", "indent"]))
        if kind == "drop":
            lines[i] = ""
        elif kind == "repeat":
            lines.insert(i, lines[i])
        elif kind == "text":
            lines[i] = data.draw(st.text(max_size=30))
        elif kind == "indent":
            lines[i] = "  " + lines[i]
        else:
            value = data.draw(
                st.sampled_from(["", "null", "9" * 400, "-1", "1e999", "[]", "{}", "%", "p", "$"])
            )
            lines[i] = f"{lines[i].partition(':')[0]}: {value}"
    try:
        spec = load("\n".join(lines), "r.yaml")
    except FileError as error:
        outcome = [str(problem) for problem in error.problems]
    else:
        outcome = spec.steps
        assert objection(spec) is None
    assert outcome


@pytest.mark.parametrize(
    ("written", "us"),
    [
        ("30s", 30e6),
        ("10m", 600e6),
        ("10 min", 600e6),
        ("1h30m", 5_400e6),
        ("1.5h", 5_400e6),
        ("250ms", 25e4),
    ],
)
def test_durations_are_written_as_people_do(written, us):
    assert quantities.duration(written) == us


@pytest.mark.parametrize(
    "written",
    [
        "2026-12-24T18:00+01:00",
        "2026-12-24T17:00Z",
        "2026-12-24 18:00 Europe/Berlin",
        "2026-12-24 17:00:00 UTC",
    ],
)
def test_a_time_carries_its_zone(written):
    assert quantities.moment(written) == 1_798_131_600_000_000


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("2026-12-24T18:00", "must say its time zone, once"),
        ("2026-12-24T18:00Z Europe/Berlin", "must say its time zone, once"),
        ("2026-12-24 18:00 Europe/Berlni", "is no known time zone"),
        ("2026-12-24 18:00 ../../etc/passwd", "is no known time zone"),
        ("2026-10-25 02:30 Europe/Berlin", "falls into a change of the clocks"),
        ("2026-03-29 02:30 Europe/Berlin", "falls into a change of the clocks"),
        ("24.12.2026 18:00", "is no time"),
        ("", "is no time"),
    ],
)
def test_a_time_that_could_be_several_is_refused(written, message):
    with pytest.raises(ValueError, match=message):
        quantities.moment(written)


@pytest.mark.parametrize(
    ("metric", "written", "kind", "value"),
    [
        ("error_rate", "1.10 odds", "odds", 1.10),
        ("error_rate", "2 points", "absolute", 0.02),
        ("error_rate", "+10%", "relative", 0.10),
        ("latency_us", "200ms", "absolute", 200_000),
        ("latency_us", "1.5 s", "absolute", 1_500_000),
        ("cost_usd", "$0.002", "absolute", 0.002),
        ("cost_usd", "0.002 usd", "absolute", 0.002),
        ("output_tokens", "50 tokens", "absolute", 50),
    ],
)
def test_margins_are_written_in_the_unit_of_their_metric(metric, written, kind, value):
    known = CATALOGUE[metric]
    read = quantities.margin(known)(written)
    assert read == (kind, value)
    assert quantities.margin(known)(quantities.written(known, read)) == read


def test_a_step_without_any_call_is_refused_since_it_would_end_at_once():
    with pytest.raises(ValueError, match="write at least 1"):
        quantities.some("0")
    assert quantities.some("1") == 1


def known_keys():
    """Keys of every section, as a mistake in it lists them."""
    freeze = "{from: 2026-12-24T08:00Z, to: 2026-12-25T08:00Z, zzzzzz: 1}"
    unknown = replace_lines(
        ("kind: Rollout", f"kind: Rollout\nalpha: {{zzzzzz: 1}}\nzzzzzz: 1\nfreezes: [{freeze}]"),
        ("  tenant: acme", "  tenant: acme\n  zzzzzz: 1"),
        ("    role: baseline", "    role: baseline\n    zzzzzz: 1"),
        ("    minCalls: 500", "    minCalls: 500\n    zzzzzz: 1"),
        ("    rollbackMargin: +5%", "    rollbackMargin: +5%\n    zzzzzz: 1"),
    )
    found = problems(unknown)
    assert len(found) == 7
    return {key for problem in found for key in problem.message.partition("use one of ")[2].split(", ")}


def replace_lines(*changes):
    text = GOOD
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    return text


def test_the_page_explains_every_key_and_every_metric():
    keys = known_keys()
    assert len(keys) > 30
    for key in keys:
        assert re.search(rf"^\|[^|]*`{key}`", PAGE, re.MULTILINE), key
    for name in CATALOGUE:
        assert f"`{name}NAME`" in PAGE if name.endswith(".") else f"`{name}`" in PAGE


def test_the_examples_on_the_page_are_fine_and_the_first_is_the_example_file():
    block, *parts = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    on_page = replace(load(block, "page"), source_yaml="")
    assert on_page == replace(rollout_file.read(ROOT / "docs/examples/minimal.yaml"), source_yaml="")
    for part in parts:
        given, present = (re.split(r"^(?=\w)", text, flags=re.MULTILINE) for text in (part, block))
        keys = {key.partition(":")[0] for key in given}
        rest = "".join(key for key in present if key.partition(":")[0] not in keys)
        assert load(rest + part, "page") != on_page


STEPS = GOOD[GOOD.index("steps:") : GOOD.index("metrics:")]


def with_steps(strategy, steps):
    return changed(STEPS, f"strategy: {strategy}\nsteps: {steps}\n")


def test_blue_green_is_one_step_that_bakes():
    spec = load(with_steps("blue_green", "[{weight: 95%, minDuration: 30m}]"), "r.yaml")
    assert (spec.strategy, spec.steps) == (
        "blue_green",
        [Step(weight_bp=9_500, min_calls=100, min_duration_us=1_800_000_000)],
    )


def test_rolling_rises_evenly_or_by_a_list():
    spec = load(with_steps("rolling", "{by: 30%, every: 10m, minCalls: 50}"), "r.yaml")
    assert spec.steps == [
        Step(weight_bp=bp, min_calls=50, min_duration_us=600_000_000) for bp in (3_000, 6_000, 9_000)
    ]
    assert [step.weight_bp for step in load(with_steps("rolling", "[30%, 60%]"), "r").steps] == [3_000, 6_000]


@pytest.mark.parametrize(
    ("strategy", "steps", "messages"),
    [
        ("blue_green", "[40%]", ["a switch sends at least 50%", "minDuration is missing"]),
        (
            "blue_green",
            "[{weight: 90%, minDuration: 1m}, {weight: 95%, minDuration: 1m}]",
            ["has one split"],
        ),
        ("ab", "[10%, 50%]", ["ab has one split"]),
        ("rolling", "{by: 120%}", ["120% is out of bounds", "every is missing"]),
        ("rolling", "{by: 20%, every: 10m, mincalls: 5}", ["did you mean minCalls?"]),
        ("canary", "{by: 20%, every: 10m}", ["a list is needed here"]),
        ("canary", "[{mirror: 10%}]", ["weight is missing", "mirror is no key of a canary: write weight"]),
        ("shadow", "[{weight: 10%}]", ["mirror is missing", "weight is no key of a shadow: write mirror"]),
        ("shadow", "[20%, 10%]", ["10% does not increase on 20%"]),
    ],
)
def test_steps_that_a_strategy_cannot_take_are_named(strategy, steps, messages):
    found = problems(with_steps(strategy, steps))
    assert len(found) == len(messages)
    for message in messages:
        assert any(message in problem.message for problem in found)


def test_a_shadow_mirrors_and_serves_nobody():
    spec = load(with_steps("shadow", "[10%, {mirror: 25%, minCalls: 7}]"), "r.yaml")
    assert spec.steps == [
        Step(weight_bp=0, mirror_bp=1_000, min_calls=100),
        Step(weight_bp=0, mirror_bp=2_500, min_calls=7),
    ]


def test_a_shadow_is_not_rated_and_not_promoted():
    text = with_steps("shadow", "[10%]").replace("- error_rate", "- feedback.helpful")
    found = problems(f"{text}onInconclusive: promote\n")
    assert [problem.path for problem in found] == ["metrics[0]", "onInconclusive"]


def test_a_design_effect_is_that_of_the_metric_or_else_of_the_file():
    text = changed("  - error_rate\n", "  - {name: error_rate, designEffect: 3}\n")
    assert [metric.design_effect for metric in load(text, "r.yaml").metrics] == [3.0, None]
    text = text.replace("steps:", "designEffect: 1.8\nsteps:")
    assert [metric.design_effect for metric in load(text, "r.yaml").metrics] == [3.0, 1.8]
    for wrong in ("0.5", "none", "-1", "inf"):
        [problem] = problems(text.replace("1.8", wrong))
        assert "is no design effect: write a number from 1" in str(problem)
