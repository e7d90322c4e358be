"""Targeting: rules in JsonLogic (https://jsonlogic.com/operations.html) with flagd's own operators.

They are checked before they are used, because what evaluates them finds a mistake only for the session that
meets it, and told in words, because who changes a share wants to see that share.
"""

import json
from collections.abc import Container, Mapping, Sequence
from typing import Any, Final

from voicemesh.flags.errors import FlagsError

_OPERATORS: Final = frozenset(
    {
        *("==", "===", "!=", "!==", "<", ">", "<=", ">=", "!", "!!", "+", "-", "*", "/", "%"),
        *("if", "?:", "and", "or", "in", "min", "max", "cat", "substr", "merge", "var"),
        *("missing", "missing_some", "filter", "reduce", "map", "all", "some", "none"),
        *("fractional", "starts_with", "ends_with", "sem_ver"),
    }
)
_BRANCHES: Final = ("if", "?:")
_MOST_DEEP: Final = 40
_MOST_WEIGHT: Final = 2_147_483_647
_SEM_VER: Final = ("=", "!=", "<", "<=", ">", ">=", "^", "~")


def check(
    place: str, targeting: Mapping[str, Any], variants: Container[str], evaluators: Mapping[str, Any]
) -> None:
    """Check a flag's targeting.

    Args:
        place: Where it stands, for the text of an error.
        targeting: The rules.
        variants: The flag's variants: what rules may lead to.
        evaluators: Rules of the file that others refer to by `{"$ref": name}`.

    Raises:
        FlagsError: An operator is unknown or used wrongly, or a rule leads to no variant.

    """
    if targeting:
        _Check(variants, evaluators).result(place, targeting, 0)


class _Check:
    def __init__(self, variants: Container[str], evaluators: Mapping[str, Any]) -> None:
        self._variants = variants
        self._evaluators = evaluators

    def result(self, place: str, rule: Any, depth: int) -> None:
        """Check what a rule leads to: a variant, null for the default, or another rule."""
        rule = self._resolved(place, rule, depth)
        if rule is None:
            return
        if isinstance(rule, bool):
            rule = str(rule).lower()
        if isinstance(rule, str):
            if rule not in self._variants:
                raise FlagsError(f"{place}: {rule!r} is no variant of the flag")
            return
        operator, values = self._operation(place, rule)
        inside = f"{place}.{operator}"
        if operator in _BRANCHES:
            for index, value in enumerate(values):
                leads = index % 2 == 1 or index == len(values) - 1
                step = self.result if leads else self.value
                step(f"{inside}[{index}]", value, depth + 1)
        elif operator == "fractional":
            self._fractional(inside, values, depth)
        else:
            self.value(place, rule, depth)

    def value(self, place: str, rule: Any, depth: int) -> None:
        """Check what a rule compares."""
        rule = self._resolved(place, rule, depth)
        if isinstance(rule, list):
            for index, item in enumerate(rule):
                self.value(f"{place}[{index}]", item, depth + 1)
        elif isinstance(rule, dict):
            operator, values = self._operation(place, rule)
            if operator == "sem_ver" and (len(values) != 3 or values[1] not in _SEM_VER):
                raise FlagsError(f"{place}.sem_ver: must be [version, one of {' '.join(_SEM_VER)}, version]")
            if operator in ("starts_with", "ends_with") and len(values) != 2:
                raise FlagsError(f"{place}.{operator}: must be [text, text]")
            for index, item in enumerate(values):
                self.value(f"{place}.{operator}[{index}]", item, depth + 1)

    def _fractional(self, place: str, values: Sequence[Any], depth: int) -> None:
        shares = values
        if values and not isinstance(values[0], list):
            self.value(f"{place}[0]", values[0], depth + 1)
            shares = values[1:]
        if not shares:
            raise FlagsError(f"{place}: must name variants, as in [[variant, weight], …]")
        whole = 0
        for index, share in enumerate(shares, start=len(values) - len(shares)):
            if not isinstance(share, list) or not 1 <= len(share) <= 2:
                raise FlagsError(f"{place}[{index}]: must be [variant, weight]")
            self.result(f"{place}[{index}][0]", share[0], depth + 1)
            weight = share[1] if len(share) == 2 else 1
            if isinstance(weight, dict):
                self.value(f"{place}[{index}][1]", weight, depth + 1)
            elif isinstance(weight, bool) or not isinstance(weight, int) or weight < 0:
                raise FlagsError(f"{place}[{index}][1]: a weight is a whole number, 0 or more")
            else:
                whole += weight
        if not whole and not any(isinstance(share[-1], dict) for share in shares):
            raise FlagsError(f"{place}: the weights are 0 in sum")
        if whole > _MOST_WEIGHT:
            raise FlagsError(f"{place}: the weights are above {_MOST_WEIGHT} in sum")

    def _resolved(self, place: str, rule: Any, depth: int) -> Any:
        if depth > _MOST_DEEP:
            raise FlagsError(f"{place}: rules are nested more than {_MOST_DEEP} deep, or refer to themselves")
        if isinstance(rule, dict) and set(rule) == {"$ref"}:
            name = rule["$ref"]
            if not isinstance(name, str) or name not in self._evaluators:
                raise FlagsError(f"{place}.$ref: {name!r} is not in $evaluators")
            # Evaluators may not refer to each other: what evaluates replaces them once.
            if '"$ref"' in json.dumps(self._evaluators[name]):
                raise FlagsError(f"$evaluators.{name}: must not use $ref itself")
            return self._evaluators[name]
        return rule

    def _operation(self, place: str, rule: Any) -> tuple[str, list[Any]]:
        if not isinstance(rule, dict) or len(rule) != 1:
            raise FlagsError(f"{place}: must be a variant, null, or one operator with its values")
        ((operator, values),) = rule.items()
        if operator not in _OPERATORS:
            raise FlagsError(
                f"{place}: {operator!r} is no operator; there are {' '.join(sorted(_OPERATORS))}"
            )
        return operator, values if isinstance(values, list) else [values]


