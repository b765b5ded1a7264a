"""Whatever bytes come, the promises of `targets` hold: a short run of what `make fuzz` does for long."""

import functools
import io
import json
from dataclasses import replace

import pytest
from confluent_kafka import Message
from fastavro import schemaless_writer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fuzz.seeds import full
from tests.fuzz.targets import TARGETS

from tidegate import codec
from tidegate.errors import ContractError
from tidegate.records import EndOfStream, LLMCall
from tidegate.versions import latest
from tidegate_infra.kafka.batches import decode_batch

CALL = codec.encode(full(LLMCall))[10:]
ODD = {
    "another branch than a writer's": (b"\x02\x08prod", b"\x03\x08prod"),
    "a Boolean of five": (b"\x01\x02\x08prod", b"\x05\x02\x08prod"),
    "a block of as many items as nobody can count": (b"\x02\x08prod\x00", b"\xff" * 9 + b"\x01\x02\x00"),
}
"""What no writer writes, and blocks read all the same."""

FOUND = [
    ("request", b"POST \nhost: localhost\nauthorization: Basic \xe9\n\nSELECT 1"),
    ("avro", b"\xc3\x01" + latest(EndOfStream).fingerprint + b"\x02r" + b"\xff" * 9 + b"\x01"),
    ("json record", b"\x00{" + codec.as_json(replace(full(LLMCall), seq=10**30)).encode()),
    ("json record", b"\x00{" + codec.as_json(replace(full(LLMCall), http_status=2**31)).encode()),
]
"""What once broke a promise, or nearly did."""

MANY_BITS = 2**33 + 1
"""Its lowest 32 bits are the number of a first attempt."""

Edit = tuple[int, int, bytes]
EDITS = st.lists(st.tuples(st.integers(0, 4_000), st.integers(0, 6), st.binary(max_size=6)), max_size=6)


@functools.cache
def seeds(name: str) -> list[bytes]:
    return list(TARGETS[name].seeds())


def edited(data: bytes, edits: list[Edit]) -> bytes:
    for place, width, new in edits:
        at = place % (len(data) + 1)
        data = data[:at] + new + data[at + width :]
    return data


# Of batches `tests/infra/test_batches.py` makes enough.
@pytest.mark.parametrize("name", sorted(TARGETS.keys() - {"batch"}))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
@given(data=st.data())
def test_damaged_input_breaks_no_promise(name: str, data: st.DataObject) -> None:
    TARGETS[name].check(edited(data.draw(st.sampled_from(seeds(name))), data.draw(EDITS)))


@pytest.mark.parametrize("name", TARGETS)
def test_what_mutations_begin_with_is_accepted_as_it_is(name: str) -> None:
    for seed in seeds(name):
        TARGETS[name].check(seed)


def with_many_bits(call: LLMCall) -> bytes:
    """A call whose `attempt`, an int, has as many bytes as a long."""
    out = io.BytesIO()
    wide = json.loads(json.dumps(latest(LLMCall).parsed).replace('"int"', '"long"'))
    schemaless_writer(out, wide, codec.as_dict(call))
    return codec.SINGLE_OBJECT + latest(LLMCall).fingerprint + out.getvalue()


def test_an_int_of_many_bits_is_refused_whichever_way_it_is_read() -> None:
    call = full(LLMCall)
    values = [codec.encode(call), with_many_bits(replace(call, attempt=MANY_BITS)), with_many_bits(call)]
    messages = [
        Message(topic="t", partition=0, offset=offset, key=b"prod", value=value, timestamp=(2, 1))
        for offset, value in enumerate(values * 30)
    ]
    for slow in (False, True):
        batch = decode_batch(messages, columns=["attempt", "retrieval"], slow=slow)
        assert {m.offset() % 3 for m, _, _ in batch.rejected} == {1}
        assert {reason for _, reason, _ in batch.rejected} == {"invalid_field"}
        assert batch.frame.get_column("attempt").to_list() == [call.attempt] * 60
    with pytest.raises(ContractError, match=f"attempt is {MANY_BITS}"):
        codec.decode(values[1])
    inside = with_many_bits(replace(call, retrieval=replace(call.retrieval, count=MANY_BITS)))
    with pytest.raises(ContractError, match=f"count is {MANY_BITS}"):
        codec.decode(inside)
    for slow in (False, True):
        nested = [Message(topic="t", partition=0, offset=0, key=b"prod", value=inside, timestamp=(2, 1))]
        [(_, reason, _)] = decode_batch(nested, columns=["retrieval"], slow=slow).rejected
        assert reason == "invalid_field"


@pytest.mark.parametrize("what", ODD)
def test_what_no_writer_writes_is_read_alike_wherever_it_stands(what: str) -> None:
    usual, odd = ODD[what]
    places = [at for at in range(len(CALL)) if CALL.startswith(usual, at)][::3]
    assert places
    for at in places:
        changed = CALL[:at] + odd + CALL[at + len(usual) :]
        for columns in (b"\x00", b"\x01"):
            TARGETS["datum"].check(columns + changed)


@pytest.mark.parametrize(("name", "data"), FOUND)
def test_what_once_broke_a_promise_breaks_none(name: str, data: bytes) -> None:
    TARGETS[name].check(data)
