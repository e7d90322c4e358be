"""What the TTS service measures. `docs/metrics.md` says it for people, and is made from this."""

from collections.abc import Mapping
from typing import Final

from services.tts.core.members import Cause, MemberState
from voicemesh.runtime.instruments import LATENCY_S, Declared, Instrument, Kind, Values

_VOICE: Final[Mapping[str, Values]] = {"voice": Declared(64)}
STATES: Final = tuple(state.name.lower() for state in MemberState if state is not MemberState.CLOSED)
"""Of replicas that there are."""

QUEUE_TIME: Final = Instrument(
    kind=Kind.HISTOGRAM,
    name="voicemesh.tts.queue.duration",
    unit="s",
    description="From the arrival of a chunk to its first lease of a replica.",
    labels=_VOICE,
    buckets=LATENCY_S,
)
FIRST_FRAME: Final = Instrument(
    kind=Kind.HISTOGRAM,
    name="voicemesh.tts.time_to_first_frame",
    unit="s",
    description="From the lease of a replica to the first frame of a chunk.",
    labels=_VOICE,
    buckets=LATENCY_S,
)
BATCH_SIZE: Final = Instrument(
    kind=Kind.HISTOGRAM,
    name="voicemesh.tts.batch.size",
    unit="{chunk}",
    description="Chunks that an engine's step was padded to, of engines that batch.",
    labels=_VOICE,
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
REAL_TIME_FACTOR: Final = Instrument(
    kind=Kind.HISTOGRAM,
    name="voicemesh.tts.real_time_factor",
    unit="1",
    description="Engine time for each second of audio, of a chunk that was spoken to its end.",
    labels=_VOICE,
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 5.0),
)
DEPTH: Final = Instrument(
    kind=Kind.GAUGE,
    name="voicemesh.tts.queue.depth",
    unit="{chunk}",
    description="Chunks that wait for a lease.",
    labels=_VOICE,
)
WAIT: Final = Instrument(
    kind=Kind.GAUGE,
    name="voicemesh.tts.queue.wait",
    unit="s",
    description="How long a new chunk would wait for its lease, as expected; 0 while one is free.",
    labels=_VOICE,
)
LEASES: Final = Instrument(
    kind=Kind.GAUGE,
    name="voicemesh.tts.leases",
    unit="{lease}",
    description="Leases that are held: chunks that are spoken now.",
    labels=_VOICE,
)
SLOTS: Final = Instrument(
    kind=Kind.GAUGE,
    name="voicemesh.tts.slots",
    unit="{lease}",
    description="Leases that the ready replicas have in all.",
    labels=_VOICE,
)
OCCUPANCY: Final = Instrument(
    kind=Kind.GAUGE,
    name="voicemesh.tts.occupancy",
    unit="1",
    description="Share of the slots that is leased, 0 to 1.",
    labels=_VOICE,
)
REPLICAS: Final = Instrument(
    kind=Kind.GAUGE,
    name="voicemesh.tts.replicas",
    unit="{replica}",
    description="Replicas, by their state.",
    labels={**_VOICE, "state": STATES},
)
DECLARED: Final = Instrument(
    kind=Kind.GAUGE,
    name="voicemesh.tts.replicas.declared",
    unit="{replica}",
    description="Replicas that are to be there.",
    labels=_VOICE,
)
REPLICA_MEMORY: Final = Instrument(
    kind=Kind.GAUGE,
    name="voicemesh.tts.replica.memory",
    unit="By",
    description="What the process of a replica holds, as its last heartbeat said.",
    labels={"replica": Declared(256), "memory": ("resident", "device")},
)
LOSSES: Final = Instrument(
    kind=Kind.OBSERVED_COUNTER,
    name="voicemesh.tts.replica.losses",
    unit="{replica}",
    description="Replicas that were lost and replaced.",
    labels={**_VOICE, "cause": tuple(cause.value for cause in Cause)},
)
RECYCLED: Final = Instrument(
    kind=Kind.OBSERVED_COUNTER,
    name="voicemesh.tts.replica.recycled",
    unit="{replica}",
    description="Replicas that were above a mark of memory and replaced.",
    labels=_VOICE,
)
CHUNKS: Final = Instrument(
    kind=Kind.OBSERVED_COUNTER,
    name="voicemesh.tts.chunks",
    unit="{chunk}",
    description="Chunks that have ended, by how.",
    labels={**_VOICE, "outcome": ("completed", "cancelled", "failed")},
)
AUDIO: Final = Instrument(
    kind=Kind.OBSERVED_COUNTER,
    name="voicemesh.tts.audio",
    unit="s",
    description="Audio that engines made.",
    labels=_VOICE,
)
ENGINE_TIME: Final = Instrument(
    kind=Kind.OBSERVED_COUNTER,
    name="voicemesh.tts.engine.time",
    unit="s",
    description="Time that engines were busy with chunks.",
    labels=_VOICE,
)
WASTED: Final = Instrument(
    kind=Kind.OBSERVED_COUNTER,
    name="voicemesh.tts.engine.wasted",
    unit="s",
    description="Engine time whose audio nobody heard: barge-ins, losers of hedges.",
    labels=_VOICE,
)
STAND_INS: Final = Instrument(
    kind=Kind.OBSERVED_COUNTER,
    name="voicemesh.tts.stand_ins",
    unit="{chunk}",
    description="Chunks that asked for the voice and that another one spoke.",
    labels=_VOICE,
)
HEDGES: Final = Instrument(
    kind=Kind.OBSERVED_COUNTER,
    name="voicemesh.tts.hedges",
    unit="{chunk}",
    description="First chunks that were late and asked for twice.",
    labels=_VOICE,
)
HEDGES_WON: Final = Instrument(
    kind=Kind.OBSERVED_COUNTER,
    name="voicemesh.tts.hedges.won",
    unit="{chunk}",
    description="Those of them that the second one spoke.",
    labels=_VOICE,
)
