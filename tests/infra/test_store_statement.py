import gzip
import zlib
from collections.abc import Callable, Iterator

import lz4.frame  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate_infra.store import codings, statement
from tidegate_infra.store.codings import zstd
from tidegate_infra.store.errors import StatementError
from tidegate_infra.store.statement import Insert

PACK: dict[str, Callable[[bytes], bytes]] = {
    "lz4": lz4.frame.compress,
    "zstd": zstd.compress,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"INSERT INTO t FORMAT CSV\n1,2\n", Insert(b"INSERT INTO t ", "CSV", b"1,2\n")),
        (
            b"insert into t (a, b) format JSONEachRow {}",
            Insert(b"insert into t (a, b) ", "JSONEachRow", b"{}"),
        ),
        (b"INSERT INTO t FORMAT CSV\r\n\n1", Insert(b"INSERT INTO t ", "CSV", b"\n1")),
        (b"INSERT INTO t FORMAT Native", Insert(b"INSERT INTO t ", "Native", b"")),
        (b"INSERT INTO t VALUES (1, 'a')", Insert(b"INSERT INTO t ", "Values", b" (1, 'a')")),
        (
            b"INSERT INTO t(format, values) VALUES (1)",
            Insert(b"INSERT INTO t(format, values) ", "Values", b" (1)"),
        ),
        (b"INSERT INTO d.values VALUES (1)", Insert(b"INSERT INTO d.values ", "Values", b" (1)")),
        (b"INSERT INTO format FORMAT TSV\n1", Insert(b"INSERT INTO format ", "TSV", b"1")),
        (b"INSERT INTO {t:Identifier} FORMAT TSV\n1", Insert(b"INSERT INTO {t:Identifier} ", "TSV", b"1")),
        (b"INSERT INTO `a FORMAT b` FORMAT TSV\n1", Insert(b"INSERT INTO `a FORMAT b` ", "TSV", b"1")),
        (
            b"/* FORMAT A */ INSERT INTO t SETTINGS x = 'FORMAT B' -- FORMAT C\n FORMAT D\n;1",
            Insert(b"/* FORMAT A */ INSERT INTO t SETTINGS x = 'FORMAT B' -- FORMAT C\n ", "D", b";1"),
        ),
        (b"INSERT INTO t SELECT 1 FORMAT Null", None),
        (b"INSERT INTO t (a) WITH 1 AS x SELECT x", None),
        (b"SELECT 'INSERT INTO t FORMAT CSV'", None),
        (b"INSERT", None),
        (b"", None),
    ],
)
def test_an_insert_is_cut_where_its_data_begins(text: bytes, expected: Insert | None) -> None:
    assert statement.insert_with_data(text) == expected


def test_an_insert_from_a_file_of_the_machine_is_refused() -> None:
    with pytest.raises(StatementError, match="INFILE"):
        statement.insert_with_data(b"INSERT INTO t FROM/**/INFILE '/etc/passwd' FORMAT CSV")


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (b"SELECT 1", None),
        (b"SELECT 1 FORMAT JSON", "JSON"),
        (b"SELECT 1\nformat CSVWithNames ;", "CSVWithNames"),
        (b"SELECT 1 FORMAT JSON SETTINGS max_threads = 1", "JSON"),
        (b"SELECT 'x FORMAT JSON'", None),
        (b"SELECT a AS format FROM t", None),
        (b"SELECT * FROM (SELECT 1 FORMAT JSON)", None),
        (b"SELECT 1 -- FORMAT JSON", None),
    ],
)
def test_the_format_that_a_query_asks_for_is_known(sql: bytes, expected: str | None) -> None:
    assert statement.output_format(sql) == expected


@pytest.mark.parametrize("sql", [b"SELECT 1 INTO OUTFILE 'x'", b"SHOW TABLES into/**/outfile 'x' FORMAT CSV"])
def test_output_into_a_file_is_seen(sql: bytes) -> None:
    assert statement.writes_file(sql)
    assert not statement.writes_file(b"SELECT 'INTO OUTFILE'")


@settings(max_examples=200)
@given(
    st.binary(max_size=300) | st.text("INSERTOFMAVLUES '\"`\\$/*-#;(){},.\n", max_size=300).map(str.encode)
)
def test_no_text_breaks_the_scanner(text: bytes) -> None:
    found = statement.insert_with_data(text)

    assert found is None or text.endswith(found.data)
    statement.output_format(text)
    statement.writes_file(text)


@pytest.mark.parametrize(
    "hostile",
    [
        b"'\\" * 500_000,
        b"`\\" * 500_000,
        b'"\\' * 500_000,
        b"`" * 999_999,
        b"/*" * 500_000,
        b"$a$b" * 250_000,
        b"(" * 10**6,
    ],
)
@pytest.mark.timeout(20)
def test_a_megabyte_of_unfinished_quotes_is_read_in_linear_time(hostile: bytes) -> None:
    assert statement.insert_with_data(b"INSERT INTO t " + hostile) is None


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    for size in sizes:
        yield data[:size]
        data = data[size:]
    yield data


@pytest.mark.parametrize("coding", codings.OFFERED)
@settings(max_examples=30)
@given(
    data=st.binary(max_size=3000),
    repeat=st.integers(1, 1000),
    sizes=st.lists(st.integers(0, 700), max_size=9),
)
def test_a_body_is_unpacked_however_it_is_cut(
    coding: str, data: bytes, repeat: int, sizes: list[int]
) -> None:
    body = data * repeat
    twice = PACK[coding](body) + PACK[coding](body)

    assert b"".join(codings.unpack(cut(twice, sizes), coding)) == body + body


@pytest.mark.parametrize("coding", codings.OFFERED)
@settings(max_examples=30)
@given(data=st.binary(min_size=1, max_size=300), short=st.integers(1, 8))
def test_a_packed_body_that_ends_early_is_an_error(coding: str, data: bytes, short: int) -> None:
    packed = PACK[coding](data)

    with pytest.raises(StatementError):
        b"".join(codings.unpack([packed[:-short]], coding))


@pytest.mark.parametrize("coding", codings.OFFERED)
@settings(max_examples=30)
@given(pieces=st.lists(st.binary(max_size=400), max_size=9))
def test_an_answer_packed_piece_by_piece_is_one_body(coding: str, pieces: list[bytes]) -> None:
    packer = codings.packer(coding)
    packed = [*(packer.compress(piece) for piece in pieces), packer.flush()]

    assert b"".join(codings.unpack(packed, coding)) == b"".join(pieces)


def test_a_bomb_is_unpacked_in_small_pieces() -> None:
    bomb = gzip.compress(bytes(100 << 20))

    assert max(map(len, codings.unpack([bomb], "gzip"))) <= 1 << 20


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("lz4,zstd,gzip", "lz4"),
        ("gzip, deflate;q=0.5, br", "gzip"),
        ("zstd;q=0, deflate", "deflate"),
        ("br", ""),
        ("", ""),
    ],
)
def test_the_best_coding_that_the_client_takes_is_chosen(header: str, coding: str) -> None:
    assert codings.accepted(header) == coding
