"""The embedded store and the unmodified client."""

from datetime import UTC, datetime
from decimal import Decimal

import clickhouse_connect
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError

from tidegate_infra.clickhouse.client import connect
from tidegate_infra.settings import Settings


def address(store: str) -> tuple[str, int]:
    host, port = store.removeprefix("http://").removesuffix("/default").split(":")
    return host, int(port)


def calls_table(client: Client) -> None:
    client.command("""
        CREATE TABLE calls
        (id Int64, app LowCardinality(String), at DateTime64(6, 'UTC'), cost Nullable(Decimal(18, 9)))
        ENGINE = MergeTree ORDER BY id SETTINGS non_replicated_deduplication_window = 1000
    """)


def test_rows_come_back_as_they_were_inserted(client: Client) -> None:
    calls_table(client)
    rows = [
        (1, "a", datetime(2024, 1, 1, microsecond=5, tzinfo=UTC), None),
        (2, "ü", datetime(2024, 1, 2, tzinfo=UTC), Decimal("0.000000001")),
    ]

    assert client.insert("calls", rows, column_names=["id", "app", "at", "cost"]).written_rows == 2

    assert (
        client.query("SELECT * FROM calls ORDER BY id", query_tz="UTC", tz_mode="aware").result_rows == rows
    )


def test_arrow_goes_in_and_out(client: Client) -> None:
    calls_table(client)
    table = pa.table(
        {
            "id": pa.array(range(100_000)),
            "app": pa.array(["a", "b"] * 50_000).dictionary_encode(),
            "at": pa.array([datetime(2024, 1, 1, tzinfo=UTC)] * 100_000, pa.timestamp("us", "UTC")),
            "cost": pa.array([None, Decimal("1.5")] * 50_000, pa.decimal128(18, 9)),
        }
    )

    assert client.insert_arrow("calls", table).written_rows == 100_000

    back = client.query_arrow("SELECT * FROM calls ORDER BY id", use_strings=True)
    assert back.column("id") == table.column("id")
    assert back.column("app").cast(pa.string()) == table.column("app").cast(pa.string())
    assert back.column("cost").cast(pa.decimal128(18, 9)) == table.column("cost")
    assert client.query_arrow("SELECT id FROM calls WHERE id < 0").num_rows == 0


@pytest.mark.parametrize(
    "value", ["it's", "a\\b\t\n\0", "ü", "'; DROP TABLE calls; --", "x" * 300_000, ""], ids=range(6)
)
def test_bound_text_arrives_as_it_is(client: Client, value: str) -> None:
    assert client.query("SELECT {value:String}", parameters={"value": value}).result_rows == [(value,)]


def test_an_insert_of_several_batches_is_one_block(client: Client) -> None:
    calls_table(client)
    batch = pa.table({"id": range(40_000), "app": ["a"] * 40_000})

    client.insert_arrow(
        "calls", pa.concat_tables([batch] * 3), settings={"insert_deduplication_token": "range"}
    )

    parts = "SELECT max(max_block_number) FROM system.parts WHERE database = {database:String} AND active"
    assert client.command("SELECT count() FROM calls") == 120_000
    assert client.command(parts, parameters={"database": client.database}) == 1


def test_bound_values_have_types(client: Client) -> None:
    result = client.query(
        "SELECT {n:Nullable(Int8)}, {a:Array(UInt8)}, toString({t:DateTime64(6, 'UTC')}), {k:UInt64}",
        parameters={"n": None, "a": [1, 2], "t": datetime(2024, 1, 1, 5, tzinfo=UTC), "k": 1},
    )
    assert result.result_rows == [(None, [1, 2], "2024-01-01 05:00:00.000000", 1)]


@pytest.mark.parametrize(
    ("sql", "code", "name"),
    [
        ("SELECT nothing", 47, "UNKNOWN_IDENTIFIER"),
        ("SELECT * FROM nowhere", 60, "UNKNOWN_TABLE"),
        ("SELEC 1", 62, "SYNTAX_ERROR"),
        ("SELECT throwIf(number = 150000) FROM numbers(200000)", 395, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"),
    ],
)
def test_errors_have_clickhouse_codes_and_names(client: Client, sql: str, code: int, name: str) -> None:
    with pytest.raises(DatabaseError) as error:
        client.query(sql)

    assert (error.value.code, error.value.name) == (code, name)


def test_a_repeated_token_inserts_once(client: Client) -> None:
    calls_table(client)
    table = pa.table({"id": [1, 2], "app": ["a", "b"]})
    for _ in range(3):
        client.insert_arrow("calls", table, settings={"insert_deduplication_token": "range:0-1"})
    client.insert_arrow("calls", table, settings={"insert_deduplication_token": "range:2-3"})

    assert client.command("SELECT count() FROM calls") == 4


def test_an_insert_that_the_engine_could_not_write_is_no_success(client: Client) -> None:
    client.command(
        "CREATE TABLE picky (a UInt64, CONSTRAINT small CHECK a < 2) ENGINE = MergeTree ORDER BY a "
        "SETTINGS parts_to_throw_insert = 1, parts_to_delay_insert = 0"
    )
    with pytest.raises(DatabaseError, match="is violated") as violated:
        client.insert_arrow("picky", pa.table({"a": pa.array([1, 2], pa.uint64())}))
    client.insert_arrow("picky", pa.table({"a": pa.array([1], pa.uint64())}))
    with pytest.raises(DatabaseError, match="Too many parts") as refused:
        client.insert_arrow("picky", pa.table({"a": pa.array([0], pa.uint64())}))
    assert (violated.value.code, refused.value.code) == (469, 252)
    assert client.query("SELECT a FROM picky").result_rows == [(1,)]


def test_a_large_answer_is_streamed(client: Client) -> None:
    with client.query_row_block_stream("SELECT number, toString(number) FROM numbers(300000)") as blocks:
        sizes = [len(block) for block in blocks]

    assert sum(sizes) == 300_000
    assert len(sizes) > 1
    with client.query_arrow_stream("SELECT number FROM numbers(300000)") as batches:
        assert sum(batch.num_rows for batch in batches) == 300_000


def test_an_error_in_the_middle_of_a_stream_reaches_the_client(client: Client) -> None:
    sql = "SELECT throwIf(number = 250000) FROM numbers(300000) SETTINGS max_block_size = 1000"
    with pytest.raises(StreamFailureError, match="non-zero"), client.query_row_block_stream(sql) as blocks:
        for _ in blocks:
            pass


@pytest.mark.parametrize("compress", ["lz4", "zstd", "gzip", False])
def test_each_compression_of_the_client_works_both_ways(
    store: str, settings: Settings, compress: str | bool
) -> None:
    connect(settings).command("CREATE TABLE t (a Int64) ENGINE = MergeTree ORDER BY a")
    host, port = address(store)
    database = settings.clickhouse.rpartition("/")[2]
    client = clickhouse_connect.get_client(host=host, port=port, database=database, compress=compress)

    client.insert("t", [[number] for number in range(20_000)], column_names=["a"])

    assert sum(row[0] for row in client.query("SELECT a FROM t").result_rows) == sum(range(20_000))
    client.close()


def test_settings_of_a_request_end_with_it(client: Client) -> None:
    assert client.command("SELECT getSetting('max_threads')", settings={"max_threads": 3}) == 3
    assert client.command("SELECT value FROM system.settings WHERE name = 'max_threads'") != "3"
