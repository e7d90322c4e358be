"""Names of the contract's enums as they stand in the JSON form: lower case, without the prefix."""

from collections.abc import Iterable, Mapping
from typing import Final

from voicemesh.common.v1 import common_pb2
from voicemesh.gateway.v1 import gateway_pb2


def _names(members: Iterable[tuple[str, int]], prefix: str) -> Mapping[int, str]:
    return {number: "" if number == 0 else name.removeprefix(prefix).lower() for name, number in members}


ENCODINGS: Final = _names(common_pb2.AudioEncoding.items(), "AUDIO_ENCODING_")
CHUNK_REASONS: Final = _names(common_pb2.ChunkReason.items(), "CHUNK_REASON_")
DEGRADATIONS: Final = _names(gateway_pb2.Degradation.items(), "DEGRADATION_")
PRIORITIES: Final = _names(gateway_pb2.Priority.items(), "PRIORITY_")
OUTCOMES: Final = _names(gateway_pb2.TurnOutcome.items(), "TURN_OUTCOME_")
CACHE_OUTCOMES: Final = _names(gateway_pb2.CacheOutcome.items(), "CACHE_OUTCOME_")
STAGES: Final = _names(common_pb2.Stage.items(), "STAGE_")
