"""A price table: which rates hold for a provider's model at a time, compiled from genai-prices to plain data.

Plain data, because a claim names the table that priced its range, and a redo must price with that very table
also after an upgrade. Finding a model follows genai-prices: the provider by its name or pattern, then the
model's patterns, then those of providers whose models it resells.
"""

import functools
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from typing import Any

import xxhash

from tidegate.errors import ConfigError

_DAY_S = 86_400

# OpenTelemetry's names of providers where genai-prices has another one, and no pattern for it.
_OTEL_NAMES = {
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "gcp.gen_ai": "google",
    "x_ai": "x-ai",
}

Rates = Mapping[str, tuple[Decimal, tuple[tuple[int, Decimal], ...]]]
"""Price key of genai-prices -> price in USD of the key's quantity, and (more input tokens than, price)
tiers."""


@dataclass(frozen=True, slots=True)
class Price:
    """Rates with the time when they hold.

    Parameters
    ----------
    rates
        Prices by key.
    from_day
        First day, in days since the epoch, UTC.
    daily
        Seconds of the day, UTC, from and until; it may pass midnight.
    when
        What the request must have been, such as its service tier; empty for standard prices.
    """

    rates: Rates
    from_day: int | None = None
    daily: tuple[int, int] | None = None
    when: Mapping[str, str] | None = None

    def holds(self, at_s: int) -> bool:
        """Whether the rates hold at a time, in seconds since the epoch."""
        if self.from_day is not None:
            return at_s // _DAY_S >= self.from_day
        if self.daily is not None:
            start, end = self.daily
            second = at_s % _DAY_S
            return start <= second < end if start <= end else second >= start or second < end
        return True


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """All rates of one model: compared by identity.

    Parameters
    ----------
    prices
        Standard prices, the first as fallback and a later one taking precedence.
    variants
        Prices of special requests, an earlier one taking precedence key by key.
    """

    prices: tuple[Price, ...]
    variants: tuple[Price, ...]

    @property
    def fixed(self) -> bool:
        """Whether the rates are the same at all times."""
        return len(self.prices) == 1 and not self.variants

    def rates(self, at_s: int, tier: str | None) -> Rates:
        """Return the rates at a time, in seconds since the epoch, for a service tier."""
        standard = next((price for price in reversed(self.prices) if price.holds(at_s)), self.prices[0]).rates
        if tier is None or not self.variants:
            return standard
        context = {"service_tier": tier} | ({"processing": "batch"} if tier == "batch" else {})
        special: dict[str, Any] = {}
        for variant in self.variants:
            if variant.holds(at_s) and (variant.when or {}).items() <= context.items():
                special = {**variant.rates, **special}
        return {**standard, **special}


class PriceTable:
    """Prices of every known model.

    Parameters
    ----------
    data
        The `data` of a table, of this release or another.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        text = zlib.decompress(data)
        self.hash = xxhash.xxh64_hexdigest(text)
        parsed = json.loads(text)
        self.source: str = parsed["source"]
        self._providers: dict[str, Any] = {provider["id"]: provider for provider in parsed["providers"]}
        self._schedules: dict[tuple[str, str, bool], Schedule] = {}
        self._found: dict[tuple[str, str], Schedule | None] = {}

    def find(self, provider: str, model: str) -> Schedule | None:
        """Return the rates of a provider's model, under any name it answers to; none when it is unknown."""
        key = provider.lower().strip(), model.lower()
        if key not in self._found:
            self._found[key] = self._find(*key)
        return self._found[key]

    def _find(self, name: str, model: str) -> Schedule | None:
        if name == "litellm" and "/" in model:
            name, model = model.split("/", 1)
        name = _OTEL_NAMES.get(name, name)
        provider = self._providers.get(name) or next(
            (each for each in self._providers.values() if each["match"] and _matches(each["match"], name)),
            None,
        )
        if provider is None:
            return None
        return self._model(provider, model) or self._model(provider, _DATE.sub(r"-\1-\2-\3", model))

    def _model(self, provider: dict[str, Any], model: str) -> Schedule | None:
        # Resold models have the standard prices only.
        sellers = [(provider, True), *((self._providers[each], False) for each in provider["resells"])]
        for seller, own in sellers:
            for entry in seller["models"]:
                if _matches(entry["match"], model):
                    key = seller["id"], entry["id"], own
                    if key not in self._schedules:
                        self._schedules[key] = _schedule(entry, own)
                    return self._schedules[key]
        return None


