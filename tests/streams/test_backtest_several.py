"""The example with several candidates, over events of the past: the same command, files and decisions."""

import datetime as dt
from pathlib import Path

import numpy as np
import polars as pl
from tests.streams.test_backtest_command import MINUTE, T0, asked

EXAMPLE = Path(__file__).parents[2] / "docs/examples/abn.yaml"
ARMS = {"plain": (0.4, 0.02), "warm": (0.2, 0.02), "brief": (0.2, 0.02), "formal": (0.2, 0.3)}


def shortened(path: Path, **changes: str) -> Path:
    """The example with a shorter step, so that ten minutes of events do."""
    text = EXAMPLE.read_text().replace("minDuration: 24h        # mornings and evenings", "minDuration: 5m")
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return path


def events(path: Path, start_us: int = T0, n: int = 6_000) -> Path:
    """Ten minutes of calls, of which formal's fail; and of another operation, of which warm's fail."""
    rng = np.random.default_rng(4)
    names = list(ARMS)
    variant = rng.choice(names, n, p=[share for share, _ in ARMS.values()])
    is_chat = rng.random(n) < 0.8
    bad = np.array([ARMS[one][1] for one in variant])
    failed = np.where(is_chat, rng.random(n) < bad, variant == "warm")
    ends = start_us + np.arange(n) * (10 * MINUTE // n)
    pl.DataFrame(
        {
            "event_id": [f"id-{i}" for i in range(n)],
            "ts_start": ends - 500_000,
            "ts_end": ends,
            "deployment": "answers",
            "variant": variant,
            "operation": np.where(is_chat, "chat", "embeddings"),
            "provider": "openai",
            "request_model": "gpt-4",
            "status": np.where(failed, "error", "ok"),
        }
    ).write_parquet(path)
    return path


def test_the_example_gives_up_the_candidate_that_fails_and_leaves_the_rest_open(tmp_path: Path) -> None:
    plan, file = shortened(tmp_path / "ab.yaml"), events(tmp_path / "e.parquet")
    code, view, _ = asked("-f", plan, "--events", file)
    assert [command["action"] for command in view["commands"]] == ["start", "drop"]
    weights = {one["variant"]: one["weight_bp"] for one in view["commands"][1]["weights"]}
    assert weights == {"plain": 6_000, "warm": 2_000, "brief": 2_000, "formal": 0}
    assert view["commands"][1]["reason"].startswith(
        "formal is given up, plain serves the share, and warm and"
    )
    assert (code, view["decision"]) == (6, None)
    rows = {(one["candidate"], one["name"]): one["verdict"] for one in view["rollout"]["metrics"]}
    assert rows["formal", "error_rate"] == "fail"
    assert rows["warm", "error_rate"] in ("pass", "inconclusive")
    assert rows["brief", "feedback.helpful"] == "skipped"
    assert "With warm: feedback.helpful is skipped" in view["reason"]


def test_a_freeze_that_comes_again_is_written_out_where_the_events_are(tmp_path: Path) -> None:
    saturday = round(dt.datetime(2025, 10, 11, 12, tzinfo=dt.UTC).timestamp() * 1e6)
    file = events(tmp_path / "e.parquet", saturday, n=200)
    _, view, _ = asked("-f", shortened(tmp_path / "ab.yaml"), "--events", file)
    (held,) = view["commands"]
    assert held["action"] == "hold"
    assert "a freeze holds it until 2025-10-13 06:00 UTC" in held["reason"]