def describe(targeting: Mapping[str, Any], default: str) -> tuple[str, ...]:
    """Return who gets what by rules that were checked, a line each."""
    return tuple(_lines(targeting or None, default))


def _lines(rule: Any, default: str) -> list[str]:
    if rule is None:
        return [f"everyone: {default or 'as without the flag'}"]
    if isinstance(rule, str):
        return [f"everyone: {rule}"]
    if isinstance(rule, dict) and len(rule) == 1:
        ((operator, values),) = rule.items()
        values = values if isinstance(values, list) else [values]
        if operator in _BRANCHES:
            return _branches(values, default)
        if operator == "fractional" and (shares := _shares(values)):
            return [shares]
    return [f"by rule: {json.dumps(rule)}"]


def _branches(values: Sequence[Any], default: str) -> list[str]:
    lines = []
    for index in range(0, len(values) - 1, 2):
        leads = [_bare(line) for line in _lines(values[index + 1], default)]
        lines.append(f"where {json.dumps(values[index])}: {'; '.join(leads)}")
    rest = values[-1] if len(values) % 2 else None
    others = [_bare(line) for line in _lines(rest, default)]
    return [*lines, f"everyone else: {'; '.join(others)}"]


def _bare(line: str) -> str:
    return line.removeprefix("everyone: ").removeprefix("of sessions: ")


def _shares(values: Sequence[Any]) -> str:
    """Return a split in percent; "" for one whose weights or variants are computed."""
    of = "sessions"
    if values and not isinstance(values[0], list):
        of, values = json.dumps(values[0]), values[1:]
    weights: dict[str, int] = {}
    for share in values:
        weight = share[1] if len(share) == 2 else 1
        if not isinstance(share[0], str) or not isinstance(weight, int):
            return ""
        weights[share[0]] = weights.get(share[0], 0) + weight
    whole = sum(weights.values())
    return f"of {of}: " + ", ".join(f"{100 * part / whole:g}% {name}" for name, part in weights.items())
