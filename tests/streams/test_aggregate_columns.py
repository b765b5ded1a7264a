"""Every sum, list and distribution of a call, against plain Python."""

from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

import polars as pl
from confluent_kafka import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate import codec
from tidegate.records import Evaluation, Feedback, Guardrail, LLMCall, Retrieval, Series
from tidegate.series import DIMENSIONS, comparable
from tidegate_infra.kafka.batches import decode_batch
from tidegate_infra.prices import PriceBook
from tidegate_streams import histogram, partials, users
from tidegate_streams.aggregate import columns, ratings
from tidegate_streams.aggregate.shrunk import RANGE, Shrunk

BOOK = PriceBook.load()
T0 = 1_760_000_000_000_000
CALL = LLMCall(
    event_id="e",
    ts_start=T0,
    ts_end=T0 + 1_000_000,
    tenant="acme",
    app="a",
    environment="prod",
    deployment="d",
    variant="base",
    operation="chat",
    provider="openai",
    request_model="gpt-4o",
    status="ok",
)
COUNT = st.none() | st.integers(0, 5_000)

calls = st.builds(
    replace,
    st.just(CALL),
    ts_start=st.integers(T0, T0 + 15_000_000),
    ts_end=st.integers(T0 + 15_000_000, T0 + 31_000_000),
    tenant=st.sampled_from(["acme", "beta"]),
    variant=st.sampled_from(["base", "canary"]),
    prompt_name=st.sampled_from([None, "triage"]),
    provider=st.sampled_from(["openai", "ollama"]),
    request_model=st.sampled_from(["gpt-4o", "unheard-of"]),
    traffic=st.sampled_from(["live", "shadow"]),
    assignment_reason=st.sampled_from([None, "split", "default", "static"]),
    assignment_revision=st.sampled_from([None, 3, 4]),
    assignment_hash=st.none() | st.integers(-(2**63), 2**63 - 1),
    attempt=st.integers(1, 2),
    cache_hit=st.booleans(),
    is_leaf=st.booleans(),
    head_sampled=st.booleans(),
    sample_rate=st.sampled_from([1.0, 0.3, 0.01]),
    status=st.sampled_from(["ok", "error", "timeout", "cancelled", "rate_limited", "filtered", "strange"]),
    outcome=st.sampled_from([None, "answered", "abstained", "refused", "empty"]),
    error_type=st.sampled_from([None, "overloaded", "bad_gateway"]),
    user_hash=st.sampled_from([None, "u1", "u2", "u3"]),
    ttft_us=st.none() | st.integers(0, 20_000_000),
    input_tokens=COUNT,
    output_tokens=COUNT,
    cache_read_tokens=COUNT,
    reasoning_tokens=COUNT,
    input_chars=COUNT,
    retrieval=st.none() | st.builds(Retrieval, count=st.just(1), duration_us=COUNT),
    guardrails=st.lists(
        st.builds(
            Guardrail,
            name=st.sampled_from(["pii", "toxic"]),
            stage=st.sampled_from(["input", "output"]),
            triggered=st.none() | st.booleans(),
            action=st.sampled_from(["none", "block"]),
        ),
        max_size=3,
    ),
)


def decoded(records: list[Any], ranges: list[int] | None = None) -> pl.DataFrame:
    name = type(records[0]).__name__
    wanted = {
        "LLMCall": columns.CALL_COLUMNS,
        "Feedback": ratings.FEEDBACK_COLUMNS,
        "Evaluation": ratings.EVALUATION_COLUMNS,
    }[name]
    messages = [
        Message(topic="t", partition=0, offset=i, value=codec.encode(one), key=one.event_id.encode())
        for i, one in enumerate(records)
    ]
    batch = decode_batch(messages, name, wanted)
    assert not batch.rejected
    return batch.frame.with_columns(pl.Series(RANGE, ranges or [0] * len(records), dtype=pl.UInt32))


def shrink(
    records: list[LLMCall], append_us: int = T0 + 40_000_000, ranges: list[int] | None = None
) -> Shrunk:
    return columns.calls(decoded(records, ranges), pl.Series([append_us] * len(records)), BOOK)


def key_of(call: LLMCall, append_us: int) -> tuple[Any, ...]:
    time = min(call.ts_end, append_us + 1_000_000)
    split = call.assignment_reason == "split"
    dimensions = {name: getattr(call, name) or "" for name in DIMENSIONS}
    half = None
    if call.assignment_reason in ("split", "static") and call.assignment_hash is not None:
        half = bool((call.assignment_hash >> 32) & 1)
    return (
        call.tenant,
        time // 10_000_000 * 10_000_000,
        *dimensions.values(),
        comparable(
            call.traffic, call.assignment_reason or "", call.attempt, call.cache_hit, call.head_sampled
        ),
        call.assignment_revision if split else None,
        half,
    )


