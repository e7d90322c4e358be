"""What must hold of every turn, and of every process over time. Plain functions of what was seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Final

from benchmarks.attribution import holds
from voicemesh.client import Chunk, Degraded, Event, Frame, TurnReport, TurnStarted, VoiceMeshError
from voicemesh.client import TextDelta as Text

_LEAST_SAMPLES: Final = 12
"""Of fewer, no slope is told."""


@dataclass(frozen=True)
class Violation:
    """Something that must not be.

    Attributes:
        rule: Which one.
        what: What was seen.
        turn_id: Of which turn; "" for none.
        at_s: When, in seconds since the start.
        faults: What was broken on purpose at that time.

    """

    rule: str
    what: str
    turn_id: str = ""
    at_s: float = 0.0
    faults: tuple[str, ...] = ()


@dataclass(slots=True)
class Seen:
    """A turn as its caller saw it.

    Attributes:
        sort: Which sort of turn it is.
        expected: The whole reply, as the model is to write it; "" where that is not known.
        voice: The voice that was asked for.
        events: What came, in order.
        report: The account of it, if there was any.
        error: Why it failed, if it did.
        cut: True where the caller interrupted it, or left.
        anew_behind_audio: True where it was asked anew at another gateway though some of it had been heard.
        began_s: When it began, in seconds since the start.
        ended_s: When it ended.

    """

    sort: str
    expected: str
    voice: str
    events: list[Event] = field(default_factory=list)
    report: TurnReport | None = None
    error: VoiceMeshError | None = None
    cut: bool = False
    anew_behind_audio: bool = False
    began_s: float = 0.0
    ended_s: float = 0.0

    def take(self, event: Event) -> None:
        """Take an event. Where the client asks another gateway, what came before is void."""
        if isinstance(event, Degraded) and event.what == "gateway":
            self.anew_behind_audio |= bool(self.frames)
            self.events.clear()
        self.events.append(event)

    @property
    def whole(self) -> bool:
        """Whether all of it ought to have come: an interrupt behind the end drops what is on its way."""
        return self.report is not None and self.report.outcome == "completed" and not self.cut

    @property
    def frames(self) -> list[Frame]:
        """Its audio."""
        return [event for event in self.events if isinstance(event, Frame)]

    @property
    def text(self) -> str:
        """Its text, as far as it came."""
        return "".join(event.text for event in self.events if isinstance(event, Text))

    @property
    def said(self) -> dict[int, str]:
        """What is spoken, by chunk."""
        return {event.index: event.text for event in self.events if isinstance(event, Chunk)}


def problems(seen: Seen, references: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """Return which rules a turn breaks, and how. `references`: the audio of its chunks, by text."""
    found = [*_of_its_end(seen), *_of_its_order(seen), *_of_its_text(seen), *_of_its_audio(seen, references)]
    # Of a turn whose gateway is gone nobody sent an account.
    told = seen.report if seen.error is None or seen.error.reached else None
    if told is not None and told.ttfa_ms and not holds(told):
        found.append(("attribution", _account(told)))
    return found


def _account(report: TurnReport) -> str:
    chunks = [
        f"chunk {chunk.index}: path {chunk.path_ms:.3f}, stages {sum(chunk.stages.values()):.3f}, "
        f"paced {chunk.paced_ms:.3f}, unattributed {chunk.unattributed_ms:.3f}"
        for chunk in report.chunks
        if abs(sum(chunk.stages.values()) + chunk.paced_ms + chunk.unattributed_ms - chunk.path_ms) > 1
    ]
    return (
        f"ttfa {report.ttfa_ms:.3f}, stages {sum(report.stages.values()):.3f}, unattributed "
        f"{report.unattributed_ms:.3f}, hops {dict(report.hops)}, degraded {report.degraded}, rules "
        f"{report.attribution_violations} {'; '.join(chunks)}"
    )


def _of_its_end(seen: Seen) -> list[tuple[str, str]]:
    found = []
    if seen.report is None and seen.error is None and not seen.cut:
        found.append(("one end", "neither a report nor an error came"))
    outcome = seen.report.outcome if seen.report else ""
    if outcome == "completed" and seen.error is not None:
        found.append(("one end", f"completed, and an error: {seen.error}"))
    if outcome == "interrupted" and not seen.cut:
        found.append(("one end", "interrupted, and nobody did"))
    if seen.error is not None and not seen.error.reason:
        found.append(("typed errors", f"{seen.error.code} without a reason: {seen.error}"))
    return found


def _of_its_order(seen: Seen) -> list[tuple[str, str]]:
    found = []
    if sum(isinstance(event, TurnStarted) for event in seen.events) > 1:
        found.append(("order", "it began twice"))
    if seen.anew_behind_audio:
        found.append(("order", "it was asked anew behind its first audio"))
    heard = 0
    begun: dict[int, int] = {}
    for frame in seen.frames:
        if frame.turn_offset_samples != heard:
            found.append(
                ("audio", f"a frame at {frame.turn_offset_samples} samples of the turn, not {heard}")
            )
        if frame.offset_samples != begun.get(frame.chunk_index, 0):
            what = f"a frame at {frame.offset_samples} samples of chunk {frame.chunk_index}"
            found.append(("audio", f"{what}, not {begun.get(frame.chunk_index, 0)}"))
        heard = frame.turn_offset_samples + frame.samples
        begun[frame.chunk_index] = frame.offset_samples + frame.samples
    order = [frame.chunk_index for frame in seen.frames]
    if any(later < earlier for earlier, later in pairwise(order)):
        found.append(("audio", f"chunks out of order: {order}"))
    return found[:3]


def _of_its_text(seen: Seen) -> list[tuple[str, str]]:
    if not seen.expected:
        return []
    if seen.text == seen.expected if seen.whole else seen.expected.startswith(seen.text):
        return []
    return [("text", f"{seen.text!r} is not {'' if seen.whole else 'the beginning of '}{seen.expected!r}")]


def _of_its_audio(seen: Seen, references: Mapping[str, bytes]) -> list[tuple[str, str]]:
    found = []
    audio: dict[int, bytearray] = {}
    for frame in seen.frames:
        audio.setdefault(frame.chunk_index, bytearray()).extend(frame.audio)
    last = max(audio, default=-1)
    for index, text in seen.said.items():
        reference, made = references.get(text), bytes(audio.get(index, b""))
        if reference is None:
            continue
        if seen.whole or (index < last and made):
            if made != reference:
                found.append(("audio", _difference(index, text, made, reference)))
        elif not reference.startswith(made):
            found.append(("audio", _difference(index, text, made, reference[: len(made)])))
    return found


def _difference(index: int, text: str, made: bytes, reference: bytes) -> str:
    same = next(
        (at for at, (one, other) in enumerate(zip(made, reference, strict=False)) if one != other), None
    )
    where = f"from byte {same}" if same is not None else "in length"
    return f"chunk {index} {text!r}: {len(made)} bytes, not the {len(reference)} of its reference: {where}"


@dataclass(frozen=True)
class Trend:
    """How a figure of a process moved.

    Attributes:
        over_s: For how long it was watched, in seconds.
        first: At the beginning.
        last: At the end.
        per_hour: The median of all slopes between two samples (Theil and Sen), in an hour.
        low: Below it, with 95% confidence, no slope lies.
        high: Above it, with 95% confidence, no slope lies.

    """

    over_s: float
    first: float
    last: float
    per_hour: float
    low: float
    high: float


def trend(samples: Sequence[tuple[float, float]]) -> Trend | None:
    """Return how samples (seconds, figure) moved; None where they are too few.

    The slope is Theil's and Sen's; its bounds are the ranks of the slopes that Kendall's test gives
    (Sen 1968, "Estimates of the Regression Coefficient Based on Kendall's Tau"). Of long series every
    so many samples are left out, so that there are at most some 200.
    """
    if len(samples) < _LEAST_SAMPLES:
        return None
    thinned = samples[:: max(1, len(samples) // 200)]
    slopes = sorted(
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for place, earlier in enumerate(thinned)
        for later in thinned[place + 1 :]
        if later[0] > earlier[0]
    )
    count = len(thinned)
    half = 1.96 * (count * (count - 1) * (2 * count + 5) / 18) ** 0.5
    low = slopes[max(0, round((len(slopes) - half) / 2))]
    high = slopes[min(len(slopes) - 1, round((len(slopes) + half) / 2))]
    over_s = samples[-1][0] - samples[0][0]
    return Trend(
        over_s, samples[0][1], samples[-1][1], *(3600 * value for value in (median(slopes), low, high))
    )


def grows(found: Trend, *, most: float) -> bool:
    """Say whether a figure certainly grows, and by more than `most` in an hour."""
    return found.low > 0 and found.per_hour > most
