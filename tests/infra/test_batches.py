import io
import random
import struct
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import polars as pl
import pytest
from confluent_kafka import Message
from fastavro import schemaless_writer
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate import codec, versions
from tidegate.errors import ContractError
from tidegate.records import (
    Attribute,
    Content,
    EndOfStream,
    Evaluation,
    Feedback,
    Guardrail,
    LLMCall,
    Retrieval,
    Routing,
    Series,
    UsageOther,
)
from tidegate.vocabulary import CLOSED
from tidegate_infra.kafka import blocks, rules
from tidegate_infra.kafka.batches import decode_batch
from tidegate_streams.aggregate.columns import CALL_COLUMNS
from tidegate_streams.aggregate.ratings import EVALUATION_COLUMNS, FEEDBACK_COLUMNS

CALL = LLMCall(
    event_id="0190a0b0-0000-7000-8000-000000000001",
    producer_id="p",
    seq=7,
    ts_start=1_760_000_000_000_000,
    ts_end=1_760_000_001_250_000,
    ttft_us=200_000,
    tenant="acme",
    app="support",
    environment="prod",
    budget_keys=["team:x", "key:y"],
    deployment="chat",
    variant="base",
    assignment_hash=-(2**63),
    assignment_reason="split",
    operation="chat",
    provider="openai",
    request_model="gpt-4o",
    temperature=0.5,
    status="ok",
    input_tokens=10,
    output_tokens=2**29,
    usage_other=[UsageOther(unit="audio.input_tokens", quantity=1.5)],
    reported_cost_usd=Decimal("0.000123456"),
    guardrails=[
        Guardrail(name="pii", stage="input", triggered=False, categories=["a", "b"], score=0.25),
        Guardrail(name="toxic", stage="output", action="block", triggered=True),
    ],
    routing=Routing(router="r"),
    retrieval=Retrieval(count=3, duration_us=12_000, doc_ids=["d"]),
    content=Content(input="é\U0001f600", bytes=5),
    tags=["x"],
    attributes=[Attribute(key="k", value="v")],
)
PLAIN = LLMCall(
    event_id="e", ts_start=1, ts_end=2, tenant="t", app="a", environment="e", deployment="d", variant="v",
    operation="chat", provider="p", request_model="m", status="ok",
)  # fmt: skip
SERIES = Series(
    app="a", environment="e", deployment="d", variant="v", operation="chat", provider="p", request_model="m",
    traffic="live", comparable=True,
)  # fmt: skip


FEEDBACK = Feedback(event_id="f", ts=5, tenant="t", name="helpful", kind="stars", given_by="user")
EVALUATION = Evaluation(event_id="f", ts=5, tenant="t", name="faithful", kind="judge", evaluator="j")


def message(offset: int, value: bytes | None) -> Message:
    """As a producer sends it: a call's key is its id."""
    try:
        key = codec.decode(value or b"").event_id.encode()
    except (ContractError, AttributeError):
        key = CALL.event_id.encode()
    return Message(topic="t", partition=0, offset=offset, value=value, key=key, timestamp=(2, 0))


def messages(values: list[bytes | None], first: int = 100) -> list[Message]:
    return [message(first + i, value) for i, value in enumerate(values)]


def rows(frame: pl.DataFrame) -> dict[int, dict]:
    return {row.pop("_offset"): row for row in frame.to_dicts()}


