"""What the steps of a brown-out do to how a turn is made. A turn keeps what it began with."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from gateway.admission.brownout import Step
from gateway.choosing import Choice, Choosing
from voicemesh.common.v1 import common_pb2
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.runtime.errors import MeshError

_ALL_OTHERS: Final = "*"
_ADAPTIVE: Final = (common_pb2.ChunkPolicy.KIND_UNSPECIFIED, common_pb2.ChunkPolicy.KIND_ADAPTIVE)
GivenUp = tuple[tuple[str, str], ...]
"""What was given up, and why."""


def dimmed(
    choice: Choice,
    configure: pb.Configure,
    steps: Sequence[Step],
    voices: Mapping[str, str],
    choosing: Choosing,
    field: str,
) -> tuple[Choice, GivenUp]:
    """Return how a turn is made when `steps` are taken, and what of them is to be told.

    Args:
        choice: How it would be made.
        configure: What its caller asked for.
        steps: The steps.
        voices: The cheaper voice of each; of `*` for those that are not named.
        choosing: Chooses again for another voice.
        field: The path of `configure.speech`.

    """
    given_up: list[tuple[str, str]] = []
    for step in steps:
        if step is Step.LONGER_CHUNKS and choice.speech.policy.kind in _ADAPTIVE:
            policy = common_pb2.ChunkPolicy()
            policy.CopyFrom(choice.speech.policy)
            # The first chunk still leaves at its first clause: nobody waits longer for it.
            policy.kind = common_pb2.ChunkPolicy.KIND_CLAUSE
            choice = replace(choice, speech=replace(choice.speech, policy=policy))
            given_up.append((step, "much load: whole sentences are spoken as one"))
        elif step is Step.CHEAPER_VOICE:
            cheaper = _cheaper(choice, configure, voices, choosing, field)
            if cheaper is not None:
                asked = choice.speech.voice.name
                choice = cheaper
                given_up.append((step, f"much load: {choice.speech.voice.name} speaks instead of {asked}"))
        elif step is Step.CACHED_ONLY:
            given_up.append((step, "too much load: only what is cached is given"))
    return choice, tuple(given_up)


def _cheaper(
    choice: Choice, configure: pb.Configure, voices: Mapping[str, str], choosing: Choosing, field: str
) -> Choice | None:
    """Return the same with the cheaper voice; None where there is none, or it cannot speak now."""
    name = choice.speech.voice.name
    cheaper = voices.get(name) or voices.get(_ALL_OTHERS)
    if not cheaper or cheaper == name:
        return None
    wanted = pb.Configure()
    wanted.CopyFrom(configure)
    wanted.speech.voice = cheaper
    try:
        speech = choosing.plain(wanted, field).speech
    except MeshError:
        return None  # it is not there, or cannot do what was asked for: the dearer one is better than none
    kept = replace(
        speech,
        policy=choice.speech.policy,
        word_timings=choice.speech.word_timings,
        max_lead_ms=choice.speech.max_lead_ms,
    )
    return replace(choice, speech=kept)
