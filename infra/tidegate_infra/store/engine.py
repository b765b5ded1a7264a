"""The engine: one chdb directory opened once, and a connection of its own for every statement.

Tried with chdb 26.9: connections of one process work in parallel and give up Python's lock while they do; one
costs a tenth of a millisecond; settings, parameters and the current database are the connection's own. So a
statement cannot leave anything behind for the next.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import chdb

from tidegate.errors import InvariantBroken
from tidegate_infra.store.errors import Code, StatementError

READ_ONLY = "READ_ONLY"
UNPARSED = "UNKNOWN"
_FORMATS = "SELECT lower(name), name, content_type FROM system.formats"
_ERRORS = "SELECT code, value, last_error_message FROM system.errors"
_LOST_WRITES = "SELECT sum(value) FROM system.events WHERE event = 'WriteBufferFromFileDescriptorWriteFailed'"
_SET_ASIDE = """SELECT database, table, name, reason FROM system.detached_parts WHERE notEmpty(reason)
ORDER BY database, table, name"""
_SWITCHED_OFF = "file() is switched off: it reads files of the machine the store runs on"


@dataclass(frozen=True, slots=True)
class Summary:
    """What a statement did."""

    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    result_rows: int = 0
    result_bytes: int = 0
    elapsed_ns: int = 0


@dataclass(frozen=True, slots=True)
class Format:
    """An output format, as it is spelled and served."""

    name: str
    content_type: str


@dataclass(frozen=True, slots=True)
class SetAside:
    """A part of a table that does not count any more: its files, and why."""

    database: str
    table: str
    part: str
    reason: str


class Engine:
    """An open engine directory.

    Parameters
    ----------
    directory
        Prepared (see `StoreDirectory`) and not open anywhere else.
    config
        Configuration file of the engine.

    Raises
    ------
    InvariantBroken
        The engine did not start, or not with its configuration.
    """

    def __init__(self, directory: Path, config: Path) -> None:
        self._path = str(directory)
        # Built in, this function reads any file, whatever the rights: a Python function of that name stands
        # before it.
        chdb.create_function("file", _refuse_files, ["String"], "String")
        try:
            self._keeper = _connect(f"{self._path}?config-file={config}")
        except RuntimeError as error:
            raise InvariantBroken(
                f"the engine cannot open {directory} ({error}): see its words above"
            ) from None
        with self.session() as session:
            self.version, self.timezone, databases = session.rows(
                "SELECT version(), timezone(), (SELECT engine FROM system.databases WHERE name = 'default')"
            )[0]
            self.formats = {low: Format(name, kind) for low, name, kind in session.rows(_FORMATS)}
        if databases != "Atomic":
            self.close()
            raise InvariantBroken(f"the engine in {directory} did not take its configuration {config}")

    @contextmanager
    def session(
        self,
        database: str = "",
        settings: Mapping[str, str] | None = None,
        parameters: Mapping[str, str] | None = None,
    ) -> Iterator["Session"]:
        """Open a connection for one statement.

        Parameters
        ----------
        database
            Current database; the empty one means `default`.
        settings
            Of the engine, for this statement. `readonly` counts only after the others are set.
        parameters
            Values of ``{name:Type}`` in the statement, as text.

        Raises
        ------
        StatementError
            There is no such database or setting.
        """
        connection = _connect(self._path)
        try:
            session = Session(connection, dict(parameters or {}))
            if database:
                session.run(f"USE {_name(database)}".encode())
            if settings:
                session.run(_assign(settings))
            yield session
        finally:
            connection.close()

    def lost_writes(self) -> int:
        """How often a write failed in this process, of whatever statement or merge.

        chdb 26.9 passes over it (no space, a quota, a limit of the process), and keeps a part whose files are
        short or empty; no error tells, only this count. An engine that is opened anew sets such parts aside
        and takes those that they were merged from.
        """
        with self.session() as session:
            return int(session.rows(_LOST_WRITES)[0][0])

    def set_aside(self) -> list[SetAside]:
        """Parts that the engine could not read when it was opened, now or before; nobody deletes them."""
        with self.session() as session:
            return [SetAside(*row) for row in session.rows(_SET_ASIDE)]

    def kill(self, mark: str = "") -> None:
        """Cancel the statements whose `log_comment` begins with `mark`; without one, all."""
        condition = f"startsWith(Settings['log_comment'], {_literal(mark)}) AND query NOT LIKE 'KILL%'"
        with self.session() as session:
            session.run(f"KILL QUERY WHERE {condition} ASYNC".encode())

    def close(self) -> None:
        """Shut the engine down, so that the directory can be opened again."""
        self._keeper.close()


class Session:
    """A connection to the engine, for one statement."""

    def __init__(self, connection: Any, parameters: dict[str, str]) -> None:
        self._connection = connection
        self._parameters = parameters

    def classify(self, sql: bytes) -> tuple[str, int]:
        """What kind of statement the engine's parser sees, and how many."""
        report = self._connection._conn.classify_query(sql, "default")
        return report["query_class"].name, report["statement_count"]

    def run(self, sql: bytes, output_format: str = "TabSeparated") -> tuple[bytes, Summary]:
        """Execute a statement and return its whole output."""
        with _engine_errors():
            result = self._connection._conn.query(sql, output_format, params=self._parameters)
        return result.bytes(), Summary(
            read_rows=result.storage_rows_read(),
            read_bytes=result.storage_bytes_read(),
            written_rows=result.rows_written(),
            written_bytes=result.bytes_written(),
            result_rows=result.rows_read(),
            result_bytes=len(result),
            elapsed_ns=round(result.elapsed() * 1e9),
        )

    def rows(self, sql: str) -> list[list[str]]:
        """Execute a query and return its rows as text."""
        return [line.split("\t") for line in self.run(sql.encode())[0].decode(errors="replace").splitlines()]

    def stream(self, sql: bytes, output_format: str) -> Generator[bytes]:
        """Execute a query and yield its output block by block; closing the iterator cancels it.

        Only for formats whose blocks can be joined, without header or footer.
        """
        connection = self._connection._conn
        with _engine_errors():
            result = connection.send_query(sql, output_format, params=self._parameters)
        ended = False
        try:
            while not ended:
                with _engine_errors():
                    block = connection.streaming_fetch_result(result)
                ended = block.rows_read() == 0
                if not ended:
                    yield block.bytes()
        finally:
            if not ended:
                connection.streaming_cancel_query(result)

    def insert(self, sql: bytes, input_format: str, chunks: Iterable[bytes]) -> Summary:
        """Insert data; nothing of the block in hand is stored when `chunks` raises.

        Raises
        ------
        StatementError
            The data cannot be read, or the engine met an error meanwhile: whether rows stand is not known.
        """
        if self._parameters:
            # An insert takes them from the connection, where a query that carries its own would clear them.
            parameters, self._parameters = self._parameters, {}
            self.run(_assign({f"param_{name}": value for name, value in parameters.items()}))
        before = self.rows(_ERRORS)
        with _engine_errors():
            inserter = self._connection.send_insert(sql, input_format)
        with inserter:
            for chunk in chunks:
                with _engine_errors():
                    inserter.append(chunk)
            with _engine_errors():
                done = inserter.finish()
        # chdb 26.9 ends an insert as if all were well when its rows could not be written: the disk was full,
        # a constraint broken, the parts too many. The engine counts such errors, and those of others.
        if met := [error for error in self.rows(_ERRORS) if error not in before]:
            code, _, message = met[0]
            raise StatementError(int(code), f"{message}: whether the rows of this insert stand is not known")
        return Summary(
            written_rows=done.rows_written,
            written_bytes=done.bytes_written,
            result_rows=done.rows_written,
            result_bytes=done.bytes_written,
            elapsed_ns=round(done.elapsed * 1e9),
        )


@contextmanager
def _engine_errors() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, UnicodeDecodeError) as error:
        # The engine quotes statements in its errors, also those that are no UTF-8.
        text = error.object.decode(errors="replace") if isinstance(error, UnicodeDecodeError) else str(error)
        if _SWITCHED_OFF in text:
            raise StatementError(Code.ACCESS_DENIED, _SWITCHED_OFF) from None
        raise StatementError.from_engine(text) from None


def _refuse_files(_path: str) -> str:
    raise PermissionError(_SWITCHED_OFF)


def _assign(settings: Mapping[str, str]) -> bytes:
    return (
        "SET " + ", ".join(f"{_name(key)} = {_literal(value)}" for key, value in settings.items())
    ).encode()


def _connect(address: str) -> Any:
    return chdb.connect(address)  # type: ignore[no-untyped-call]


def _name(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def _literal(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
