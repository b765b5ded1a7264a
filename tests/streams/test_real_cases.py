"""Verdicts on recorded data, of which docs/real-cases.md has all."""

import gzip
import json

import numpy as np
import pytest
from benchmarks.real_cases import kayenta
from benchmarks.real_cases.cases import cases
from benchmarks.real_cases.judging import judge


@pytest.fixture(scope="module")
def recorded():
    return {(case.group, case.name): case for case in cases()}


@pytest.mark.parametrize(
    ("group", "name", "decision"),
    [
        ("opinions asked", "GPT-4, March to June, all metrics", "rolled back"),
        ("opinions asked", "GPT-4, June to March", "promoted"),
        ("exams (mmlu)", "GPT-4 to Mixtral", "rolled back"),
        ("exams (mmlu)", "Mixtral to GPT-4", "promoted"),
        ("a server's load", "500 to 1000", "rolled back"),
        ("a server's load", "1000 to 500", "promoted"),
        ("guardrails", "none to compact rails", "rolled back"),
        ("a machine beside itself", "postgres, D8s_v5 1 in westus2", "promoted"),
    ],
)
def test_what_is_known_to_be_worse_is_rolled_back_and_what_is_not_is_promoted(
    recorded, group, name, decision
):
    case = recorded[group, name]
    assert case.worse == (decision == "rolled back")
    assert judge(f"[{', '.join(case.metrics)}]", case.baseline, case.candidate).decision == decision


def test_the_judge_of_kayenta_is_rendered_as_its_own_tests_have_it():
    with gzip.open(kayenta.DATA, "rt") as lines:
        given = [one for one in map(json.loads, lines) if one["suite"] == "classifier"]
    assert len(given) == 13
    for one in given:
        assert kayenta.rendered(one) == one["expected_classification"], one["name"]


def test_missing_data_never_decides_on_recorded_data_either():
    observed = {"latency_us": np.full(500, 1_000)}
    assert judge("[latency_us]", observed, {}).decision == "undecided"
    assert judge("[latency_us]", {}, observed).decision == "undecided"