# LiteLLM and OpenRouter write gpt-5.2-20251211 for gpt-5.2-2025-12-11.
_DATE = re.compile(r"-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")


def _matches(clause: dict[str, Any], text: str) -> bool:
    ((kind, value),) = clause.items()
    match kind:
        case "starts_with":
            return text.startswith(value)
        case "ends_with":
            return text.endswith(value)
        case "contains":
            return value in text
        case "equals":
            return bool(text == value)
        case "regex":
            return re.search(value, text) is not None
        case "or":
            return any(_matches(each, text) for each in value)
        case "and":
            return all(_matches(each, text) for each in value)
    raise ConfigError(f"price table: {kind!r} matches models in a way this release does not know; upgrade")


def _schedule(entry: dict[str, Any], own: bool) -> Schedule:
    return Schedule(
        prices=tuple(_price(price) for price in entry["prices"]),
        variants=tuple(_price(price) for price in entry["variants"]) if own else (),
    )


def _price(price: dict[str, Any]) -> Price:
    rates = {
        key: (Decimal(base), tuple((start, Decimal(rate)) for start, rate in tiers))
        for key, (base, *tiers) in price["usd"].items()
    }
    daily = price.get("daily")
    return Price(rates, price.get("from_day"), tuple(daily) if daily else None, price.get("when", {}))


@functools.cache
def installed() -> PriceTable:
    """Compile the prices that the installed genai-prices brings; nothing is fetched."""
    from genai_prices import __version__
    from genai_prices.data import providers

    table = {
        "source": f"genai-prices {__version__}",
        "providers": [
            {
                "id": provider.id,
                "match": _clause(provider.provider_match),
                "resells": provider.fallback_model_providers or [],
                "models": [
                    {
                        "id": model.id,
                        "match": _clause(model.match),
                        "prices": [_compiled(price) for price in _standard(model)],
                        "variants": [_compiled(variant) for variant in model.price_variants or ()],
                    }
                    for model in provider.models
                    if model.prices
                ],
            }
            for provider in providers
        ],
    }
    return PriceTable(zlib.compress(json.dumps(table, sort_keys=True, separators=(",", ":")).encode(), 9))


def _standard(model: Any) -> list[Any]:
    from genai_prices.types import ConditionalPrice

    return model.prices if isinstance(model.prices, list) else [ConditionalPrice(prices=model.prices)]


def _clause(clause: Any) -> dict[str, Any] | None:
    if clause is None:
        return None
    ((name, value),) = vars(clause).items()
    if isinstance(value, list):
        return {name.rstrip("_"): [_clause(each) for each in value]}
    return {name: value if name == "regex" else value.lower()}


def _compiled(price: Any) -> dict[str, Any]:
    from genai_prices.types import StartDateConstraint

    usd = {key: _rate(rate) for key, rate in vars(price.prices).items() if rate is not None}
    compiled: dict[str, Any] = {"usd": usd}
    if isinstance(price.constraint, StartDateConstraint):
        compiled["from_day"] = (price.constraint.start_date - date(1970, 1, 1)).days
    elif price.constraint is not None:
        compiled["daily"] = [_second(price.constraint.start_time), _second(price.constraint.end_time)]
    if when := getattr(price, "when", None):
        compiled["when"] = when
    return compiled


def _rate(rate: Any) -> list[Any]:
    if isinstance(rate, Decimal):
        return [str(rate)]
    return [str(rate.base), *((tier.start, str(tier.price)) for tier in rate.tiers)]


def _second(moment: time) -> int:
    offset = moment.utcoffset()
    seconds = moment.hour * 3_600 + moment.minute * 60 + moment.second
    return (seconds - int(offset.total_seconds() if offset else 0)) % _DAY_S
