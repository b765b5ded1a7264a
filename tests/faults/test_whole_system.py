"""A short run over the whole system; ``make faults`` plays longer ones."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.faults import history

SEEDS = (35301,)
"""In twelve seconds begin: kills of the store and of stage 1 between two effects, a zombie, an orderly
restart, links that are slow, cut or half open, a store that denies what it did, a second process, copies,
poison, calls in a newer schema, a hot partition, a person's action."""


@pytest.mark.timeout(420)  # A minute on two cores that others use too; everything waits where all are busy.
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_or_counted_twice_under_faults_of_fourteen_kinds(seed: int, tmp_path: Path) -> None:
    asked = {"--first": seed, "--faults": 14, "--span": 12, "--session": 2, "--dir": tmp_path}
    command = [sys.executable, "-m", "tests.faults", "--one"]
    command += [str(word) for pair in asked.items() for word in pair]
    root = Path(__file__).parents[2]
    # Killed, it takes its system with it.
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=400)
    lines = history.read(tmp_path / f"seed-{seed}" / "history.jsonl")
    assert [line for line in lines if line["what"] == "violation"] == []
    assert ended.returncode == 0, ended.stderr[-4_000:]
    assert len({line["kind"] for line in lines if line["what"] == "fault"}) == 14
    assert [line["reached"] for line in lines if line["what"] == "faults are over"] == [
        ["aggregate.after_claim"]
    ]
