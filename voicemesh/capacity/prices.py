"""What nodes and GPUs cost. Nothing is priced that nobody gave a price for."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

_KEYS: Final = ("node_cores", "node_usd_per_hour", "gpu_usd_per_hour", "llm_usd_per_1000_turns")
_MOST: Final = 1e6


@dataclass(frozen=True)
class Prices:
    """Prices in US dollars; None where nobody gave one."""

    node_cores: float | None = None
    """Cores of a node, as the scheduler can give them to pods."""
    node_usd_per_hour: float | None = None
    gpu_usd_per_hour: float | None = None
    """Of one GPU, with what it takes to use it: it is added to the nodes."""
    llm_usd_per_1000_turns: float | None = None
    """What a model's provider takes for 1,000 turns that are asked of it; `voicemesh usage` knows yours."""

    def over(self, below: "Prices") -> "Prices":
        """Return these, and those of `below` where these say nothing."""
        return replace(below, **{name: value for name in _KEYS if (value := getattr(self, name)) is not None})


def read_prices(path: Path) -> Prices:
    """Read a JSON object with any of the fields of `Prices`.

    Raises:
        ValueError: It cannot be read, or something in it is wrong; the text says what.

    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from None
    try:
        found: Any = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(  # noqa: TRY004 - a file is wrong, no argument
            f"{path}: must be an object with {', '.join(_KEYS)}"
        )
    if unknown := sorted(found.keys() - set(_KEYS)):
        raise ValueError(f"{path}: {unknown[0]}: is no price; there are {', '.join(_KEYS)}")
    for name, value in found.items():
        check(f"{path}: {name}", value)
    return Prices(**found)


def check(name: str, value: Any) -> None:
    """Raise ValueError where a price, or a number of cores, is none."""
    numeric = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    least = 0.1 if name.endswith(("node_cores", "--node-cores")) else 0
    if not numeric or not least <= value <= _MOST:
        raise ValueError(f"{name}: must be a number from {least:g} to {_MOST:g}")


@dataclass(frozen=True)
class Cost:
    """What a plan costs."""

    per_hour_usd: float | None
    """Of nodes and GPUs; None where one of them has no price."""
    llm_per_hour_usd: float | None
    per_1000_turns_usd: float | None
    """Of all that has a price, for turns that come as they were asked for, hour after hour."""
    unpriced: tuple[str, ...]
    """What has none, though it is needed."""


def cost_of(prices: Prices, *, nodes: int, gpus: int, rate_per_s: float, cached: float) -> Cost:
    """Return what a plan costs."""
    wanted: Mapping[str, tuple[float, float | None]] = {
        "nodes": (nodes, prices.node_usd_per_hour),
        "GPUs": (gpus, prices.gpu_usd_per_hour),
    }
    unpriced = tuple(name for name, (count, usd) in wanted.items() if count and usd is None)
    per_hour = None if unpriced else sum(count * (usd or 0.0) for count, usd in wanted.values())
    turns_per_hour = rate_per_s * 3600
    llm_usd = prices.llm_usd_per_1000_turns
    llm_per_hour = None if llm_usd is None else llm_usd * turns_per_hour * (1 - cached) / 1000
    per_1000 = None if per_hour is None else (per_hour + (llm_per_hour or 0.0)) / turns_per_hour * 1000
    if llm_usd is None:
        unpriced = (*unpriced, "LLM")
    return Cost(per_hour, llm_per_hour, per_1000, unpriced)
