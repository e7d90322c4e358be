"""Changes of one flag as people say them: a variant for everyone, or shares in percent.

A session that has a variant keeps it while the variant's share does not become less. flagd gives each variant
one stretch of the hashes, in the order of the list, so with three of them a share that grows pushes its
neighbours aside:

    usual                 a    b         usual: 80%, a: 10%, b: 10%
    ├──────────────────┼────┼────┤
    usual           a    b               b: 20%: all that had a have b now
    ├─────────────┼────┼─────────┤
    usual           b    a    b          what is written here instead: a list may name a variant twice
    ├─────────────┼────┼────┼────┤
"""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

from voicemesh.flags.definitions import CHECKS, check_value
from voicemesh.flags.errors import FlagsError

_WHOLE: Final = 100.0
_SCALE: Final = 1000
"""Weights are whole numbers: thousandths of a percent."""
_ALL: Final = 100 * _SCALE


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
        value: The value of the variant where there is one share, which may be new; else of the one
            that is new. None where all are there.

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
        variants[_valued(key, shares, variants)] = value
    for name in shares:
        if name not in variants:
            there = f"there are {', '.join(variants)}" if variants else "there is none yet"
            raise FlagsError(f"{key}: {name!r} is no variant; {there}. --value VALUE makes one")
    flag["state"] = "ENABLED"
    if len(shares) == 1:
        (flag["defaultVariant"],) = shares
        flag.pop("targeting", None)
        return
    weights = {name: round(shares[name] * _SCALE) for name in variants if name in shares}
    # Rounding may have lost, or found, a thousandth.
    weights[max(weights, key=weights.__getitem__)] += _ALL - sum(weights.values())
    present = _stretches(flag)
    if not flag.get("defaultVariant"):
        flag["defaultVariant"] = next(iter(weights))
    flag["targeting"] = {"fractional": _reduced(_moved(present, weights))}


def _valued(key: str, shares: Mapping[str, float], variants: Mapping[str, Any]) -> str:
    """Return the variant that a value is for."""
    if len(shares) == 1:
        return next(iter(shares))
    new = [name for name in shares if name not in variants]
    if len(new) != 1:
        which = f"{', '.join(new)} are" if new else "none is"
        raise FlagsError(f"{key}: --value is for the one variant that is new, and {which}")
    return new[0]


def _stretches(flag: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Return who has which stretch of the hashes now; nothing where rules look at more than the session."""
    targeting = flag.get("targeting") or {}
    if not targeting:
        default = flag.get("defaultVariant")
        return [(default, _ALL)] if default else []
    listed = targeting.get("fractional") if len(targeting) == 1 else None
    if not isinstance(listed, list) or not all(isinstance(share, list) for share in listed):
        return []
    pairs = [(share[0], share[1] if len(share) == 2 else 1) for share in listed]
    if not all(isinstance(name, str) and isinstance(weight, int) for name, weight in pairs):
        return []
    whole = sum(weight for _, weight in pairs)
    found, end, before = [], 0, 0
    for name, weight in pairs:
        end += weight
        border = round(Fraction(end * _ALL, whole))
        found.append((name, border - before))
        before = border
    return found


def _moved(present: Sequence[tuple[str, int]], wanted: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return stretches with the weights that are wanted, in which as few sessions as can be change.

    Args:
        present: Who has what, in sum `_ALL`; or nothing.
        wanted: Weights, in sum `_ALL`.

    """
    in_file = list(wanted.items())
    in_list = [(name, wanted[name]) for name in dict.fromkeys(name for name, _ in present) if name in wanted]
    in_list += [share for share in in_file if share not in in_list]
    for plain in (in_file, in_list):
        if _kept(present, plain) == _most_kept(present, wanted):
            return plain
    left = Counter(wanted)
    kept = []
    for name, weight in present:
        stays = min(weight, left[name])
        left[name] -= stays
        kept.append((name, weight, stays))
    growing = deque((name, weight) for name, weight in left.items() if weight)
    found = []
    for name, weight, stays in kept:
        found.append((name, stays))
        free = weight - stays
        while free:
            taker, missing = growing.popleft()
            taken = min(free, missing)
            found.append((taker, taken))
            free -= taken
            if missing > taken:
                growing.appendleft((taker, missing - taken))
    return _joined(found)


def _kept(present: Sequence[tuple[str, int]], after: Sequence[tuple[str, int]]) -> int:
    """Return how much of `present` has the same variant `after`."""
    return sum(
        max(0, min(end, other_end) - max(begin, other_begin))
        for name, begin, end in _placed(present)
        for other, other_begin, other_end in _placed(after)
        if name == other
    )


def _most_kept(present: Sequence[tuple[str, int]], wanted: Mapping[str, int]) -> int:
    """Return how much can keep its variant with these weights, at most."""
    had: Counter[str] = Counter()
    for name, weight in present:
        had[name] += weight
    return sum(min(weight, had[name]) for name, weight in wanted.items())


def _placed(stretches: Sequence[tuple[str, int]]) -> list[tuple[str, int, int]]:
    places, begin = [], 0
    for name, weight in stretches:
        places.append((name, begin, begin + weight))
        begin += weight
    return places


def _joined(stretches: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return them without empty ones, and neighbours of one variant as one."""
    found: list[tuple[str, int]] = []
    for name, weight in stretches:
        if found and found[-1][0] == name:
            found[-1] = name, found[-1][1] + weight
        elif weight:
            found.append((name, weight))
    return found


def _reduced(stretches: Sequence[tuple[str, int]]) -> list[list[Any]]:
    """Return weights in whole percent where they are."""
    if all(weight % _SCALE == 0 for _, weight in stretches):
        return [[name, weight // _SCALE] for name, weight in stretches]
    return [[name, weight] for name, weight in stretches]
