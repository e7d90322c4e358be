"""A file of flags as an OpenFeature provider, in this process: no daemon, no thread, no network.

Rules are evaluated by flagd's own reference implementation (package `openfeature-flagd-core`, extra `flags`),
so that a session gets here what it gets from any other flagd: `fractional` without a key of its own takes
MurmurHash3 (32 bits, seed 0) of CBOR([flag, targeting key]), and bucket = hash * sum of weights >> 32
(https://flagd.dev/reference/custom-operations/fractional-operation-spec/).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType
from openfeature.provider import AbstractProvider, Metadata

from voicemesh.flags.definitions import EMPTY, Definitions


class FileProvider(AbstractProvider):
    """Evaluates the flags that it was given last."""

    def __init__(self) -> None:
        super().__init__()
        self.definitions = EMPTY
        self._core = FlagdCore()

    def use(self, definitions: Definitions) -> None:
        """Evaluate these from now on."""
        flags = _resolved(definitions.document["flags"], definitions.document.get("$evaluators", {}))
        # Another evaluator, not another content: a mistake leaves what there was.
        core = FlagdCore()
        core.set_flags(json.dumps({"flags": flags, "metadata": definitions.document.get("metadata", {})}))
        self._core, self.definitions = core, definitions

    def get_metadata(self) -> Metadata:
        """Return the provider's name."""
        return Metadata(name="voicemesh-flags-file")

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        """Evaluate a flag of true and false."""
        found: FlagResolutionDetails[bool] = self._core.resolve_boolean_value(
            flag_key, default_value, evaluation_context
        )
        return found

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        """Evaluate a flag of texts."""
        found: FlagResolutionDetails[str] = self._core.resolve_string_value(
            flag_key, default_value, evaluation_context
        )
        return found

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        """Evaluate a flag of whole numbers."""
        found: FlagResolutionDetails[int] = self._core.resolve_integer_value(
            flag_key, default_value, evaluation_context
        )
        return found

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        """Evaluate a flag of numbers."""
        found: FlagResolutionDetails[float] = self._core.resolve_float_value(
            flag_key, default_value, evaluation_context
        )
        return found

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        """Evaluate a flag of JSON."""
        found: FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]] = (
            self._core.resolve_object_value(flag_key, default_value, evaluation_context)
        )
        return found


def _resolved(value: Any, evaluators: Mapping[str, Any]) -> Any:
    """Return JSON with each `{"$ref": name}` replaced by that evaluator."""
    if isinstance(value, list):
        return [_resolved(item, evaluators) for item in value]
    if isinstance(value, dict):
        name = value.get("$ref")
        if len(value) == 1 and isinstance(name, str) and name in evaluators:
            return evaluators[name]
        return {name: _resolved(item, evaluators) for name, item in value.items()}
    return value
