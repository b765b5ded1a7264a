"""Just enough of the SQL text to serve it: where the data of an INSERT begins, and which format is asked for.

Everything that matters for safety is judged by the engine's own parser, not here.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from tidegate_infra.store.errors import Code, StatementError

# Each branch takes an unterminated literal or comment to the end of the text, so that scanning stays linear.
_TOKEN = re.compile(
    rb"""
    (?P<space> \s++ | --[^\n]*+ | \#[!\ ][^\n]*+ | /\*(?s:.*?)(?:\*/|\Z) )
  | (?P<literal> '(?:[^'\\]|\\(?:.|\Z)|'')*+(?:'|\Z) | \$(?P<tag>\w*)\$(?s:.*?)(?:\$(?P=tag)\$|\Z) )
  | (?P<quoted> `(?:[^`\\]|\\(?:.|\Z)|``)*+(?:`|\Z) | "(?:[^"\\]|\\(?:.|\Z)|"")*+(?:"|\Z) )
  | (?P<word> [A-Za-z_]\w*+ )
  | (?P<open> [(\[{] )
  | (?P<close> [)\]}] )
  | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_BLANK = re.compile(rb"[ \t\f\v]*;?[ \t\f\v]*\r?\n?")


@dataclass(frozen=True, slots=True)
class Insert:
    """An INSERT whose rows follow as data.

    Parameters
    ----------
    sql
        The statement without its FORMAT or VALUES.
    format
        Of the data.
    data
        What of it stands in the text already.
    """

    sql: bytes
    format: str
    data: bytes


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: bytes
    depth: int
    start: int
    end: int

    def is_word(self, *words: bytes) -> bool:
        return self.kind == "word" and self.text.upper() in words


def insert_with_data(text: bytes) -> Insert | None:
    """Split an INSERT from the data behind it; None for every other statement.

    Raises
    ------
    StatementError
        The data would come from a file of this machine.
    """
    tokens = (token for token in _tokens(text) if token.depth == 0)
    first = next(tokens, None)
    if first is None or not first.is_word(b"INSERT"):
        return None
    named = after_dot = False
    for token in tokens:
        if not named or after_dot:
            # The table may be called like a keyword.
            named = token.kind in {"word", "quoted", "close"} and not token.is_word(
                b"INTO", b"TABLE", b"FUNCTION"
            )
            after_dot = False
        elif token.text == b".":
            after_dot = True
        elif token.is_word(b"VALUES"):
            return Insert(text[: token.start], "Values", text[token.end :])
        elif token.is_word(b"FORMAT"):
            name = next(tokens, None)
            if name is None or name.kind != "word":
                return None
            return Insert(text[: token.start], name.text.decode(), text[_after_format(text, name.end) :])
        elif token.is_word(b"SELECT", b"WITH"):
            return None
        elif token.is_word(b"INFILE"):
            raise StatementError(
                Code.ACCESS_DENIED, "FROM INFILE is refused: send the file as the request's body"
            )
    return None


def _after_format(text: bytes, position: int) -> int:
    blank = _BLANK.match(text, position)
    return position if blank is None else blank.end()


def first_word(sql: bytes) -> bytes:
    """First word of a statement in capitals, comments and brackets left aside."""
    return next((token.text.upper() for token in _tokens(sql) if token.kind == "word"), b"")


def writes_file(sql: bytes) -> bool:
    """Whether a query sends its output into a file of this machine."""
    return any(one.is_word(b"INTO") and two.is_word(b"OUTFILE") for one, two in pairwise(_tokens(sql)))


def output_format(sql: bytes) -> str | None:
    """Format that a query asks for itself, None when it does not."""
    tokens = [token for token in _tokens(sql) if token.depth == 0 and token.text != b";"]
    for position in range(len(tokens) - 2, -1, -1):
        if tokens[position].is_word(b"FORMAT"):
            rest = tokens[position + 2 : position + 3]
            is_clause = tokens[position + 1].kind == "word" and (not rest or rest[0].is_word(b"SETTINGS"))
            return tokens[position + 1].text.decode() if is_clause else None
    return None


def _tokens(text: bytes) -> Iterator[_Token]:
    depth = 0
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "other"
        if kind == "space":
            continue
        # A closing bracket belongs to the depth outside, so that what it closed counts as one thing.
        depth -= kind == "close"
        yield _Token(kind, match[0], depth, match.start(), match.end())
        depth += kind == "open"