text = st.text(max_size=5)
some_text = st.text(min_size=1, max_size=5)
maybe = st.none() | text
number = st.integers(-(2**63), 2**63 - 1)
calls = st.builds(
    replace,
    st.sampled_from([CALL, PLAIN]),
    event_id=some_text,
    seq=st.none() | number,
    ts_end=st.integers(CALL.ts_end, CALL.ts_end + 10**11),
    ts_start=st.integers(CALL.ts_start, CALL.ts_end),
    temperature=st.none() | st.floats(allow_nan=False),
    tags=st.lists(text, max_size=3),
    error_message=maybe,
    status=st.sampled_from(["ok", "error", "brand_new"]),
    outcome=st.sampled_from([None, "answered", "shrugged"]),
    http_status=st.none() | st.integers(-(2**31), 2**31 - 1),
    reported_cost_usd=st.none() | st.decimals(-999_999_999, 999_999_999, places=9),
    guardrails=st.lists(
        st.builds(
            Guardrail,
            name=text,
            stage=st.sampled_from(["input", "elsewhere"]),
            triggered=st.none() | st.booleans(),
            action=st.sampled_from(["none", "vaporise"]),
            categories=st.lists(text, max_size=2),
        ),
        max_size=2,
    ),
    retrieval=st.none() | st.builds(Retrieval, count=st.integers(0, 9), doc_ids=st.lists(text, max_size=2)),
)


@given(records=st.lists(calls, max_size=5))
@settings(max_examples=60, deadline=None)
def test_the_fast_and_the_slow_way_give_the_same_rows(records: list[LLMCall]) -> None:
    values = messages([codec.encode(record) for record in records])
    fast, slow = decode_batch(values), decode_batch(values, slow=True)
    assert fast.frame.schema == slow.frame.schema
    assert fast.frame.equals(slow.frame)
    assert (fast.alone, slow.alone) == (0, len(records))
    assert not fast.rejected


def test_every_field_arrives_as_it_was_sent() -> None:
    row = rows(decode_batch(messages([codec.encode(CALL)])).frame)[100]
    assert row == codec.as_dict(CALL)


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize(
    ("name", "record"),
    [
        (
            "Feedback",
            Feedback(
                event_id="f",
                ts=5,
                tenant="t",
                name="helpful",
                kind="thumbs",
                given_by="user",
                positive=True,
                series=replace(SERIES, traffic="parallel"),
            ),
        ),
        ("Feedback", FEEDBACK),
        (
            "Evaluation",
            Evaluation(
                event_id="f",
                ts=5,
                tenant="t",
                name="faithful",
                kind="judge",
                evaluator="j",
                value=0.5,
                series=SERIES,
                cost_usd=Decimal("0.1"),
            ),
        ),
    ],
)
def test_ratings_decode_with_their_series(name: str, record: Feedback | Evaluation, slow: bool) -> None:
    row = rows(decode_batch(messages([codec.encode(record)]), name, slow=slow).frame)[100]
    expected = codec.as_dict(record)
    if record.series and record.series.traffic == "parallel":
        expected["series"]["traffic"] = "other"
    if record.kind == "judge":
        expected["cost_usd"] = Decimal("0.100000000")
    assert row == expected


def test_values_outside_a_closed_list_become_other_also_when_nested() -> None:
    strange = replace(CALL, status="brand_new", guardrails=[replace(CALL.guardrails[0], action="vaporise")])
    frame = decode_batch(messages([codec.encode(strange), codec.encode(CALL)])).frame
    assert frame["status"].to_list() == ["other", "ok"]
    actions = [[guardrail["action"] for guardrail in one] for one in frame["guardrails"].to_list()]
    assert actions == [["other"], ["none", "block"]]


def test_only_the_columns_asked_for_are_decoded_in_their_order() -> None:
    wanted = ["status", "event_id", "guardrails"]
    values = messages([codec.encode(CALL), codec.encode(PLAIN)])
    fast, slow = decode_batch(values, columns=wanted), decode_batch(values, columns=wanted, slow=True)
    assert fast.frame.columns == ["_offset", *wanted]
    assert fast.frame.equals(slow.frame)
    assert fast.frame.equals(decode_batch(values).frame.select("_offset", *wanted))


