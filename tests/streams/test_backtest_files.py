"""What files hold: the same events in every format, and each line or row that is none with its reason."""

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import fastavro
import polars as pl
import pytest

from tidegate import codec, intake, versions
from tidegate.client.rules import UUID
from tidegate.errors import ConfigError
from tidegate.records import Guardrail, LLMCall
from tidegate_streams.backtest import files, json_lines
from tidegate_streams.backtest.pieces import MOST_NAMED, Piece

T0 = 1_760_000_000_000_000
STAND_INS = {"tenant": "acme", "environment": "prod", "app": "chat", "variant": "default"}
CALL: dict[str, Any] = {
    "ts_start": T0,
    "ts_end": T0 + 5,
    "variant": "march",
    "operation": "chat",
    "provider": "openai",
    "request_model": "gpt-4o",
    "status": "ok",
}
RATING: dict[str, Any] = {
    "type": "feedback",
    "ts": T0,
    "name": "thumbs",
    "kind": "thumbs",
    "value": 1,
    "given_by": "user",
    "target_event_id": "01999999-9999-7999-8999-999999999998",
}
ID = "01999999-9999-7999-8999-999999999999"


def call(n: int) -> LLMCall:
    return LLMCall(
        **(CALL | {"ts_end": T0 + n}),
        event_id=f"01999999-9999-7999-8999-{n:012d}",
        tenant="acme",
        app="chat",
        environment="prod",
        deployment="chat",
        attempt=n % 2 + 1,
        guardrails=[Guardrail(name="pii", stage="output", triggered=n % 3 == 0)] * (n % 2),
        input_tokens=None if n % 2 else n,
    )


def write(path: Path, *lines: Any) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def read(path: Path) -> list[Piece]:
    return list(files.read(path, STAND_INS))


def refusals(path: Path) -> list[tuple[int, str, str]]:
    return [row for piece in read(path) for row in piece.refused.iter_rows()]


def events(pieces: list[Piece], record: str = "LLMCall") -> pl.DataFrame:
    return pl.concat([p.events for p in pieces if p.record == record and p.events.height]).sort("_row")


def test_json_lines_parquet_and_avro_hold_the_same_events(tmp_path: Path) -> None:
    calls = [call(n) for n in range(50)]
    rows = [codec.as_dict(one) for one in calls]
    lines = read(write(tmp_path / "a.jsonl", *(json.dumps(row, default=str) for row in rows)))
    frame = pl.DataFrame([codec.as_dict(one) for one in calls], infer_schema_length=None)
    frame = frame.select(column for column in frame if column.dtype != pl.Null)
    frame.with_columns(pl.from_epoch("ts_end", "us").cast(pl.Datetime("ns", "Europe/Berlin"))).write_parquet(
        tmp_path / "a.parquet"
    )
    with (tmp_path / "a.avro").open("wb") as file:
        fastavro.writer(file, versions.latest(LLMCall).parsed, rows, codec="deflate", sync_interval=500)
    expected = events(lines)
    assert expected.height == 50
    assert events(read(tmp_path / "a.parquet")).equals(expected)
    assert events(read(tmp_path / "a.avro")).equals(expected)


