"""What must be in the trace of a turn, whatever happens to it: edges, events and links, as data.

One mesh with Redis, two providers and voices of every temper runs each sort of turn, alone and then all
of them at the same time; it is stopped, so that every span is exported; the tests read what came.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from tests.support.mesh import running_mesh
from tests.support.openai_server import OpenAiServer, Reply, Request
from tests.support.otlp import OtlpReceiver, ReceivedSpan, otlp_receiver
from tests.support.redis_server import redis_server
from tests.support.trace_edges import (
    CACHE,
    CHUNKER,
    GATEWAY,
    LLM,
    LOOKED,
    TTS,
    TURN,
    Edge,
    Faults,
    Node,
    asked,
    connections_of,
    edges_of,
    faults_of,
    spoken,
)
from voicemesh.client import Frame, SpeechOptions, TurnReport, VoiceMesh, VoiceMeshError
from voicemesh.runtime import edges, permissions
from voicemesh.runtime import trace_names as names
from voicemesh.runtime.permissions import CHUNK, EXCHANGE, GENERATE, SYNTHESIZE

ASKED = asked("large")
SECOND = (((LLM, GENERATE), (LLM, "chat small")), ((LLM, "chat small"), (LLM, "POST")))
SAVED = (*LOOKED, ((CACHE, EXCHANGE), (CACHE, "EVAL")))

EDGES: dict[str, tuple[Edge, ...]] = {
    "asked": (*ASKED, *spoken("espeak"), *SAVED),
    "again": (*ASKED, *SAVED, ((CACHE, EXCHANGE), (CACHE, "GET"))),
    "cached": LOOKED,
    "retried": (*ASKED, *spoken("espeak")),
    "failed_over": (*ASKED, *SECOND, *spoken("espeak")),
    "resumed": (*ASKED, *spoken("espeak")),
    "slow_llm": (*ASKED, *spoken("espeak")),
    "interrupted": (*ASKED, *spoken("simulated")),
    "failed": (*ASKED, *SECOND),
    "lost_replica": (
        *spoken("simulated"),
        ((TTS, "text_to_speech simulated"), (TTS, "lease simulated")),
        (TURN, (GATEWAY, CHUNK)),
    ),
    "other_voice": (
        (TURN, (GATEWAY, SYNTHESIZE)),
        ((GATEWAY, SYNTHESIZE), (TTS, SYNTHESIZE)),
        ((TTS, SYNTHESIZE), (TTS, "text_to_speech simulated")),
        ((TTS, "text_to_speech simulated"), (TTS, "lease espeak")),
    ),
    "batched": spoken("simulated-steps"),
    "shared": LOOKED,
    "makes": (*LOOKED, *spoken("simulated")),
}
"""The edges that a turn of each sort has."""

EVENTS: dict[str, tuple[tuple[Node, str], ...]] = {
    "retried": (((LLM, GENERATE), names.RETRIED), (TURN, names.RETRIED), ((LLM, "POST"), names.ERROR)),
    "failed_over": (
        ((LLM, GENERATE), names.FAILED_OVER),
        (TURN, names.FAILED_OVER),
        (TURN, names.DEGRADED),
        ((LLM, "chat large"), names.ERROR),
    ),
    "resumed": (((LLM, GENERATE), names.RESUMED), (TURN, names.RESUMED), ((LLM, "chat large"), names.ERROR)),
    "interrupted": ((TURN, names.BARGE_IN),),
    "failed": ((TURN, names.ERROR), ((LLM, GENERATE), names.ERROR), ((GATEWAY, GENERATE), names.ERROR)),
    "refused": ((TURN, names.ERROR),),
    "lost_replica": (
        ((TTS, "text_to_speech simulated"), names.REPLICA_LOST),
        ((TTS, "lease simulated"), names.ERROR),
        (TURN, names.DEGRADED),
    ),
    "other_voice": (((TTS, "text_to_speech simulated"), names.FAILED_OVER), (TURN, names.DEGRADED)),
    "shared": ((TURN, names.FOLLOWED),),
    "asked": (((LLM, "POST"), names.HTTP_HEADERS), ((CHUNKER, CHUNK), names.CHUNK)),
}
"""The events that a turn of each sort has, and on which span."""

VOICES = json.dumps(
    [
        {"name": "espeak", "engine": "espeak"},
        {"name": "steps", "engine": "simulated-steps", "options": {"text_ms": 20, "step_ms": 20}},
        # The process dies on each chunk, and another one goes on.
        {
            "name": "fragile",
            "engine": "simulated",
            "replicas": 2,
            "options": {"crash_rate": 1, "troubled_attempts": 1},
            "breaker": {"failures": 100},
        },
        {
            "name": "hopeless",
            "engine": "simulated",
            "options": {"failure_rate": 1},
            "fallback": ["espeak"],
            "breaker": {"failures": 100},
        },
        {"name": "slow", "engine": "simulated", "options": {"first_frame_ms": 100, "rtf": 0.4}},
    ]
)
SECRET = "zeppelin"
"""Is in every prompt, reply and text; must be in no span."""


def reply(which: str) -> Callable[[Request], Reply]:
    """Return how a provider answers: by the first word of the prompt, and how often it was asked that."""
    asked: Counter[str] = Counter()
    tokens = (f"The {SECRET}", " answers", " in", " one", " sentence,", " and", " then", " once", " more.")

    def answer(request: Request) -> Reply:
        said = next(message["content"] for message in request.body["messages"] if message["role"] == "user")
        sort = said.split()[0]
        asked[said] += 1
        first = asked[said] == 1
        if sort == "failed" or (
            which == "first" and (sort == "failed_over" or (sort == "retried" and first))
        ):
            return Reply.error(503)
        if which == "first" and sort == "resumed" and first:
            return Reply(tokens=tokens, cut_after=5)
        if sort == "slow_llm":
            return Reply(tokens=tokens, header_delay_s=0.1, ttft_s=0.2)
        return Reply(tokens=tokens, token_interval_s=0.002)

    return answer


@dataclass
class Run:
    """The turns that were run, by sort, and what was exported."""

    receiver: OtlpReceiver
    reports: dict[str, list[TurnReport]] = field(default_factory=dict)

    @property
    def turns(self) -> list[TurnReport]:
        return [report for reports in self.reports.values() for report in reports]

    def traces(self, sort: str) -> list[list[ReceivedSpan]]:
        return [self.receiver.trace(report.trace_id) for report in self.reports[sort]]


class Turns:
    """Runs turns of each sort."""

    def __init__(self, client: VoiceMesh, run: Run) -> None:
        self._client = client
        self._run = run
        self._number = 0

    def _speech(self, voice: str, *, cache: bool = False) -> SpeechOptions:
        return SpeechOptions(voice=voice, max_lead_ms=0, cache=cache)

    def _note(self, sort: str, report: TurnReport | None) -> None:
        assert report is not None, sort
        self._run.reports.setdefault(sort, []).append(report)

    async def ask(self, sort: str, prompt: str = "", voice: str = "espeak", *, cache: bool = False) -> None:
        self._number += 1
        prompt = prompt or f"{sort} {self._number}, says the {SECRET}"
        turn = self._client.ask(prompt, speech=self._speech(voice, cache=cache), reply_cache=cache)
        try:
            await turn.collect()
        except VoiceMeshError:
            assert sort == "failed", turn.report
        self._note(sort, turn.report)

    async def say(self, sort: str, voice: str) -> None:
        self._number += 1
        text = f"Number {self._number} of the {SECRET} is spoken, and it takes a moment."
        recording = await self._client.say(text, speech=self._speech(voice)).collect()
        self._note(sort, recording.report)

    async def cached(self) -> None:
        prompt = f"asked about the {SECRET} that everybody asks about"
        if "cached" not in self._run.reports:
            await self.ask("asked", prompt, cache=True)
        await self.ask("cached", prompt, cache=True)

    async def interrupted(self) -> None:
        self._number += 1
        async with self._client.converse(speech=self._speech("slow"), reply_cache=False) as conversation:
            turn = await conversation.ask(f"interrupted {self._number} by the {SECRET}")
            interrupted = False
            async for event in turn:
                if isinstance(event, Frame) and not interrupted:
                    interrupted = True
                    await conversation.interrupt(played_ms=0)
        self._note("interrupted", turn.report)

    async def again(self) -> None:
        """Ask for the second time in one conversation: what was said is read from the cache."""
        self._number += 1
        async with self._client.converse(speech=self._speech("espeak"), reply_cache=False) as conversation:
            for sort in ("asked", "again"):
                turn = await conversation.ask(f"{sort} {self._number} about the {SECRET}")
                await turn.collect()
                self._note(sort, turn.report)

    async def refused(self) -> None:
        async with self._client.converse(speech=self._speech("espeak")) as conversation:
            turn = await conversation.ask(f"What does the {SECRET} do?", turn_id="x" * 201)
            with pytest.raises(VoiceMeshError):
                await turn.collect()
        self._note("refused", turn.report)

    async def shared(self) -> None:
        """Two that want the same at once; which of them makes it is settled by the cache."""
        self._number += 1
        text = f"The {SECRET} number {self._number} leaves from the eastern pier at half past nine today."
        turns = [self._client.say(text, speech=self._speech("slow", cache=True)) for _ in range(2)]
        recordings = await asyncio.gather(*(turn.collect() for turn in turns))
        for recording in recordings:
            follows = any(chunk.cache == "shared" for chunk in recording.report.chunks)
            self._note("shared" if follows else "makes", recording.report)

    async def batched(self) -> None:
        await asyncio.gather(*(self.say("batched", "steps") for _ in range(3)))

    def all(self) -> list[Callable[[], Awaitable[None]]]:
        """Return one run of every sort."""
        asks = ("asked", "retried", "failed_over", "resumed", "slow_llm", "failed")
        return [
            *(lambda sort=sort: self.ask(sort) for sort in asks),
            self.again,
            self.cached,
            self.interrupted,
            self.refused,
            lambda: self.say("lost_replica", "fragile"),
            lambda: self.say("other_voice", "hopeless"),
            self.shared,
            self.batched,
        ]


async def _run() -> Run:
    async with (
        otlp_receiver("127.0.0.1:0") as receiver,
        OpenAiServer(default=reply("first")) as first,
        OpenAiServer(default=reply("second")) as second,
        redis_server() as redis,
    ):
        provider = {"max_retries": 1, "breaker": {"failures": 100}}
        providers = [
            {"name": "first", "base_url": first.base_url, "model": "large", **provider},
            {"name": "second", "base_url": second.base_url, "model": "small", **provider},
        ]
        run = Run(receiver)
        async with (
            running_mesh(
                OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
                OTEL_BSP_SCHEDULE_DELAY="200",
                VOICEMESH_LLM_PROVIDERS=json.dumps(providers),
                VOICEMESH_LLM_RETRY_PERCENT="100",
                VOICEMESH_TTS_VOICES=VOICES,
                VOICEMESH_REDIS_URL=redis.url,
                VOICEMESH_CACHE_REDIS_TIMEOUT_MS="5000",
            ) as mesh,
            VoiceMesh(mesh.address("gateway")) as client,
        ):
            turns = Turns(client, run)
            for turn in turns.all():
                await turn()
            await asyncio.gather(*(turn() for turn in (*turns.all(), *turns.all())))
        return run


@pytest.fixture(scope="module")
def run() -> Run:
    return asyncio.run(_run())


@pytest.mark.parametrize(
    ("sort", "parent", "child"),
    [(sort, *edge) for sort, edges in EDGES.items() for edge in edges],
    ids=[f"{sort}: {p[0]} {p[1]} → {c[0]} {c[1]}" for sort, edges in EDGES.items() for p, c in edges],
)
def test_every_turn_of_its_sort_has_this_edge(run: Run, sort: str, parent: Node, child: Node) -> None:
    for spans in run.traces(sort):
        assert (parent, child) in edges_of(spans), sorted(edges_of(spans))


@pytest.mark.parametrize(
    ("sort", "where", "event"),
    [(sort, *event) for sort, events in EVENTS.items() for event in events],
    ids=[f"{sort}: {w[1]} {event}" for sort, events in EVENTS.items() for w, event in events],
)
def test_every_turn_of_its_sort_has_this_event(run: Run, sort: str, where: Node, event: str) -> None:
    for spans in run.traces(sort):
        found = [(span.service, span.name, name) for span in spans for name in span.events]
        assert (*where, event) in found, sorted(found)


def test_what_goes_well_has_no_event_of_trouble(run: Run) -> None:
    trouble = {
        names.ERROR,
        names.RETRIED,
        names.FAILED_OVER,
        names.RESUMED,
        names.REPLICA_LOST,
        names.DEGRADED,
    }
    for sort in ("asked", "cached", "batched", "slow_llm"):
        for spans in run.traces(sort):
            assert not [(span.name, name) for span in spans for name in span.events if name in trouble]


def test_no_span_is_an_orphan_or_of_another_turn(run: Run) -> None:
    assert len({report.trace_id for report in run.turns}) == len(run.turns) >= 36
    assert faults_of(run.receiver.spans, run.turns) == Faults()


def test_turns_go_where_the_table_of_edges_says_and_nowhere_else(run: Run) -> None:
    table = {(edge.caller, edge.callee) for edge in edges.EDGES if edge.in_turns}
    # The one that this mesh has switched off.
    assert connections_of(run.receiver.spans) == table - {(permissions.CACHE, edges.EMBEDDINGS)}


def test_a_turn_that_hears_anothers_audio_is_linked_with_that_one(run: Run) -> None:
    makers = {report.trace_id for report in run.reports["makes"]}
    spans_of = {span.span_id: span.trace_id for span in run.receiver.spans}
    linked = []
    for report in run.reports["shared"]:
        (root,) = [span for span in run.receiver.trace(report.trace_id) if span.name == "turn"]
        assert root.links
        for trace_id, span_id in root.links:
            assert trace_id != report.trace_id
            assert spans_of[span_id] == trace_id
            linked.append(trace_id)
    assert set(linked) <= makers


def test_one_asks_redis_for_all_that_want_the_same_audio(run: Run) -> None:
    edge = ((CACHE, EXCHANGE), (CACHE, "GETRANGE"))
    asked = [edge in edges_of(spans) for sort in ("makes", "shared") for spans in run.traces(sort)]
    assert any(asked)


def test_a_batch_and_its_chunks_are_linked_both_ways(run: Run) -> None:
    by_id = {span.span_id: span for span in run.receiver.spans}
    batches = [span for span in run.receiver.spans if span.name == names.BATCH_SPAN]
    assert batches
    met: set[str] = set()
    for batch in batches:
        chunks = [by_id[span_id] for _, span_id in batch.links]
        assert len(chunks) == len({chunk.span_id for chunk in chunks}) >= 2
        assert {chunk.name for chunk in chunks} == {"text_to_speech simulated-steps"}
        assert 2 <= batch.attributes[names.BATCH_SIZE] <= batch.attributes[names.BATCH_CHUNKS]
        assert batch.attributes[names.BATCH_STAGE] in ("text", "decode")
        assert batch.start_ns < batch.end_ns
        for chunk in chunks:
            assert (batch.trace_id, batch.span_id) in chunk.links
            met.add(chunk.trace_id)
    # Of three that come at once each meets another.
    assert met == {report.trace_id for report in run.reports["batched"]}


def test_of_several_replicas_that_had_a_chunk_each_is_a_span(run: Run) -> None:
    alone = [span for span in run.traces("lost_replica")[0] if span.name == "lease simulated"]
    assert {span.failed for span in alone} == {True, False}, "another replica goes on"
    for spans in run.traces("lost_replica"):
        leases = [span for span in spans if span.name == "lease simulated"]
        lost = [span for span in leases if span.failed]
        assert len(leases) >= len(lost) > 0
        for span in lost:
            assert span.attributes[names.ERROR_TYPE] == "REPLICA_LOST"
            assert span.attributes[names.REASON]
    for spans in run.traces("other_voice"):
        leases = sorted((s for s in spans if s.name.startswith("lease")), key=lambda span: span.start_ns)
        voices = [span.attributes[names.TTS_VOICE] for span in leases]
        assert any(voice.startswith("espeak") for voice in voices)


def test_a_replica_that_had_a_chunk_alone_is_in_the_span_of_the_chunk(run: Run) -> None:
    for sort in ("asked", "retried", "slow_llm"):
        for spans in run.traces(sort):
            assert not [span.name for span in spans if span.name.startswith(names.LEASE_SPAN)]
            for span in spans:
                if span.name.startswith(names.TEXT_TO_SPEECH):
                    assert span.attributes[names.TTS_REPLICA]
                    assert span.attributes[names.TTS_QUEUE_MS] >= 0


def test_the_root_says_what_a_collector_keeps_traces_by(run: Run) -> None:
    outcomes = {"failed": "failed", "interrupted": "interrupted", "refused": "refused"}
    for sort, reports in run.reports.items():
        for report in reports:
            (root,) = [span for span in run.receiver.trace(report.trace_id) if span.name == "turn"]
            assert root.attributes[names.OUTCOME] == outcomes.get(sort, "completed")
            assert root.failed == (sort in ("failed", "refused"))
            assert (names.ERROR_TYPE in root.attributes) == root.failed
            assert (names.DEGRADED in root.attributes) == bool(report.degraded)
            if sort != "refused":
                # The caller's is later, by how long the frame was on its way.
                assert 0 <= root.attributes[names.TTFA_MS] <= report.ttfa_ms
                assert root.attributes[names.TTFA_MS] <= root.attributes[names.TOTAL_MS]


def test_no_span_says_what_was_said(run: Run) -> None:
    for span in run.receiver.spans:
        told = (span.name, span.attributes, span.event_attributes)
        assert SECRET not in str(told), span.name
