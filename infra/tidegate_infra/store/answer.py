"""From a request to the engine and back: which statements run how, and what their answers carry."""

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import chain

from tidegate_infra.store import statement
from tidegate_infra.store.ask import Ask
from tidegate_infra.store.engine import READ_ONLY, UNPARSED, Engine, Session, Summary
from tidegate_infra.store.errors import Code, StatementError

# A statement longer than this is no statement; the data of an INSERT may be of any length.
LONGEST_STATEMENT_BYTES = 4 << 20
# The head of a body in which the beginning of an INSERT's data is looked for.
_HEAD_BYTES = 1 << 18

# Blocks of other formats come with a header or a footer each, so that they cannot be joined.
_JOINABLE = frozenset(
    {"native", "tabseparated", "tsv", "csv", "rowbinary", "jsoneachrow", "jsonlines", "ndjson"}
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back.

    Parameters
    ----------
    headers
        Of the answer.
    body
        Its pieces.
    open
        What has to be closed after the last piece; None when the statement has ended already.
    """

    headers: dict[str, str]
    body: Iterator[bytes]
    open: ExitStack | None = None


@dataclass(slots=True)
class Work:
    """A statement on its way, for whoever may have to stop it.

    Parameters
    ----------
    only_reads
        Known after the engine has parsed the statement: then nobody misses it when the client is gone.
    """

    only_reads: bool = False


def answer(engine: Engine, ask: Ask, body: Iterable[bytes], work: Work) -> Answer:
    """Execute what a request asks for.

    Parameters
    ----------
    engine
        Where.
    ask
        The request.
    body
        Unpacked body of the request, as it arrives.
    work
        Told what is under way.

    Raises
    ------
    StatementError
        The statement was refused or failed.
    """
    pieces = iter(body)
    head = _head(ask.sql, pieces)
    insert = statement.insert_with_data(head)
    with ExitStack() as stack:
        session = stack.enter_context(engine.session(ask.database, ask.settings, ask.parameters))
        if insert is not None:
            if not ask.may_write:
                raise StatementError(Code.READONLY, "Cannot execute query in readonly mode")
            done = session.insert(insert.sql, insert.format, chain([insert.data], pieces))
            _refuse_unsound(engine)
            return Answer(_headers(engine, ask, done), iter(()))
        sql = _whole(head, pieces)
        only_reads = work.only_reads = _check(session, sql, may_write=ask.may_write)
        wanted = statement.output_format(sql) or ask.default_format
        if only_reads and not ask.waits and wanted.lower() in _JOINABLE and _streams(sql):
            blocks = session.stream(sql, ask.default_format)
            stack.callback(blocks.close)
            first = next(blocks, b"")
            # The session now belongs to whoever reads the answer.
            body = _sound(engine, chain([first], blocks))
            return Answer(_headers(engine, ask, Summary(), wanted), body, stack.pop_all())
        output, done = session.run(sql, ask.default_format)
        _refuse_unsound(engine)
        has_output = only_reads or bool(output)
        return Answer(_headers(engine, ask, done, wanted if has_output else ""), iter([output]))


def _sound(engine: Engine, blocks: Iterator[bytes]) -> Iterator[bytes]:
    yield from blocks
    _refuse_unsound(engine)


def _refuse_unsound(engine: Engine) -> None:
    # What was changed may not stand, and what was read may not stay.
    if lost := engine.lost_writes():
        raise StatementError(
            Code.CANNOT_WRITE_TO_FILE_DESCRIPTOR,
            f"the store could not write ({lost} times; is its disk full?) and starts again: try again later",
        )


def _head(sql: bytes, pieces: Iterator[bytes]) -> bytes:
    parts = [sql, b"\n"] if sql else []
    size = len(sql)
    for piece in pieces:
        parts.append(piece)
        size += len(piece)
        if size >= _HEAD_BYTES:
            break
    return b"".join(parts)


def _whole(head: bytes, pieces: Iterator[bytes]) -> bytes:
    parts = [head]
    size = len(head)
    for piece in pieces:
        parts.append(piece)
        size += len(piece)
        if size > LONGEST_STATEMENT_BYTES:
            break
    if size > LONGEST_STATEMENT_BYTES:
        raise StatementError(
            Code.QUERY_IS_TOO_LARGE, f"the statement is longer than {LONGEST_STATEMENT_BYTES >> 20} MiB"
        )
    return b"".join(parts)


def _check(session: Session, sql: bytes, *, may_write: bool) -> bool:
    word = statement.first_word(sql)
    if not word:
        raise StatementError(Code.SYNTAX_ERROR, "Empty query")
    if word in {b"SET", b"USE"}:
        raise StatementError(
            Code.NOT_IMPLEMENTED,
            "the embedded store keeps no sessions: give settings and database with each request",
        )
    if statement.writes_file(sql):
        raise StatementError(Code.INTO_OUTFILE_NOT_ALLOWED, "INTO OUTFILE is not allowed")
    kind, count = session.classify(sql)
    if count > 1:
        raise StatementError(Code.SYNTAX_ERROR, "Multi-statements are not allowed")
    if kind == UNPARSED and not may_write:
        # The engine says what is wrong with it, without running it.
        literal = sql.decode(errors="replace").replace("\\", "\\\\").replace("'", "\\'")
        session.run(f"SELECT formatQuery('{literal}')".encode())
    if kind != READ_ONLY and not may_write:
        raise StatementError(Code.READONLY, "Cannot execute query in readonly mode")
    return kind == READ_ONLY


def _streams(sql: bytes) -> bool:
    # The engine streams no SHOW, DESCRIBE or EXPLAIN.
    return statement.first_word(sql) in {b"SELECT", b"WITH", b"FROM"}


def _headers(engine: Engine, ask: Ask, done: Summary, wanted: str = "") -> dict[str, str]:
    headers = {
        "X-ClickHouse-Query-Id": ask.query_id,
        "X-ClickHouse-Server-Display-Name": "tidegate",
        "X-ClickHouse-Timezone": engine.timezone,
        # A server writes these numbers as strings.
        "X-ClickHouse-Summary": json.dumps(
            {name: str(value) for name, value in asdict(done).items()}, separators=(",", ":")
        ),
    }
    if wanted:
        spelled = engine.formats.get(wanted.lower())
        headers["X-ClickHouse-Format"] = spelled.name if spelled else wanted
        headers["Content-Type"] = spelled.content_type if spelled else "application/octet-stream"
    return headers