BROKEN: list[dict[str, Any]] = [
    {"input_tokens": "7"},
    {"input_tokens": 1.5},
    {"input_tokens": -1},
    {"max_tokens": -1},
    {"input_tokens": 10**10},
    {"http_status": 2**31},
    {"ts_end": T0 - 1},
    {"ts_end": "yesterday"},
    {"ts_end": T0 * 1000},
    {"ts_start": None},
    {"status": "okay"},
    {"status": ""},
    {"outcome": ""},
    {"request_model": 7},
    {"variant": "x" * 3_000},
    {"event_id": "7"},
    {"attempt": 0},
    {"stream": "yes"},
    {"sample_rate": 0},
    {"temprature": 0.5},
    {"budget_keys": [f"team:{n}" for n in range(9)]},
    {"tags": [1]},
    {"tags": "one"},
    {"guardrails": [{"name": "pii"}]},
    {"guardrails": [{"name": "pii", "stage": "outptu"}]},
    {"guardrails": [{"name": "pii", "stage": "output", "duration_us": -1}]},
    {"retrieval": {"cuont": 1}},
    {"type": "cal"},
    RATING | {"value": 0.5},
    RATING | {"target_event_id": None},
    RATING | {"target_event_id": "xyz"},
    RATING | {"target_session_id": "y"},
    RATING | {"given_by": None},
]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: json.dumps(broken)[:40])
def test_a_line_that_emit_refuses_is_refused_among_good_ones_with_the_same_words(
    broken: dict[str, Any], tmp_path: Path
) -> None:
    line = broken if "name" in broken else CALL | broken
    path = write(tmp_path / "a.jsonl", CALL, line, CALL)
    (found,) = intake.read(io.BytesIO(json.dumps(line).encode()), json_lines.Defaults("acme", "chat", "prod"))
    assert found.problems
    assert refusals(path) == [(2, found.problems[0].reason, "; ".join(map(str, found.problems)))]
    assert events(read(path)).get_column("_row").to_list() == [1, 3]