def values_of(call: LLMCall, cost: int | None, status: str) -> dict[str, int | None]:
    latency = call.ts_end - call.ts_start
    tokens = {
        "input_tokens": call.input_tokens,
        "output_tokens": call.output_tokens,
        "input_chars": call.input_chars,
    }
    tpot = None
    if call.ttft_us is not None and (call.output_tokens or 0) > 1 and latency >= call.ttft_us:
        tpot = (latency - call.ttft_us) // ((call.output_tokens or 0) - 1)
    return {
        "latency_us": latency,
        "ttft_us": call.ttft_us,
        "tpot_us": tpot,
        "retrieval_us": call.retrieval.duration_us if call.retrieval else None,
        "cost_usd": cost if status == "priced" else None,
        **(tokens if call.is_leaf else {}),
    }


def expected(records: list[LLMCall], append_us: int) -> dict[tuple[Any, ...], dict[str, Any]]:
    priced = BOOK.price(decoded(records))
    costs = list(zip(priced["cost_usd_nano"].to_list(), priced["cost_status"].to_list(), strict=True))
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for call, (cost, status) in zip(records, costs, strict=True):
        group = groups.setdefault(
            key_of(call, append_us),
            {
                "sums": Counter(), "guardrails": Counter(), "errors": Counter(), "users": {},
                "values": defaultdict(list),
            },
        )  # fmt: skip
        leaf = call.is_leaf
        group["sums"].update(
            {
                "calls": 1,
                f"status_{call.status if call.status != 'strange' else 'other'}": 1,
                "cache_hits": call.cache_hit,
                "retries": call.attempt > 1,
                f"outcome_{call.outcome}": 1,
                "input_tokens": (call.input_tokens or 0) * leaf,
                "output_tokens": (call.output_tokens or 0) * leaf,
                "cache_read_tokens": (call.cache_read_tokens or 0) * leaf,
                "reasoning_tokens": (call.reasoning_tokens or 0) * leaf,
                "tokens_unreported": leaf
                and not call.cache_hit
                and call.status == "ok"
                and (call.input_tokens is None or call.output_tokens is None),
                "priced": status == "priced",
                "unpriced": status == "unpriced",
                "clamped": call.ts_end > append_us + 1_000_000,
                "weighted_calls_micro": round(1_000_000 / call.sample_rate),
                "cost_usd_nano": cost or 0,
            }
        )
        for guard in call.guardrails:
            group["guardrails"].update(
                {
                    (guard.name, guard.stage, "checked"): guard.triggered is not None,
                    (guard.name, guard.stage, "triggered"): bool(guard.triggered),
                    (guard.name, guard.stage, "blocked"): guard.action == "block",
                }
            )
        if call.status != "ok" and call.error_type:
            group["errors"][call.error_type] += 1
        if call.user_hash:
            (register,), (rank,) = users.registers(
                users.hash_users([f"{call.tenant}\0{call.user_hash}".encode()])
            )
            group["users"][int(register)] = max(group["users"].get(int(register), 0), int(rank))
        for metric, value in values_of(call, cost, status).items():
            if value is not None:
                group["values"][metric].append(value)
    return groups


def distribution(values: list[int]) -> dict[str, Any]:
    buckets = Counter(histogram.bucket([value for value in values if value]).tolist())
    return {
        "n": len(values),
        "sum": sum(values),
        "sumsq": sum(value * value for value in values),
        "min": min(values),
        "max": max(values),
        "zeros": values.count(0),
        "buckets": dict(buckets),
    }


@given(
    records=st.lists(calls, min_size=1, max_size=12),
    append_us=st.sampled_from([T0 + 20_000_000, T0 + 40_000_000]),
)
@settings(max_examples=50, deadline=None)
def test_calls_shrink_to_what_plain_python_counts(records: list[LLMCall], append_us: int) -> None:
    actual = shrink(records, append_us)
    truth = expected(records, append_us)
    rows = {
        tuple(row[name] for name in partials.SERIES_KEY): row for row in actual.frame.iter_rows(named=True)
    }
    assert rows.keys() == truth.keys()
    assert actual.latest_us == {0: max(min(call.ts_end, append_us + 1_000_000) for call in records)}
    for key, group in truth.items():
        row = rows[key]
        assert {name: row[name] for name in partials.CALL_SUMS} == {
            name: group["sums"][name] for name in partials.CALL_SUMS
        }
        assert {
            (one["name"], one["stage"], count): one[count]
            for one in row["guardrails"]
            for count in ("checked", "triggered", "blocked")
        } == dict(group["guardrails"])
        assert {one["type"]: one["n"] for one in row["error_types"]} == dict(group["errors"])
        assert {one["register"]: one["rank"] for one in row["users"]} == group["users"]
        assert {
            one["metric"]: {
                **{name: one[name] for name in ("n", "sum", "min", "max", "zeros")},
                "sumsq": int(one["sumsq"]),
                "buckets": dict(zip(one["index"], one["counts"], strict=True)),
            }
            for one in row["distributions"]
        } == {metric: distribution(values) for metric, values in group["values"].items()}


