import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from genai_prices import Usage, data_snapshot
from genai_prices.data import providers
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate import codec
from tidegate.records import LLMCall, PriceTable, UsageOther
from tidegate_infra import price_table, prices
from tidegate_infra.prices import PriceBook

RECORDED = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "recorded_usages.jsonl").read_text("utf-8").splitlines()
]
NOON = datetime(2025, 11, 6, 12, tzinfo=UTC)
MODELS = [(provider.id, model) for provider in providers for model in provider.models]
# Units that a call carries in fields of its own.
OWN = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_tokens": "cache_read_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "cache_write_1h_tokens": "cache_write_1h_tokens",
    "output_reasoning_tokens": "reasoning_tokens",
}


def call(at: datetime = NOON, **fields: Any) -> dict[str, Any]:
    usual = {
        "provider": "openai",
        "request_model": "gpt-4o",
        "status": "ok",
        "input_tokens": 1000,
        "output_tokens": 100,
    }
    record = LLMCall(ts_start=0, ts_end=int(at.timestamp() * 1_000_000), operation="chat", **usual | fields)
    values = codec.as_dict(record)
    return {column: values[column] for column in prices.COLUMNS}


SCHEMA = {
    "ts_end": pl.Int64,
    **dict.fromkeys(("provider", "request_model", "response_model", "service_tier", "status"), pl.String),
    **dict.fromkeys(("is_leaf", "cache_hit"), pl.Boolean),
    **dict.fromkeys([column for column in prices.COLUMNS if column.endswith("tokens")], pl.Int64),
    "usage_other": pl.List(pl.Struct({"unit": pl.String, "quantity": pl.Float64})),
}


def price(*calls: dict[str, Any], book: PriceBook | None = None) -> list[tuple[int | None, str]]:
    priced = (book or PriceBook.load()).price(pl.DataFrame(calls, schema=SCHEMA))
    return list(zip(priced["cost_usd_nano"].to_list(), priced["cost_status"].to_list(), strict=True))


def expected(
    provider: str, model: str, usage: dict[str, Any], at: datetime, tier: str | None = None
) -> Decimal:
    context = {"service_tier": tier} | ({"processing": "batch"} if tier == "batch" else {}) if tier else None
    calculated = data_snapshot.get_snapshot().calc(Usage(**usage), model, provider, None, at, context)
    return calculated.total_price * 10**9


def of_usage(usage: dict[str, int]) -> dict[str, Any]:
    own = {OWN[unit]: count for unit, count in usage.items() if unit in OWN}
    rest = [UsageOther(unit=unit, quantity=float(count)) for unit, count in usage.items() if unit not in OWN]
    return {"input_tokens": None, "output_tokens": None, **own, "usage_other": rest}


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda one: f"{one['provider']}-{one['model']}")
def test_recorded_usage_costs_what_genai_prices_says(recorded: dict[str, Any]) -> None:
    usage = recorded["usage"]
    (cost, status) = price(
        call(provider=recorded["provider"], request_model=recorded["model"], **of_usage(usage))
    )[0]
    if status == "unpriced":
        # Embeddings and the like report no output, and are charged none.
        assert "output_tokens" not in usage
        return
    try:
        truth = expected(recorded["provider"], recorded["model"], usage, NOON)
    except ValueError:
        pytest.fail("genai-prices refuses a usage that was priced here")
    assert abs((cost or 0) - truth) <= Decimal("0.51")


@given(
    chosen=st.sampled_from(MODELS),
    at=st.datetimes(datetime(2023, 3, 1), datetime(2026, 10, 30)),  # noqa: DTZ001 - hypothesis adds the zone
    tier=st.sampled_from([None, None, "default", "flex", "priority", "batch", "fast", "unheard_of"]),
    counts=st.lists(st.integers(0, 400_000), min_size=6, max_size=6),
)
@settings(max_examples=400, deadline=None)
def test_every_model_costs_what_genai_prices_says_at_any_time(
    chosen: tuple[str, Any], at: datetime, tier: str | None, counts: list[int]
) -> None:
    provider, model = chosen
    at = at.replace(tzinfo=UTC)
    read, write, write_1h, plain, output, reasoning = counts
    usage = {
        "input_tokens": plain + read + write,
        "cache_read_tokens": read,
        "cache_write_tokens": write,
        "cache_write_1h_tokens": min(write, write_1h),
        "cache_write_5m_tokens": write - min(write, write_1h),
        "output_tokens": output + reasoning,
        "output_reasoning_tokens": reasoning,
    }
    fields = {OWN[unit]: count for unit, count in usage.items() if unit in OWN}
    cost, status = price(call(at, provider=provider, request_model=model.id, service_tier=tier, **fields))[0]
    try:
        truth = expected(provider, model.id, usage, at, tier)
    except LookupError:
        # Some ids are no name that their own model answers to.
        assert (cost, status) == (None, "unpriced")
        return
    if status == "unpriced":
        assert truth == 0
        return
    assert abs((cost or 0) - truth) <= Decimal("0.51")


