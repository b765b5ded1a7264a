"""What calls cost: exact whole nano-dollars, by the rates of the event's own time, and never a guess.

A price that is unknown gives null and `unpriced`, not zero. Token counts follow the contract: input includes
cache reads and writes, output includes reasoning.
"""

import re
from decimal import Decimal
from functools import reduce
from operator import add
from typing import Any

import polars as pl

from tidegate.records import PriceTable as PriceRecord
from tidegate_infra import price_table
from tidegate_infra.price_table import PriceTable, Rates, Schedule

COLUMNS = (
    "ts_end",
    "provider",
    "request_model",
    "response_model",
    "service_tier",
    "is_leaf",
    "status",
    "cache_hit",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
    "usage_other",
)
"""Fields of a call that its price depends on."""

LOCAL = (
    "huggingface_local",
    "llama.cpp",
    "llamacpp",
    "lm_studio",
    "lmstudio",
    "local",
    "localai",
    "mlx",
    "ollama",
    "sglang",
    "tgi",
    "vllm",
)
"""Providers that run on one's own machines: their calls are free."""

_KEYS = ["provider", "response_model", "request_model", "service_tier"]
_MINUTE_US = 60_000_000
_ATTO = 10**18
_NANO_ATTO = 10**9

_OUTPUT = ("output", "reasoning")
_REPORTED = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
)
_MODALITY = re.compile(r"(\w+)\.(input|output)_tokens")

# Disjoint parts of a call's tokens -> price keys, the first that a model has.
_PARTS: dict[str, tuple[str, ...]] = {
    "input": ("input_mtok",),
    "cache_read": ("cache_read_mtok", "input_mtok"),
    "cache_write_5m": ("cache_write_5m_mtok", "cache_write_mtok", "input_mtok"),
    "cache_write_1h": ("cache_write_1h_mtok", "cache_write_mtok", "input_mtok"),
    "output": ("output_mtok",),
    "reasoning": ("output_reasoning_mtok", "output_mtok"),
}