def test_of_many_bad_lines_only_those_that_are_shown_get_their_words(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", *(CALL | {"temprature": n} for n in range(30)))
    words = [detail for _, _, detail in refusals(path)]
    assert words == ["temprature: no such field; did you mean temperature?"] * MOST_NAMED + [""] * 20


def test_good_lines_never_need_a_look_at_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(json_lines, "_line_by_line")
    times = {"ts_end": "2026-03-01T12:00:00.25+01:00", "ts_start": "2026-03-01T11:00:00Z"}
    timed = read(write(tmp_path / "times.jsonl", CALL | times))
    assert events(timed).get_column("ts_end").to_list() == [1_772_362_800_250_000]
    good: list[dict[str, Any]] = [
        {"event_id": ID, "type": "call", "tags": ["a"], "attempt": 2},
        {"guardrails": [{"name": "pii", "stage": "output"}], "retrieval": {"count": 3}},
        {"guardrails": [], "temperature": 1, "assignment_hash": -5, "input_tokens": 3},
    ]
    path = write(tmp_path / "a.jsonl", *(CALL | more for more in good), RATING, RATING | {"kind": "stars"})
    pieces = read(path)
    assert events(pieces).get_column("deployment").unique().to_list() == ["chat"]
    assert events(pieces, "Feedback").get_column("positive").to_list() == [True, False]
    ids = events(pieces).get_column("event_id").to_list()
    assert ids[0] == ID
    assert not any(UUID.fullmatch(one) for one in ids if one != ID)


def test_what_is_no_json_is_named_with_its_line_and_empty_lines_are_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", CALL, "", "{", "[1]", CALL)
    assert [(row, reason) for row, reason, _ in refusals(path)] == [(3, "bad_json"), (4, "bad_json")]
    assert events(read(path)).get_column("_row").to_list() == [1, 5]


def test_rows_of_a_table_that_hold_no_call_are_named_with_their_reason(tmp_path: Path) -> None:
    frame = pl.DataFrame([CALL] * 5).with_columns(
        input_tokens=pl.Series([1.0, float("nan"), 2.5, 4.0, 5.0]),
        status=pl.Series(["ok", "ok", "ok", "okay", None]),
    )
    frame.write_parquet(tmp_path / "a.parquet")
    found = {row: (reason, detail) for row, reason, detail in refusals(tmp_path / "a.parquet")}
    assert found[3] == ("invalid_field", "input_tokens is no whole number: 2.5")
    assert found[4][1].startswith("status is none of ok, error,")
    assert found[5] == ("missing_field", "status is missing")
    kept = events(read(tmp_path / "a.parquet"))
    assert kept.get_column("input_tokens").to_list() == [1, None]


def test_a_table_without_a_needed_column_is_refused_with_the_nearest(tmp_path: Path) -> None:
    pl.DataFrame([CALL]).rename({"request_model": "requested_model"}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match=r"request_model \(is requested_model meant\?\)"):
        read(tmp_path / "a.parquet")


def test_a_table_of_calls_that_also_has_the_time_of_windows_holds_calls(tmp_path: Path) -> None:
    pl.DataFrame([CALL | {"ts": T0, "append_ts": T0}]).write_parquet(tmp_path / "a.parquet")
    assert events(read(tmp_path / "a.parquet")).height == 1


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read(tmp_path / "none.jsonl")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ConfigError, match="no Parquet file"):
        read(tmp_path / "cut.parquet")
    with (tmp_path / "cut.avro").open("wb") as file:
        fastavro.writer(file, versions.latest(LLMCall).parsed, [codec.as_dict(call(1))] * 9)
    whole = (tmp_path / "cut.avro").read_bytes()
    (tmp_path / "cut.avro").write_bytes(whole[:-40])
    with pytest.raises(ConfigError, match="Avro file cannot be read"):
        read(tmp_path / "cut.avro")


def test_dataclass_defaults_are_those_of_columns(tmp_path: Path) -> None:
    """A line and a row that say the least have the same values."""
    (line,) = read(write(tmp_path / "a.jsonl", CALL))
    pl.DataFrame([CALL]).write_parquet(tmp_path / "a.parquet")
    (row,) = read(tmp_path / "a.parquet")
    assert row.events.equals(line.events)
    full = LLMCall(**CALL)
    for field in dataclasses.fields(LLMCall):
        if field.name in line.events.columns and getattr(full, field.name) not in ("", []):
            value = line.events.get_column(field.name).to_list()[0]
            assert value == getattr(full, field.name), field.name


@pytest.mark.parametrize(
    "line",
    [
        '{"request_model": "a"} {"request_model": "b"}',
        '{"request_model": "a", "request_model": "b"}',
        '{"request_model": "a\tb"}',
        '{"temperature": NaN}',
        '{"guardrails": [{"name": "pii", "stage": "output", "why": "so"}]}',
    ],
)
def test_lines_that_a_lenient_parser_would_take_are_looked_at_alone(line: str, tmp_path: Path) -> None:
    """Beside an empty line, so that there are as many objects as lines."""
    many = [call_line(n) for n in range(3_000)]
    path = write(tmp_path / "a.jsonl", *many[:1_500], line, "", *many[1_500:])
    assert [row for row, _, _ in refusals(path)] == [1_501]
    assert events(read(path)).height == 3_000


def call_line(n: int) -> str:
    return json.dumps(CALL | {"ts_end": T0 + n, "session_id": "2026-03-01T12:00:00Z"})


def test_text_that_is_no_text_is_refused_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"%s\n" % json.dumps(CALL).encode() + b'{"request_model": "\xff"}\n')
    assert [(row, reason) for row, reason, _ in refusals(path)] == [(2, "bad_json")]


def test_lines_of_windows_and_a_text_like_a_time_need_no_look_at_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(json_lines, "_line_by_line")
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(f"{call_line(n)}\r\n".encode() for n in range(5)))
    assert events(read(path)).get_column("ts_end").to_list() == [T0 + n for n in range(5)]


def test_pieces_are_read_ahead_and_come_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "_BYTES", 5_000)
    path = write(tmp_path / "a.jsonl", *(call_line(n) for n in range(500)))
    pieces = read(path)
    assert len(pieces) > 10
    rows = pl.concat([piece.events for piece in pieces]).get_column("_row").to_list()
    assert rows == list(range(1, 501))
    shares = [piece.share for piece in pieces]
    assert shares == sorted(shares)
    assert shares[-1] == 1
