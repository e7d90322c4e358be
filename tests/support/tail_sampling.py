"""What the collector's tail sampling would keep, by the documents and the source of its processor.

No registry of packages has the contrib collector, so that its configuration cannot be run here. This reads
the configuration as it is shipped and judges spans as the processor's README and `internal/sampling` say:
https://github.com/open-telemetry/opentelemetry-collector-contrib/tree/main/processor/tailsamplingprocessor.
It knows the kinds of policy that are used, and nothing else: one that it does not know is an error, and not
a "no". It is our reading of them: that a collector reads them alike is not proven by it.
"""

import pathlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from tests.support.otlp import ReceivedSpan

Evaluator = Callable[[str, Sequence[ReceivedSpan]], bool]
"""Whether a policy wants the trace of an id, with these spans."""

_SALT: Final = b"default-hash-seed"
_FNV_OFFSET: Final = 0xCBF29CE484222325
_FNV_PRIME: Final = 0x100000001B3
_MAX: Final = 2**64 - 1

_TERM: Final = re.compile(
    r'attributes\["(?P<key>[^"]+)"\] (?P<operator>==|!=|>=|<=|>|<) (?P<literal>nil|-?\d+(?:\.\d+)?|"[^"]*")'
)
_VARIABLE: Final = re.compile(r"\$\{env:(\w+)(?::-([^}]*))?\}")


@dataclass(frozen=True)
class Policy:
    """One policy by its name."""

    name: str
    wants: Evaluator


def expanded(text: str, environment: Mapping[str, str]) -> str:
    """Return a configuration with its variables put in, as the collector does: `${env:NAME:-default}`."""
    return _VARIABLE.sub(lambda found: environment.get(found[1]) or found[2] or "", text)


def policies(config: pathlib.Path, environment: Mapping[str, str] | None = None) -> list[Policy]:
    """Return the policies of a collector's configuration, in their order."""
    loaded = yaml.safe_load(expanded(config.read_text(), environment or {}))
    declared = loaded["processors"]["tail_sampling"]["policies"]
    return [Policy(policy["name"], _evaluator(policy)) for policy in declared]


def wanted_by(found: Iterable[Policy], trace_id: str, spans: Sequence[ReceivedSpan]) -> list[str]:
    """Return the policies that want a trace; it is kept if there is one: no policy here drops or inverts."""
    return [policy.name for policy in found if policy.wants(trace_id, spans)]


def _evaluator(policy: Mapping[str, Any]) -> Evaluator:
    kind = policy["type"]
    said = policy[kind]
    match kind:
        case "status_code":
            if said["status_codes"] != ["ERROR"]:
                raise NotImplementedError(said)
            return lambda _, spans: any(span.failed for span in spans)
        case "string_attribute":
            key, values = said["key"], said["values"]
            return lambda _, spans: any(span.attributes.get(key) in values for span in spans)
        case "probabilistic":
            threshold = int(_MAX * said["sampling_percentage"] / 100)
            return lambda trace_id, _: fnv1a(_SALT + bytes.fromhex(trace_id)) <= threshold
        case "ottl_condition":
            return _conditions(said)
        case "and":
            parts = [_evaluator(part) for part in said["and_sub_policy"]]
            return lambda trace_id, spans: all(part(trace_id, spans) for part in parts)
        case _:
            raise NotImplementedError(kind)


def fnv1a(data: bytes) -> int:
    """Return the FNV-1a hash of 64 bits."""
    hashed = _FNV_OFFSET
    for byte in data:
        hashed = ((hashed ^ byte) * _FNV_PRIME) & _MAX
    return hashed


def _conditions(said: Mapping[str, Any]) -> Evaluator:
    """Return what holds where one span meets one of the conditions; an error in one is a "no" (`ignore`)."""
    if set(said) != {"error_mode", "span"} or said["error_mode"] != "ignore":
        raise NotImplementedError(said)
    conditions = [[_term(term) for term in condition.split(" and ")] for condition in said["span"]]
    return lambda _, spans: any(
        all(term(span.attributes) for term in condition) for span in spans for condition in conditions
    )


def _term(text: str) -> Callable[[Mapping[str, Any]], bool]:
    """Return one comparison of OTTL. All numbers compare as numbers; nil is equal to nil alone."""
    found = _TERM.fullmatch(text.strip())
    if found is None:
        raise NotImplementedError(text)
    key, operator = found["key"], found["operator"]
    literal: float | str | None = None
    if found["literal"] != "nil":
        literal = found["literal"].strip('"') if found["literal"].startswith('"') else float(found["literal"])

    def holds(attributes: Mapping[str, Any]) -> bool:
        value = attributes.get(key)
        if operator == "==":
            return bool(value == literal)
        if operator == "!=":
            return bool(value != literal)
        if not isinstance(value, int | float) or not isinstance(literal, float):
            return False
        return {">": value > literal, "<": value < literal, ">=": value >= literal, "<=": value <= literal}[
            operator
        ]

    return holds