class PriceBook:
    """Applies a price table to frames of calls.

    Parameters
    ----------
    table
        Rates of every known model.
    """

    def __init__(self, table: PriceTable) -> None:
        self._table = table

    @classmethod
    def load(cls) -> "PriceBook":
        """Return the prices that the installed release of genai-prices brings."""
        return cls(price_table.installed())

    @classmethod
    def of(cls, record: PriceRecord) -> "PriceBook":
        """Return the prices of a record of `llm.prices`."""
        return cls(PriceTable(record.data))

    @property
    def hash(self) -> str:
        """Names the table: the same hash is the same price for every call."""
        return self._table.hash

    def record(self, ts_us: int) -> PriceRecord:
        """Return the table as a record for `llm.prices`."""
        return PriceRecord(hash=self.hash, source=self._table.source, ts=ts_us, data=self._table.data)

    def price(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Add what each call cost.

        Parameters
        ----------
        frame
            Calls with `COLUMNS`; times are integers of microseconds.

        Returns
        -------
        polars.DataFrame
            The frame in its order, with `cost_usd_nano` (int64, null when unknown), `cost_status` and
            `price_version`. Status `priced`; `unpriced` when the model, a rate that the call needs or its
            tokens are unknown; `free` for local providers and models without a charge; `not_called` when no
            model ran: answers from a cache, calls that a guard or a rate limit stopped, and wrappers of other
            calls.
        """
        table, row = self._rates(frame)
        rates = table.select(pl.all().gather(row))
        costs = frame.select(COLUMNS).hstack(rates).select(_status(), _atto(), "usage_other")
        costs = costs.with_columns(
            cost_usd_nano=pl.when(pl.col("cost_status") == "priced")
            .then(_nano(pl.col("_atto")))
            .when(pl.col("cost_status") != "unpriced")
            .then(0)
        )
        more = (pl.col("usage_other").list.len() > 0) & (pl.col("cost_status") != "not_called")
        beyond = costs.select(more).to_series()
        if beyond.any():
            costs = self._price_beyond_tokens(frame, costs, beyond)
        return frame.with_columns(
            costs.get_column("cost_usd_nano"),
            costs.get_column("cost_status"),
            pl.lit(self.hash).alias("price_version"),
        )

    def _rates(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
        """Return the rates in force, and the number of each call's row in them.

        Models are looked up once per provider, models and tier of the frame, and once a minute where rates
        change with time. Tiers by the size of the input are rows of their own.
        """
        who = frame.select(_KEYS).unique(maintain_order=True).with_row_index("_who")
        known = [self._schedule(*key) for key in who.select(_KEYS).iter_rows()]
        fixed = pl.Series([schedule is None or schedule.fixed for schedule in known], dtype=pl.Boolean)
        calls = frame.select(*_KEYS, "ts_end", "input_tokens").join(
            who, on=_KEYS, how="left", nulls_equal=True, maintain_order="left"
        )
        slot = (
            pl.when(fixed.gather(calls.get_column("_who"))).then(0).otherwise(pl.col("ts_end") // _MINUTE_US)
        )
        calls = calls.select("_who", slot.alias("_minute"), "input_tokens")
        slots = calls.select("_who", "_minute").unique(maintain_order=True)
        rows: list[dict[str, Any]] = []
        firsts, starts = [], []
        for index, minute in slots.iter_rows():
            schedule, tier = known[index], who.item(index, "service_tier")
            rates = schedule.rates(minute * 60, tier) if schedule else {}
            levels = sorted({start for _, tiers in rates.values() for start, _ in tiers})
            firsts.append(len(rows))
            starts.append(levels)
            rows += [
                _row(rates, at, local=who.item(index, "provider") in LOCAL)
                for at in (0, *(s + 1 for s in levels))
            ]
        table = pl.DataFrame(rows, schema=_TABLE)
        slots = slots.with_columns(
            pl.Series("_first", firsts, dtype=pl.Int64), pl.Series("_starts", starts, dtype=pl.List(pl.Int64))
        )
        calls = calls.join(slots, on=["_who", "_minute"], how="left", maintain_order="left")
        most = max(map(len, starts), default=0)
        above = [
            (pl.col("input_tokens") > pl.col("_starts").list.get(level, null_on_oob=True)).fill_null(
                value=False
            )
            for level in range(most)
        ]
        return table, calls.select(pl.sum_horizontal("_first", *above).cast(pl.UInt32)).to_series()

    def _schedule(
        self, provider: str, response_model: str | None, request_model: str, _: Any
    ) -> Schedule | None:
        """Find a model's rates by the name that answered, else by the name that was asked."""
        names = [name for name in (response_model, request_model) if name]
        return next((found for name in names if (found := self._table.find(provider, name))), None)

    def _price_beyond_tokens(
        self, frame: pl.DataFrame, costs: pl.DataFrame, beyond: pl.Series
    ) -> pl.DataFrame:
        """Price calls with audio, images, searches and the like one by one."""
        nano, status = costs.get_column("cost_usd_nano").to_list(), costs.get_column("cost_status").to_list()
        for index in beyond.arg_true():
            call = frame.select(COLUMNS).row(index, named=True)
            schedule = self._schedule(*(call[key] for key in _KEYS))
            rates = schedule.rates(call["ts_end"] // 1_000_000, call["service_tier"]) if schedule else {}
            cost = _price_units(call, rates)
            nano[index], status[index] = cost, "unpriced" if cost is None else "priced"
        return costs.with_columns(
            pl.Series("cost_usd_nano", nano, dtype=pl.Int64),
            pl.Series("cost_status", status, dtype=pl.String),
        )


_TABLE: Any = {
    "_local": pl.Boolean,
    "_known": pl.Boolean,
    "_request": pl.Int128,
    **{f"_{part}": pl.Int128 for part in _PARTS},
}


def _row(rates: Rates, input_tokens: int, *, local: bool) -> dict[str, Any]:
    """Return what each part of a call costs, in 1e-18 USD a token, for calls with so much input."""

    def atto(keys: tuple[str, ...], per: int) -> int:
        rate = next((rates[key] for key in keys if key in rates), None)
        if rate is None:
            return 0
        base, tiers = rate
        usd = next((usd for start, usd in reversed(tiers) if input_tokens > start), base)
        return int((usd * (_ATTO // per)).to_integral_value())

    return {
        "_local": local,
        "_known": "input_mtok" in rates or "output_mtok" in rates or "requests_kcount" in rates,
        "_request": atto(("requests_kcount",), 1_000),
        **{f"_{part}": atto(keys, 1_000_000) for part, keys in _PARTS.items()},
    }


def _tokens() -> dict[str, pl.Expr]:
    """Return the disjoint parts of a call's tokens; what was not reported of a subset is zero."""
    read, write, write_1h, reasoning = (
        pl.col(name).fill_null(0)
        for name in ("cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens", "reasoning_tokens")
    )
    return {
        "input": pl.col("input_tokens").fill_null(0) - read - write,
        "cache_read": read,
        "cache_write_5m": write - write_1h,
        "cache_write_1h": write_1h,
        "output": pl.col("output_tokens").fill_null(0) - reasoning,
        "reasoning": reasoning,
    }


def _atto() -> pl.Expr:
    parts = (tokens.cast(pl.Int128) * pl.col(f"_{part}") for part, tokens in _tokens().items())
    return reduce(add, parts, pl.col("_request")).alias("_atto")


def _nano(atto: pl.Expr) -> pl.Expr:
    """Round to whole nano-dollars, half to even."""
    whole, rest = atto // _NANO_ATTO, atto % _NANO_ATTO
    up = (rest > _NANO_ATTO // 2) | ((rest == _NANO_ATTO // 2) & (whole % 2 == 1))
    return (whole + up.cast(pl.Int128)).cast(pl.Int64)


def _status() -> pl.Expr:
    silent = pl.col("input_tokens").is_null() & pl.col("output_tokens").is_null()
    not_called = (
        ~pl.col("is_leaf")
        | pl.col("cache_hit")
        | (pl.col("status").is_in(["filtered", "rate_limited"]) & silent)
    )
    charged = reduce(add, (pl.col(f"_{part}") for part in _PARTS), pl.col("_request"))
    charges_input = reduce(add, (pl.col(f"_{part}") for part in _PARTS if part not in _OUTPUT)) > 0
    charges_output = reduce(add, (pl.col(f"_{part}") for part in _OUTPUT)) > 0
    unknown = (
        ~pl.col("_known")
        | (pl.col("input_tokens").is_null() & charges_input)
        | (pl.col("output_tokens").is_null() & charges_output)
        | pl.any_horizontal(*(tokens < 0 for tokens in _tokens().values()))
    )
    return (
        pl.when(not_called)
        .then(pl.lit("not_called"))
        .when(pl.col("_local") | (pl.col("_known") & (charged == 0)))
        .then(pl.lit("free"))
        .when(unknown)
        .then(pl.lit("unpriced"))
        .otherwise(pl.lit("priced"))
        .alias("cost_status")
    )


def _price_units(call: dict[str, Any], rates: Rates) -> int | None:
    """Return the nano-dollars of a call that used more than tokens of text; none when a rate is unknown."""
    from genai_prices.data_units import unit_data
    from genai_prices.types import ModelPrice, Tier, TieredPrices, Usage

    usage: dict[str, Any] = {name: call[name] for name in _REPORTED if call[name] is not None}
    usage["output_reasoning_tokens"] = call["reasoning_tokens"]
    for other in call["usage_other"]:
        unit = _MODALITY.sub(r"\2_\1_tokens", other["unit"])
        if unit not in unit_data:
            return None
        # Tokens without a rate of their own cost as much as text.
        if (
            unit_data[unit]["price_key"] not in rates
            and unit_data[unit]["dimensions"].get("family") != "tokens"
        ):
            return None
        usage[unit] = Decimal(repr(other["quantity"]))
    missing = {"input_mtok": "input_tokens", "output_mtok": "output_tokens"}
    if any(key in rates and usage.get(name) is None for key, name in missing.items()):
        return None
    price = ModelPrice(
        **{
            key: TieredPrices(base=base, tiers=[Tier(*tier) for tier in tiers]) if tiers else base
            for key, (base, tiers) in rates.items()
        }
    )
    try:
        usd = price.calc_price(Usage(**usage))["total_price"]
    except ValueError:
        # More of a part than of the whole, or parts whose overlap was not reported.
        return None
    return int((usd * 10**9).to_integral_value())
