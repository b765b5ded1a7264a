"""Data to standard output, words to standard error."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

_WATCH_SECONDS = 2.0
_GREEN, _YELLOW, _RED = "32", "33", "31"
_COLOURS = {
    "ok": _GREEN,
    "running": _GREEN,
    "ready": _GREEN,
    "succeeded": _GREEN,
    "pass": _GREEN,
    "warn": _YELLOW,
    "holding": _YELLOW,
    "inconclusive": _YELLOW,
    "fail": _RED,
    "rolled_back": _RED,
    "rolling_back": _RED,
    "exited": _RED,
}

Row = Mapping[str, Any]


class Format(StrEnum):
    """How data are printed."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"


def say(words: str) -> None:
    """Print words for people to standard error."""
    print(words, file=sys.stderr, flush=True)  # noqa: T201 - this is the command line's voice


def write(data: str) -> None:
    """Print data to standard output."""
    print(data)  # noqa: T201 - this is the command line's voice


def write_rows(
    rows: Iterable[Row],
    columns: Sequence[str],
    how: Format,
    wide: Sequence[str] = (),
    most_chars: int | None = None,
    nothing: str = "there are none",
) -> None:
    """Print a list: one JSON object a line, one YAML list, or a table of the columns.

    Parameters
    ----------
    rows
        What to print. JSON and YAML show every field.
    columns, wide
        Fields of the table, and those that `Format.WIDE` adds.
    how
        As the options say.
    most_chars
        Longer texts are cut in a table that is not wide.
    nothing
        What is said to a person instead of an empty table.
    """
    rows = list(rows)
    match how:
        case Format.JSON:
            for row in rows:
                write(to_json(row))
        case Format.YAML:
            write(to_yaml(rows))
        case _:
            is_wide = how is Format.WIDE
            shown = [*columns, *wide] if is_wide else list(columns)
            for line in table(rows, shown, None if is_wide else most_chars):
                write(line)
            if nothing and not rows:
                say(nothing)


def write_one(value: Row, how: Format, lines: Callable[[], Iterable[str]]) -> None:
    """Print one object: as JSON, YAML, or in the lines that a person reads."""
    match how:
        case Format.JSON:
            write(to_json(value))
        case Format.YAML:
            write(to_yaml(value))
        case _:
            for line in lines():
                write(line)


def table(rows: Sequence[Row], columns: Sequence[str], most_chars: int | None = None) -> list[str]:
    """Lay rows out under their columns' names; numbers stand to the right, longer texts are cut."""
    if not rows:
        return []
    cells = [[_cut(cell(row.get(column)), most_chars) for column in columns] for row in rows]
    widths = [max(len(column), *(len(line[at]) for line in cells)) for at, column in enumerate(columns)]
    right = [
        all(isinstance(row.get(column), int | float | Decimal | None) for row in rows) for column in columns
    ]
    return ["  ".join(_padded(columns, widths, right)).upper().rstrip()] + [
        "  ".join(map(paint, _padded(line, widths, right))).rstrip() for line in cells
    ]


def _padded(line: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    return [
        text.rjust(width) if is_right else text.ljust(width)
        for text, width, is_right in zip(line, widths, right, strict=True)
    ]


def _cut(text: str, most_chars: int | None) -> str:
    return text if most_chars is None or len(text) <= most_chars else text[: most_chars - 1] + "…"


def cell(value: Any) -> str:
    """Return a value as it stands in a table: unknown as a dash, a list in one line."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return " ".join(f"{name}={item}" for name, item in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "-"
    # A tab or an escape sequence in somebody's text must not rule the terminal.
    return "".join(char if char.isprintable() else " " for char in str(value))


def paint(text: str) -> str:
    """Colour a word of state on a terminal that shows colours."""
    colour = _COLOURS.get(text.strip())
    is_plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty()
    return text if colour is None or is_plain else f"\x1b[{colour}m{text}\x1b[0m"


def time_text(ts_us: int | None) -> str | None:
    """Return microseconds since the epoch as RFC 3339, in UTC, to the second."""
    if ts_us is None:
        return None
    return datetime.fromtimestamp(ts_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def to_json(value: Any) -> str:
    """Return a value as one line of JSON: money as a string, bytes as hexadecimal digits."""
    return json.dumps(value, default=_plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def from_json_lines(text: str) -> list[Any]:
    """Return what each line of JSON holds."""
    return [json.loads(line) for line in text.splitlines() if line]


def to_yaml(value: Any) -> str:
    """Return a value as YAML, with the same words for money and bytes as `to_json`."""
    import io

    from ruamel.yaml import YAML

    out = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump(json.loads(to_json(value)), out)
    return out.getvalue().rstrip("\n")


def watched(read: Callable[[], Any], show: Callable[[Any], None], again: bool) -> None:
    """Read and show, once or, with `again`, whenever what is read has changed.

    Ends with Ctrl-C.
    """
    last = read()
    show(last)
    while again:
        sys.stdout.flush()
        time.sleep(_WATCH_SECONDS)
        present = read()
        if present != last:
            show(present)
            last = present