def test_a_call_is_priced_by_the_model_that_answered() -> None:
    asked, answered, unknown = price(
        call(request_model="gpt-4o"),
        call(request_model="gpt-4o", response_model="gpt-4o-mini-2024-07-18"),
        call(request_model="gpt-4o", response_model="a-model-nobody-knows"),
    )
    assert asked == unknown
    assert answered[0] is not None
    assert 0 < answered[0] < asked[0]


def test_rates_follow_the_time_of_the_event() -> None:
    """DeepSeek charged less by night (16:30 to 00:30 UTC) until September 2025."""
    day = datetime(2025, 8, 1, 12, tzinfo=UTC)
    night = datetime(2025, 8, 1, 20, tzinfo=UTC)
    by_day, by_night = price(
        *(call(at, provider="deepseek", request_model="deepseek-chat") for at in (day, night))
    )
    assert by_day[0] is not None
    assert by_night[0] is not None
    assert by_night[0] < by_day[0]


def test_a_larger_input_moves_all_its_tokens_to_the_higher_tier() -> None:
    small, large = price(
        *(
            call(provider="google", request_model="gemini-2.5-pro", input_tokens=n, output_tokens=0)
            for n in (200_000, 200_001)
        )
    )
    assert small == (250_000_000, "priced")
    assert large == (500_002_500, "priced")


@pytest.mark.parametrize(
    "fields",
    [
        {"request_model": "a-model-nobody-knows"},
        {"provider": "a-provider-nobody-knows"},
        {"input_tokens": None},
        {"output_tokens": None},
        {"status": "error", "input_tokens": None, "output_tokens": None},
        {"cache_read_tokens": 1001},
        {"reasoning_tokens": 101},
        {"usage_other": [UsageOther(unit="gravity_waves", quantity=1.0)]},
        {"usage_other": [UsageOther(unit="input_pixels", quantity=1.0)]},
    ],
)
def test_an_unknown_price_is_null_and_not_zero(fields: dict[str, Any]) -> None:
    assert price(call(**fields)) == [(None, "unpriced")]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"status": "filtered", "input_tokens": None, "output_tokens": None}, "not_called"),
        ({"status": "rate_limited", "input_tokens": None, "output_tokens": None}, "not_called"),
        ({"cache_hit": True}, "not_called"),
        ({"is_leaf": False}, "not_called"),
        ({"provider": "ollama", "request_model": "llama3"}, "free"),
        ({"provider": "vllm", "input_tokens": None, "output_tokens": None}, "free"),
    ],
)
def test_what_costs_nothing_says_why(fields: dict[str, Any], status: str) -> None:
    assert price(call(**fields)) == [(0, status)]


def test_a_filtered_answer_that_used_tokens_is_charged() -> None:
    assert price(call(status="filtered")) == price(call())


def test_searches_and_audio_are_charged_beside_tokens() -> None:
    plain, searched = price(call(), call(usage_other=[UsageOther(unit="web_searches", quantity=2.0)]))
    assert plain[0] is not None
    assert searched == (plain[0] + 20_000_000, "priced")
    audio = {"provider": "openai", "request_model": "gpt-4o-audio-preview"}
    spoken = price(call(**audio, usage_other=[UsageOther(unit="audio.input_tokens", quantity=400.0)]))[0]
    truth = expected(
        "openai",
        "gpt-4o-audio-preview",
        {"input_tokens": 1000, "output_tokens": 100, "input_audio_tokens": 400},
        NOON,
    )
    assert spoken == (int(truth), "priced")


def test_rows_keep_their_order_and_other_columns() -> None:
    models = ["gpt-4o", "nobody", "o3", "gpt-4o-mini", "nobody", "gpt-4o"]
    frame = pl.DataFrame([call(request_model=model) for model in models], schema=SCHEMA).with_row_index("i")
    priced = PriceBook.load().price(frame)
    assert priced.columns == [*frame.columns, "cost_usd_nano", "cost_status", "price_version"]
    assert priced.select(frame.columns).equals(frame)
    assert [price(call(request_model=model))[0][0] for model in models] == priced["cost_usd_nano"].to_list()


def test_no_calls_have_no_prices() -> None:
    assert PriceBook.load().price(pl.DataFrame(schema=SCHEMA)).height == 0


def test_a_table_from_the_log_prices_as_the_one_that_was_written() -> None:
    book = PriceBook.load()
    record = codec.decode(codec.encode(book.record(ts_us=5)), expect=PriceTable)
    assert record.hash == book.hash
    again = PriceBook.of(record)
    assert again.hash == book.hash
    calls = [call(request_model=model) for model in ("gpt-4o", "nobody", "o3")]
    assert price(*calls, book=again) == price(*calls)


def test_the_table_fits_one_kafka_message_many_times() -> None:
    assert len(price_table.installed().data) < 500_000
