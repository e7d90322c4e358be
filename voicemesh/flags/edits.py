"""Changes of one flag as people say them: a variant for everyone, or shares in percent."""

from typing import Any, Final

from voicemesh.flags.definitions import CHECKS, check_value
from voicemesh.flags.errors import FlagsError

_WHOLE: Final = 100.0
_SCALE: Final = 1000
"""Weights are whole numbers: thousandths of a percent."""


def shares_of(text: str) -> dict[str, float]:
    """Read `VARIANT`, or `VARIANT=PERCENT,…`; a variant alone has all of it.

    Raises:
        FlagsError: It is neither, or does not add up to 100.

    """
    if "=" not in text:
        return {text: _WHOLE}
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, found, number = part.strip().rpartition("=")
        try:
            percent = float(number.removesuffix("%"))
        except ValueError:
            percent = -1.0
        if not found or not name or not 0 <= percent <= _WHOLE:
            raise FlagsError(f"{part.strip()!r} is no VARIANT=PERCENT, as in usual=90,short=10")
        if name in shares:
            raise FlagsError(f"{name!r} is there twice")
        shares[name] = percent
    if abs(sum(shares.values()) - _WHOLE) > 0.001:
        raise FlagsError(f"the shares add up to {sum(shares.values()):g}%, not to 100%")
    return shares


def set_flag(document: dict[str, Any], key: str, shares: dict[str, float], value: str | None) -> None:
    """Give everyone a variant, or each variant its share of the sessions. Rules that there were are gone.

    Args:
        document: A file's JSON, which is changed.
        key: The flag; a new one is made.
        shares: Variants and their percent.
        value: The value of the first variant, which may be new; None where all are there.

    Raises:
        FlagsError: A flag or variant is unknown.

    """
    if key not in CHECKS and key not in document["flags"]:
        raise FlagsError(f"there is no flag {key!r}; turns are made by {', '.join(CHECKS)}")
    flag = document["flags"].setdefault(key, {"state": "ENABLED", "variants": {}})
    variants = flag["variants"]
    if value is not None:
        if key in CHECKS:
            check_value("--value", key, value)
        variants[next(iter(shares))] = value
    for name in shares:
        if name not in variants:
            there = f"there are {', '.join(variants)}" if variants else "there is none yet"
            raise FlagsError(f"{key}: {name!r} is no variant; {there}. --value VALUE makes one")
    flag["state"] = "ENABLED"
    if len(shares) == 1:
        (flag["defaultVariant"],) = shares
        flag.pop("targeting", None)
        return
    # In the order of the file, not of the command: sessions keep what they have where a share grows.
    weights = [[name, round(shares[name] * _SCALE)] for name in variants if name in shares]
    if not flag.get("defaultVariant"):
        flag["defaultVariant"] = weights[0][0]
    flag["targeting"] = {"fractional": _reduced(weights)}


def _reduced(weights: list[list[Any]]) -> list[list[Any]]:
    """Return weights in whole percent where they are."""
    if all(weight % _SCALE == 0 for _, weight in weights):
        return [[name, weight // _SCALE] for name, weight in weights]
    return weights