@given(data=st.data(), records=st.lists(calls, min_size=1, max_size=10))
@settings(max_examples=20, deadline=None)
def test_any_split_into_ranges_merges_to_the_same_bytes(data: st.DataObject, records: list[LLMCall]) -> None:
    ranges = data.draw(st.lists(st.integers(0, 2), min_size=len(records), max_size=len(records)))
    order = data.draw(st.permutations(range(len(records))))
    together = shrink([records[i] for i in order], ranges=[ranges[i] for i in order]).frame
    alone = [
        shrink([record for record, number in zip(records, ranges, strict=True) if number == each])
        for each in sorted(set(ranges))
    ]
    merged = partials.merge(pl.concat([one.frame.drop(RANGE) for one in alone]))
    assert partials.pack(merged) == partials.pack(partials.merge(together.drop(RANGE)))
    # Shrinking ranges together is the same as shrinking each alone.
    for number, one in zip(sorted(set(ranges)), alone, strict=True):
        assert together.filter(pl.col(RANGE) == number).drop(RANGE).equals(one.frame.drop(RANGE))


def test_made_up_names_do_not_fill_the_journal() -> None:
    records = [replace(CALL, status="error", error_type=f"type-{i}", event_id=str(i)) for i in range(500)]
    records += [replace(CALL, status="error", error_type="common", event_id=f"c{i}") for i in range(7)]
    (row,) = shrink(records).frame.to_dicts()
    counted = {one["type"]: one["n"] for one in row["error_types"]}
    assert counted["common"] == 7
    assert counted["other"] == 500 - columns.MOST_NAMES + 1
    assert sum(counted.values()) == 507
    assert len(counted) == columns.MOST_NAMES + 1


SERIES = Series(
    app="a",
    environment="prod",
    deployment="d",
    variant="v",
    operation="chat",
    provider="p",
    request_model="m",
    traffic="live",
    comparable=True,
    assignment_revision=4,
    assignment_hash=1 << 32,
)


def test_feedback_counts_at_its_own_time_under_the_series_of_its_call() -> None:
    score = Feedback(
        event_id="f",
        ts=T0 + 12_000_000,
        tenant="acme",
        name="helpful",
        kind="score",
        given_by="user",
        series=SERIES,
    )
    records = [
        replace(score, positive=True, value=1.0),
        replace(score, positive=False, value=-0.25),
        replace(score, positive=None, value=None),
        replace(score, positive=False, retracted=True, value=3.0),
        replace(score, positive=True, series=None),
        replace(score, positive=True, series=None, tenant="beta"),
    ]
    shrunk = ratings.feedback(decoded(records), pl.Series([T0 + 40_000_000] * len(records)))
    (row,) = shrunk.frame.to_dicts()
    assert shrunk.unresolved == {(0, "acme"): 1, (0, "beta"): 1}
    assert row["pane_us"] == (T0 + 12_000_000) // 10_000_000 * 10_000_000
    assert (row["tenant"], row["variant"], row["prompt_name"], row["name"]) == ("acme", "v", "", "helpful")
    assert (row["assignment_revision"], row["aa"], row["comparable"]) == (4, True, True)
    assert {name: row[name] for name in ("n", "positive", "negative", "retracted", "valued")} == {
        "n": 3,
        "positive": 1,
        "negative": 1,
        "retracted": 1,
        "valued": 2,
    }
    assert row["value_sum_micro"] == 750_000
    assert int(row["value_sumsq_micro"]) == 10**12 + 250_000**2
    assert shrunk.frame.drop(RANGE).schema == pl.Schema(partials.SCHEMAS["feedback"])


def test_a_judge_that_failed_says_nothing_of_the_answer() -> None:
    judged = Evaluation(
        event_id="f", ts=T0, tenant="acme", name="faithful", kind="judge", evaluator="j", series=SERIES
    )
    records = [
        replace(judged, passed=True, value=0.5),
        replace(judged, passed=False, value=0.25),
        replace(judged, passed=None),
        replace(judged, status="error", passed=False, value=9.0),
        replace(judged, status="skipped"),
    ]
    shrunk = ratings.evaluations(decoded(records), pl.Series([T0] * len(records)))
    (row,) = shrunk.frame.to_dicts()
    assert {name: row[name] for name in ("n", "errors", "skipped", "passed", "failed", "valued")} == {
        "n": 5,
        "errors": 1,
        "skipped": 1,
        "passed": 1,
        "failed": 1,
        "valued": 2,
    }
    assert row["value_sum_micro"] == 750_000
    assert shrunk.frame.drop(RANGE).schema == pl.Schema(partials.SCHEMAS["evaluations"])