def test_no_messages_give_no_rows_and_all_columns() -> None:
    batch = decode_batch([], columns=["tenant", "retrieval"])
    assert batch.frame.height == 0
    one = decode_batch(messages([codec.encode(CALL)]), columns=["tenant", "retrieval"])
    assert batch.frame.schema == one.frame.schema


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"\xc3\x01", "undecodable"),
        (b"\xc3\x01\0\0\0\0\0\0\0\0rest", "unknown_schema"),
        (b"hello", "unknown_framing"),
        (b"\0\0\0\0\x07datum", "no_registry"),
        (codec.encode(CALL)[:-1], "undecodable"),
        (codec.encode(CALL)[:60], "undecodable"),
        (codec.encode(CALL)[:10], "undecodable"),
        (codec.encode(CALL) + b"\0", "trailing_bytes"),
        (codec.encode(PLAIN) + codec.encode(PLAIN)[10:], "trailing_bytes"),
        (codec.encode(Feedback(event_id="f", name="n", kind="thumbs", given_by="user")), "unexpected_record"),
    ],
)
@pytest.mark.parametrize("slow", [False, True])
def test_bad_bytes_are_refused_with_their_reason_and_the_rest_counts(
    value: bytes | None, reason: str, slow: bool
) -> None:
    good = [codec.encode(replace(PLAIN, event_id=str(i))) for i in range(200)]
    batch = decode_batch(messages([*good[:77], value, *good[77:]]), slow=slow)
    assert [(one.message.offset(), one.reason) for one in batch.rejected] == [(177, reason)]
    assert batch.frame["event_id"].to_list() == [str(i) for i in range(200)]
    assert batch.frame["_offset"].to_list() == [i for i in range(100, 301) if i != 177]


