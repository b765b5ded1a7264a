"""Ranges are stored once on a disk that is full again and again; `full_disk` plays it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.faults.disk import can_be_mounted

STRIKES, SEED = 12, 3


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.skipif(not can_be_mounted(), reason="a small disk takes root and unshare")
def test_ranges_stand_once_after_a_disk_was_full_again_and_again(tmp_path: Path) -> None:
    command = ["unshare", "--mount", sys.executable, "-m", "tests.consumers.full_disk"]
    command += [str(word) for word in (tmp_path, STRIKES, SEED)]
    root = Path(__file__).parents[2]
    played = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=280)
    assert played.returncode == 0, played.stderr[-4_000:]
    result = json.loads(played.stdout)
    assert result["found"] == result["sent"]
    assert result["found_again"] == result["sent"]