def with_text(record: LLMCall | Feedback | Evaluation, field: str, text: bytes) -> bytes:
    """A record with these bytes as the text of a field."""
    marked = "\u2603" * (len(text) // 3)
    dtype = str(type(record).__annotations__[field])
    value = [marked] if dtype.startswith("list[str]") else marked
    data = codec.encode(replace(record, **{field: value}))
    assert marked.encode() in data
    return data.replace(marked.encode(), text)


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize(
    ("record", "columns"),
    [(CALL, CALL_COLUMNS), (FEEDBACK, FEEDBACK_COLUMNS), (EVALUATION, EVALUATION_COLUMNS)],
    ids=lambda value: type(value).__name__,
)
def test_text_that_is_no_utf_8_is_judged_alike_by_who_reads_its_field_and_who_does_not(
    record: LLMCall | Feedback | Evaluation, columns: tuple[str, ...], slow: bool
) -> None:
    name = type(record).__name__
    texts = [field for field, hint in type(record).__annotations__.items() if "str" in str(hint)]
    values = messages([with_text(record, field, b"ab\xffcde") for field in texts], first=0)
    # What stage 1 reads, and what the sink does.
    for part in (columns, None):
        batch = decode_batch(values, name, part, slow=slow)
        refused = {texts[one.message.offset()] for one in batch.rejected}
        assert refused == set(texts) & set(rules.columns(name))
        assert {one.reason for one in batch.rejected} == {"undecodable"}
    for offset, row in rows(batch.frame).items():
        field = texts[offset]
        assert "ab\ufffdcde" in row[field] or (row[field] == "other" and field in CLOSED[name]), field


WORDS = b"\x04\x08abcd\x08efgh\x00"
"""Two words as an array without a length in bytes."""

# Where the words can be read, nobody needs their length.
BLOCKS = {
    "a true length": (b"\x03\x14\x08abcd\x08efgh\x00", True),
    "a length of one byte too many": (b"\x03\x16\x08abcd\x08efgh\x00", True),
    "a length of no byte": (b"\x03\x00\x08abcd\x08efgh\x00", True),
    "a length below nothing": (b"\x03\x13\x08abcd\x08efgh\x00", True),
    "a true length of words that are longer": (b"\x03\x14\x40abcd\x40efgh\x00", False),
    "a true length of more words": (b"\x07\x14\x08abcd\x08efgh\x00", False),
}


def lying(record: LLMCall | Feedback | Evaluation) -> list[tuple[str, bytes, bool]]:
    """What is damaged, the bytes, and whether they count after all."""
    whole = codec.encode(replace(record, tags=["abcd", "efgh"]))
    assert WORDS in whole
    made = [(what, whole.replace(WORDS, block), counts) for what, (block, counts) in BLOCKS.items()]
    if isinstance(record, LLMCall):
        cost = Decimal(int.from_bytes(b"abcdefg")).scaleb(-9)
        large = codec.encode(replace(record, http_status=2**31 - 1, reported_cost_usd=cost))
        made += [
            ("33 bits", large.replace(b"\xfe\xff\xff\xff\x0f", b"\x80\x80\x80\x80\x40"), False),
            ("a long decimal", large.replace(b"\x0eabcdefg", b"\x22abcdefghijklmnopq"), False),
        ]
        assert all(value != large for _, value, _ in made)
    return made


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize(
    ("record", "columns"),
    [(CALL, CALL_COLUMNS), (FEEDBACK, FEEDBACK_COLUMNS), (EVALUATION, EVALUATION_COLUMNS)],
    ids=lambda value: type(value).__name__,
)
def test_damage_is_judged_alike_by_who_reads_its_field_and_who_does_not(
    record: LLMCall | Feedback | Evaluation, columns: tuple[str, ...], slow: bool
) -> None:
    damaged = lying(record)
    values = messages([value for _, value, _ in damaged], first=0)
    for part in (columns, None):
        batch = decode_batch(values, type(record).__name__, part, slow=slow)
        counted = [damaged[offset][0] for offset in batch.frame["_offset"]]
        assert counted == [what for what, _, counts in damaged if counts], part


def test_an_end_of_stream_stands_apart() -> None:
    end = EndOfStream(run_id="r", ts=9)
    batch = decode_batch(messages([codec.encode(PLAIN), codec.encode(end), codec.encode(PLAIN)]))
    assert batch.frame["_offset"].to_list() == [100, 102]
    assert [(one.offset(), record) for one, record in batch.ends] == [(101, end)]
    broken = decode_batch(messages([codec.encode(end)[:-1]]))
    assert [one.reason for one in broken.rejected] == ["undecodable"]


def test_an_end_of_stream_among_feedback_is_refused() -> None:
    batch = decode_batch(messages([codec.encode(EndOfStream(run_id="r", ts=9))]), "Feedback")
    assert [one.reason for one in batch.rejected] == ["unexpected_record"]


class OneSchema:
    def __init__(self, version: versions.Version) -> None:
        self._version = version

    def version(self, schema_id: int) -> versions.Version:
        assert schema_id == 5
        return self._version

    def schema_id(self, version: versions.Version, topic: str) -> int:
        raise AssertionError("reading registers nothing")


def test_confluent_framing_is_read_in_blocks_too() -> None:
    registry = OneSchema(versions.latest(LLMCall))
    values = messages([codec.encode_confluent(CALL, 5), codec.encode(CALL)])
    batch = decode_batch(values, registry=registry)
    assert batch.alone == 0
    assert rows(batch.frame) == {100: codec.as_dict(CALL), 101: codec.as_dict(CALL)}


def older_call() -> versions.Version:
    """A schema as an old release might have had it: fields missing, nested ones too, a narrower number."""
    source = {**versions.latest(LLMCall).source}
    fields = []
    for field in source["fields"]:
        if field["name"] in ("source", "tags", "segment", "retrieval", "sample_rate", "head_sampled"):
            continue
        if field["name"] == "guardrails":
            items = field["type"]["items"]
            kept = [f for f in items["fields"] if f["name"] not in ("action", "score", "categories")]
            field = {**field, "type": {**field["type"], "items": {**items, "fields": kept}}}
        if field["name"] == "routing":
            branch = field["type"][1]
            kept = [f for f in branch["fields"] if f["name"] != "score"]
            field = {**field, "type": ["null", {**branch, "fields": kept}]}
        if field["name"] == "output_tokens":
            field = {**field, "type": ["null", "int"]}
        fields.append(field)
    fields.append({"name": "gone_since", "type": "string"})
    return versions.load("call", 0, {**source, "fields": fields})


@pytest.mark.parametrize("columns", [None, ["tags", "guardrails", "output_tokens", "event_id", "retrieval"]])
def test_rows_of_an_older_writer_get_the_readers_columns_and_defaults(columns: list[str] | None) -> None:
    old = older_call()
    stream = io.BytesIO()
    schemaless_writer(
        stream, old.parsed, codec.as_dict(replace(CALL, output_tokens=12)) | {"gone_since": "yesterday"}
    )
    written = b"\0" + struct.pack(">I", 5) + stream.getvalue()
    values = messages([codec.encode(CALL), written, codec.encode(CALL)])
    fast = decode_batch(values, columns=columns, registry=OneSchema(old))
    slow = decode_batch(values, columns=columns, registry=OneSchema(old), slow=True)
    assert fast.alone == 0
    assert not fast.rejected
    assert fast.frame.equals(slow.frame)
    row = rows(fast.frame)[101]
    assert row["tags"] == []
    assert row["output_tokens"] == 12
    assert row["retrieval"] is None
    assert row["guardrails"][0] | {"action": "none", "score": None, "categories": []} == row["guardrails"][0]


def _flip(random: random.Random, value: bytearray) -> None:
    value[random.randrange(10, len(value))] = random.randrange(256)


def _drop(random: random.Random, value: bytearray) -> None:
    del value[random.randrange(10, len(value))]


def _insert(random: random.Random, value: bytearray) -> None:
    value.insert(random.randrange(10, len(value)), random.randrange(256))


def _cut(random: random.Random, value: bytearray) -> None:
    del value[random.randrange(10, len(value)) :]


@pytest.mark.long
@pytest.mark.parametrize("mutate", [_flip, _drop, _insert, _cut])
def test_a_mutated_record_never_changes_its_neighbours(
    mutate: Callable[[random.Random, bytearray], None],
) -> None:
    generator = random.Random(20_26)
    good = [codec.encode(replace(CALL, event_id=str(i), seq=i)) for i in range(90)]
    expected = rows(decode_batch(messages(good)).frame)
    for _ in range(60):
        values = list(good)
        broken = generator.randrange(len(values))
        value = bytearray(values[broken])
        mutate(generator, value)
        values[broken] = bytes(value)
        batch = decode_batch(messages(values))
        actual = rows(batch.frame)
        accounted = [one.message.offset() for one in batch.rejected]
        assert sorted([*actual, *accounted]) == sorted(expected)
        assert accounted in ([], [100 + broken])
        actual.pop(100 + broken, None)
        assert actual == {offset: row for offset, row in expected.items() if offset != 100 + broken}


def test_a_shift_that_balances_is_caught_by_the_sentinels() -> None:
    """One datum a byte longer, the next a byte shorter: the block's length is right, and both are refused."""
    first, second = codec.encode(PLAIN), codec.encode(PLAIN)
    with pytest.raises(blocks.BrokenBlock):
        blocks.read_block(
            versions.latest(LLMCall),
            10,
            [1, 2],
            [first + second[10:11], first[:10] + second[11:]],
            ["event_id"],
        )
    batch = decode_batch(messages([first + second[10:11], first[:10] + second[11:]]))
    assert batch.frame.height == 0
    assert len(batch.rejected) == 2


SERIES_OF = Feedback(event_id="f", ts=5, tenant="t", name="n", kind="thumbs", given_by="user", series=SERIES)
JUDGED = Evaluation(event_id="f", ts=5, tenant="t", name="n", kind="judge", evaluator="j", series=SERIES)


@pytest.mark.parametrize(
    ("record", "reason", "field"),
    [
        (replace(CALL, tenant=""), "missing_field", "tenant"),
        (replace(CALL, variant="v" * 257), "oversized_field", "variant"),
        (replace(CALL, prompt_name="n" * 257), "oversized_field", "prompt_name"),
        (replace(CALL, ts_end=CALL.ts_start - 1), "negative_duration", "ts_end - ts_start is -1"),
        (replace(CALL, ts_end=CALL.ts_start + 10**12 + 1), "implausible", "ts_end - ts_start"),
        (replace(CALL, ts_end=10**16 + 1, ts_start=10**16), "implausible", "ts_end"),
        (replace(CALL, ttft_us=-1), "negative_duration", "ttft_us is -1"),
        (replace(CALL, retrieval=Retrieval(count=1, duration_us=-7)), "negative_duration", "retrieval"),
        (replace(CALL, output_tokens=-5), "negative_count", "output_tokens is -5"),
        (replace(CALL, output_tokens=10**9 + 1), "implausible", "output_tokens"),
        (replace(CALL, sample_rate=0.0), "implausible", "sample_rate is 0"),
        (replace(CALL, sample_rate=float("nan")), "implausible", "sample_rate"),
        (replace(CALL, attempt=0), "implausible", "attempt"),
        (replace(SERIES_OF, tenant=""), "missing_field", "tenant"),
        (replace(SERIES_OF, value=float("inf")), "implausible", "value"),
        (replace(SERIES_OF, value=float("nan")), "implausible", "value"),
        (replace(SERIES_OF, value=7.0), "implausible", "value is 7"),
        (replace(SERIES_OF, series=replace(SERIES, app="")), "missing_field", "series.app"),
        (replace(JUDGED, sample_rate=1.5), "implausible", "sample_rate is 1.5"),
    ],
)
@pytest.mark.parametrize("slow", [False, True])
def test_a_record_that_breaks_a_rule_is_refused_by_name(
    record: object, reason: str, field: str, slow: bool
) -> None:
    name = type(record).__name__
    fine = {"LLMCall": CALL, "Feedback": SERIES_OF, "Evaluation": JUDGED}[name]
    fine = replace(fine, series=None) if name != "LLMCall" else replace(fine, output_tokens=5)
    values = messages([codec.encode(fine), codec.encode(record), codec.encode(fine)])
    batch = decode_batch(values, name, columns=["tenant"], slow=slow)
    assert batch.frame["_offset"].to_list() == [100, 102]
    (refused,) = batch.rejected
    assert (refused.message.offset(), refused.reason) == (101, reason)
    assert field in refused.detail
    assert reason in rules.REASONS


def test_a_call_under_another_key_is_refused() -> None:
    value = codec.encode(PLAIN)
    strangers = [
        Message(topic="t", partition=0, offset=offset, value=value, key=key, timestamp=(2, 0))
        for offset, key in enumerate([b"e", b"x", None])
    ]
    for listed in (strangers, [*strangers, message(9, b"junk")]):
        batch = decode_batch(listed)
        assert batch.frame["_offset"].to_list() == [0]
        assert [one.reason for one in batch.rejected if one.message.offset() in (1, 2)] == [
            "key_mismatch"
        ] * 2


@pytest.mark.parametrize("refused", [1, 2, 3, 4])
def test_the_refused_of_a_block_that_was_halved_are_named_when_its_first_half_has_none(refused: int) -> None:
    fine = [message(offset, codec.encode(PLAIN)) for offset in range(80)]
    broken = message(80, codec.encode(replace(PLAIN, event_id="f"))[:-3])
    value = codec.encode(PLAIN)
    strangers = [
        Message(topic="t", partition=0, offset=81 + n, value=value, key=b"x", timestamp=(2, 0))
        for n in range(refused)
    ]
    negative = codec.encode(replace(PLAIN, input_tokens=-5))
    rule_breakers = [message(81 + refused + n, negative) for n in range(refused)]
    batch = decode_batch([*fine, broken, *strangers, *rule_breakers])
    reasons = sorted(one.reason for one in batch.rejected)
    assert reasons == ["key_mismatch"] * refused + ["negative_count"] * refused + ["undecodable"]


def test_messages_of_several_partitions_decode_together() -> None:
    other = Message(topic="t", partition=1, offset=100, value=codec.encode(PLAIN), key=b"e", timestamp=(2, 0))
    batch = decode_batch([message(100, codec.encode(CALL)), message(101, b"junk"), other])
    assert batch.rows.to_list() == [0, 2]
    assert batch.frame["_offset"].to_list() == [100, 100]
    assert batch.frame["event_id"].to_list() == [CALL.event_id, "e"]
