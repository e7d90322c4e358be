"""Flags and turns: what a flag says reaches the services, and what it says wrongly reaches nobody."""

import asyncio
import json
import os
import pathlib
import resource
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from openfeature.flag_evaluation import FlagResolutionDetails
from openfeature.provider import AbstractProvider
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

from gateway.flags_file import WatchedFile
from gateway.http.edge import HttpEdge
from tests.contract.gateway_harness import FORMAT, GUARD_S, VOICE, Gateway, Services, running_gateway
from tests.support.config_map import ConfigMap
from voicemesh.chunker.v1 import chunker_pb2
from voicemesh.client import SpeechOptions, TurnReport, VoiceMesh, VoiceMeshError
from voicemesh.common.v1 import common_pb2
from voicemesh.flags.definitions import CHUNK_POLICY, MODEL, PROMPT
from voicemesh.flags.definitions import VOICE as VOICE_FLAG
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.llm.v1 import llm_pb2
from voicemesh.tts.v1 import tts_pb2

OTHER = common_pb2.Voice(name="other/de", engine="scripted", language="de", native_format=FORMAT)


class Noting(Services):
    """Services that note what they were asked."""

    def __init__(self) -> None:
        super().__init__(voices=[VOICE, OTHER])
        self.models: list[str] = []
        self.prompts: list[str] = []
        self.policies: list[str] = []
        self.spoken_by: list[str] = []

    async def Generate(
        self, request_iterator: AsyncIterator[llm_pb2.GenerateRequest], context: Any
    ) -> AsyncIterator[llm_pb2.GenerateResponse]:
        async def noted() -> AsyncIterator[llm_pb2.GenerateRequest]:
            async for request in request_iterator:
                if request.WhichOneof("event") == "start":
                    self.models.append(request.start.model)
                    self.prompts.append(request.start.messages[0].parts[0].text)
                yield request

        async for response in super().Generate(noted(), context):
            yield response

    async def Chunk(
        self, request_iterator: AsyncIterator[chunker_pb2.ChunkRequest], context: Any
    ) -> AsyncIterator[chunker_pb2.ChunkResponse]:
        async def noted() -> AsyncIterator[chunker_pb2.ChunkRequest]:
            async for request in request_iterator:
                if request.WhichOneof("event") == "configure":
                    policy = request.configure.policy
                    kind = common_pb2.ChunkPolicy.Kind.Name(policy.kind).removeprefix("KIND_").lower()
                    self.policies.append(f"{kind}:{policy.words}" if policy.words else kind)
                yield request

        async for response in super().Chunk(noted(), context):
            yield response

    async def Synthesize(
        self, request_iterator: AsyncIterator[tts_pb2.SynthesizeRequest], context: Any
    ) -> AsyncIterator[tts_pb2.SynthesizeResponse]:
        async def noted() -> AsyncIterator[tts_pb2.SynthesizeRequest]:
            async for request in request_iterator:
                if request.WhichOneof("event") == "configure":
                    self.spoken_by.append(request.configure.voice)
                yield request

        async for response in super().Synthesize(noted(), context):
            yield response


def flag(value: str, **more: Any) -> dict[str, Any]:
    return {"state": "ENABLED", "variants": {"new": value}, "defaultVariant": "new", **more}


def write(path: pathlib.Path, flags: dict[str, Any]) -> None:
    path.write_text(json.dumps({"flags": flags}))


ALL = {
    PROMPT: flag("Be brief."),
    MODEL: flag("small"),
    CHUNK_POLICY: flag("words:4"),
    VOICE_FLAG: flag("other/de"),
}
EVERY = dict.fromkeys(ALL, "new")


async def ask(folder: pathlib.Path, **options: Any) -> TurnReport:
    async with asyncio.timeout(GUARD_S), VoiceMesh(f"unix:{folder}/gateway") as mesh:
        return (await mesh.ask("What is rain?", **options).collect()).report


async def until(folder: pathlib.Path, variants: dict[str, str]) -> TurnReport:
    """Ask until flags have had that say: the file is looked at while turns run."""
    async with asyncio.timeout(GUARD_S):
        while True:
            report = await ask(folder)
            assert report.outcome == "completed"
            if report.variants == variants:
                return report


async def test_flags_say_how_a_turn_is_made_and_the_turn_says_so(
    socket_folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    path, services = tmp_path / "flags.json", Noting()
    write(path, ALL)
    async with running_gateway(str(socket_folder), services, flags_file=str(path)) as gateway:
        await gateway.serving()
        report = await ask(socket_folder, session_id="s1")
        assert report.variants == report.to_json()["variants"] == EVERY
        assert (services.prompts, services.models) == (["Be brief."], ["small"])
        assert (services.policies, services.spoken_by) == (["words:4"], ["other/de"])
        (span,) = gateway.spans("turn")
        attributes = dict(span.attributes or {})
        assert attributes["voicemesh.voice"] == "other/de"
        for name in ("prompt", "model", "chunk_policy", "voice"):
            assert attributes[f"voicemesh.variant.{name}"] == "new"
        events = [
            dict(event.attributes or {}) for event in span.events if event.name == "feature_flag.evaluation"
        ]
        assert {event["feature_flag.key"]: event["feature_flag.result.variant"] for event in events} == EVERY
        assert {event["feature_flag.context.id"] for event in events} == {"s1"}
        assert {event["feature_flag.provider.name"] for event in events} == {"voicemesh-flags-file"}
        assert {event["feature_flag.result.reason"] for event in events} == {"static"}


async def test_what_a_caller_asked_for_stays_unless_a_flag_overrides_it(
    socket_folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    path, services = tmp_path / "flags.json", Noting()
    write(path, {**ALL, MODEL: flag("small", metadata={"override": True})})
    own = SpeechOptions(voice=VOICE.name, policy="sentence", min_chars=10)
    async with running_gateway(str(socket_folder), services, flags_file=str(path)) as gateway:
        await gateway.serving()
        report = await ask(socket_folder, speech=own, system_prompt="Mine.", model="big")
        assert report.variants == {MODEL: "new"}
        assert (services.prompts, services.models) == (["Mine."], ["small"])
        assert (services.policies, services.spoken_by) == (["sentence"], [VOICE.name])


async def test_a_prompt_of_the_gateway_is_chosen_by_its_name(
    socket_folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    path, services = tmp_path / "flags.json", Noting()
    write(path, {PROMPT: flag("polite", metadata={"override": True})})
    limits = {"flags_file": str(path), "gateway_prompts": {"polite": "Be polite."}}
    async with running_gateway(str(socket_folder), services, **limits) as gateway:
        await gateway.serving()
        own = pb.Configure(system_prompt="Mine.")
        for configure in (pb.Configure(), own, pb.Configure(system_prompt_variant="compact")):
            async with asyncio.timeout(GUARD_S):
                assert await asked(gateway, configure) == {PROMPT: "new"}
        write(path, {PROMPT: flag("polite")})
        await until(socket_folder, {PROMPT: "new"})
        async with asyncio.timeout(GUARD_S):
            while await asked(gateway, pb.Configure(system_prompt_variant="compact")):
                pass  # the override is still there
        assert set(services.prompts[:3]) == {"Be polite."}
        assert services.prompts[-1] not in ("Be polite.", "")


async def asked(gateway: Gateway, configure: pb.Configure) -> dict[str, str]:
    """Ask in the words of the contract; return what flags had a say."""
    ended = asyncio.Event()

    async def requests() -> AsyncIterator[pb.ConverseRequest]:
        yield pb.ConverseRequest(configure=configure)
        part = common_pb2.ContentPart(text="What is rain?")
        yield pb.ConverseRequest(prompt=pb.Prompt(parts=[part]))
        await ended.wait()

    variants: dict[str, str] = {}
    async for response in gateway.stub.Converse(requests()):
        if response.WhichOneof("event") == "turn_completed":
            variants = dict(response.turn_completed.report.variants)
            ended.set()
    return variants


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({VOICE_FLAG: flag("nobody/xx")}, "there is no voice named 'nobody/xx'"),
        ({CHUNK_POLICY: flag("adaptive", targeting={"%": [1, 0]})}, "modulo by zero"),
    ],
)
async def test_what_a_flag_says_wrongly_is_counted_and_fails_no_turn(
    socket_folder: pathlib.Path,
    tmp_path: pathlib.Path,
    flags: dict[str, Any],
    told: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path, services = tmp_path / "flags.json", Noting()
    write(path, {**ALL, **flags})
    (key,) = flags
    async with running_gateway(str(socket_folder), services, flags_file=str(path)) as gateway:
        await gateway.serving()
        for _ in range(3):
            report = await ask(socket_folder)
            assert (report.outcome, report.degraded) == ("completed", ())
            assert report.variants == {name: "new" for name in ALL if name != key}
        assert gateway.turns.flags.problems == {key: 3}
        out = "".join(capfd.readouterr())
        assert out.count("flag is not used") == 1
        assert told in out


async def test_a_changed_file_counts_from_the_next_turn_and_a_broken_one_does_not(
    socket_folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "flags.json"
    write(path, {MODEL: flag("small")})
    async with running_gateway(str(socket_folder), Noting(), flags_file=str(path)) as gateway:
        await gateway.serving()
        await until(socket_folder, {MODEL: "new"})
        write(path, ALL)
        await until(socket_folder, EVERY)
        path.write_text('{"flags": {"voicemesh.model": {}}}')
        async with asyncio.timeout(GUARD_S):
            while not (gateway.turns.flags.state or {})["problem"]:
                assert (await ask(socket_folder)).variants == EVERY
        assert 'voicemesh.model.state: must be "ENABLED"' in (gateway.turns.flags.state or {})["problem"]
        assert (await ask(socket_folder)).variants == EVERY
        write(path, {CHUNK_POLICY: flag("clause")})
        await until(socket_folder, {CHUNK_POLICY: "new"})
        assert (gateway.turns.flags.state or {})["problem"] == ""


async def test_rules_see_tenant_language_voice_kind_and_what_the_caller_says(
    socket_folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    path, services = tmp_path / "flags.json", Noting()
    seen = {"cat": [{"var": name} for name in ("tenant", "voice", "language", "turn", "session", "plan")]}
    rule = {"if": [{"==": [seen, "acmeother/dedeprompts1pro"]}, "new"]}
    write(path, {MODEL: {**flag("small", targeting=rule), "defaultVariant": None}})
    async with running_gateway(str(socket_folder), services, flags_file=str(path)) as gateway:
        await gateway.serving()
        async with (
            asyncio.timeout(GUARD_S),
            VoiceMesh(f"unix:{socket_folder}/gateway", tenant="acme") as mesh,
        ):
            options: dict[str, Any] = {"session_id": "s1", "voice": "other/de"}
            turn = mesh.ask("What is rain?", attributes={"plan": "pro"}, **options)
            assert (await turn.collect()).report.variants == {MODEL: "new"}
            turn = mesh.ask("What is rain?", attributes={"plan": "free"}, **options)
            assert (await turn.collect()).report.variants == {}


@pytest.mark.parametrize(
    ("attributes", "why"),
    [
        ({f"n{n}": "v" for n in range(17)}, "configure.attributes: has 17 names; at most 16"),
        ({"tenant": "rival"}, "configure.attributes.tenant: is the gateway's to say"),
        ({"": "v"}, "a name must have 1 to 64 characters"),
        ({"plan": "x" * 257}, "configure.attributes.plan: has 257 characters; at most 256"),
    ],
)
async def test_attributes_that_cannot_be_are_refused(
    socket_folder: pathlib.Path, attributes: dict[str, str], why: str
) -> None:
    async with running_gateway(str(socket_folder), Noting()) as gateway:
        await gateway.serving()
        with pytest.raises(VoiceMeshError) as refused:
            await ask(socket_folder, attributes=attributes)
        assert why in refused.value.message


async def test_words_of_the_callers_own_have_a_voice_and_a_policy_but_no_model(
    socket_folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    path, services = tmp_path / "flags.json", Noting()
    write(path, ALL)
    speech = {CHUNK_POLICY: "new", VOICE_FLAG: "new"}
    async with running_gateway(str(socket_folder), services, flags_file=str(path)) as gateway:
        await gateway.serving()
        async with asyncio.timeout(GUARD_S), VoiceMesh(f"unix:{socket_folder}/gateway") as mesh:
            assert (await mesh.say("Good morning.").collect()).report.variants == speech
            async with mesh.converse() as conversation:
                turn = await conversation.say("Good evening.")
                assert (await turn.collect()).report.variants == speech
            items = [item async for item in mesh.speak_batch(["One.", "Two."])]
        assert [item.recording.report.variants for item in items if item.recording] == [speech, speech]
        assert set(services.spoken_by) == {"other/de"}


async def test_a_session_keeps_its_variant_in_another_gateway(
    socket_folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "flags.json"
    variants = {"a": "clause", "b": "sentence"}
    rule = {"fractional": [["a", 50], ["b", 50]]}
    write(path, {CHUNK_POLICY: flag("", variants=variants, defaultVariant="a", targeting=rule)})
    given: list[list[str]] = []
    for name in ("one", "two"):
        folder = socket_folder / name
        folder.mkdir()
        async with running_gateway(str(folder), Noting(), flags_file=str(path)) as gateway:
            await gateway.serving()
            reports = [await ask(folder, session_id=f"s{n}") for n in range(12)]
            given.append([report.variants[CHUNK_POLICY] for report in reports])
    assert given[0] == given[1]
    assert set(given[0]) == {"a", "b"}


class Blocking(InMemoryProvider):
    """A provider that blocks its thread until it is let go."""

    let_go = threading.Event()

    def resolve_string_details(self, *arguments: Any, **named: Any) -> FlagResolutionDetails[str]:
        self.let_go.wait()
        return super().resolve_string_details(*arguments, **named)

    # Not its own way to wait: that of AbstractProvider, which would block the loop.
    resolve_string_details_async = AbstractProvider.resolve_string_details_async


def blocking() -> Blocking:
    """Return it, as `VOICEMESH_FLAGS_PROVIDER` names it."""
    return Blocking({MODEL: InMemoryFlag("new", {"new": "small"})})


async def test_a_provider_that_blocks_blocks_no_turn(socket_folder: pathlib.Path) -> None:
    Blocking.let_go.clear()
    name = "tests.contract.test_gateway_flags:blocking"
    async with running_gateway(str(socket_folder), Noting(), flags_provider=name) as gateway:
        await gateway.serving()
        report = await ask(socket_folder)
        assert (report.outcome, report.variants) == ("completed", {})
        Blocking.let_go.set()
        gateway.services.clock.jump(60)  # the hold is over
        await until(socket_folder, {MODEL: "new"})


def test_a_gateway_that_starts_with_a_broken_file_uses_the_newest_good_version(
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / "flags.json"
    assert WatchedFile(path).problem == "is not there"
    path.write_text("{")
    assert WatchedFile(path).keys == frozenset()
    kept = tmp_path / "flags.json.versions"
    kept.mkdir()
    write(kept / "000001.json", ALL)
    write(kept / "000002.json", {MODEL: flag("small")})
    (kept / "000003.json").write_text("{")
    watched = WatchedFile(path)
    assert watched.keys == {MODEL}
    assert watched.problem.startswith("not valid JSON")
    write(path, ALL)
    assert watched.changed()
    watched.apply()
    assert (watched.keys, watched.problem) == (frozenset(ALL), "")
    assert not watched.changed()


def test_a_config_map_that_is_made_behind_the_gateway_is_followed(tmp_path: pathlib.Path) -> None:
    """As `k8s/components/flags` mounts it: it may be missing when the pod starts."""
    mounted = ConfigMap(tmp_path, "flags.json")
    watched = WatchedFile(mounted.path)
    assert (watched.keys, watched.problem) == (frozenset(), "is not there")
    for flags in (ALL, {MODEL: flag("small")}, ALL):
        mounted.write({"flags": flags})
        assert watched.changed()
        watched.apply()
        assert (watched.keys, watched.problem) == (frozenset(flags), "")
    mounted.write("{")
    assert watched.changed()
    watched.apply()
    assert watched.keys == frozenset(ALL)
    assert watched.problem


def test_what_cannot_be_read_in_one_moment_is_read_in_the_next(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "flags.json"
    write(path, {MODEL: flag("small")})
    watched = WatchedFile(path)
    write(path, ALL)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))  # no more files can be opened
    try:
        assert not watched.changed()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert "Too many open files" in watched.problem
    assert watched.changed()
    watched.apply()
    assert (watched.keys, watched.problem) == (frozenset(ALL), "")


def test_a_content_that_brings_its_old_time_along_is_seen(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "flags.json"
    write(path, {MODEL: flag("small")})
    before, watched = path.stat(), WatchedFile(path)
    write(path, {MODEL: flag("SMALL")})
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (before.st_ino, before.st_size) == (after.st_ino, after.st_size)
    assert watched.changed()


def test_what_evaluates_refuses_alone_ends_neither_the_start_nor_the_watch(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "flags.json"
    write(path, {MODEL: flag("small"), "shop": {"state": "ENABLED", "variants": {"a": {"$ref": ["b"]}}}})
    watched = WatchedFile(path)
    assert (watched.keys, watched.problem) == (frozenset({MODEL}), "")


async def test_the_health_page_says_how_the_flags_are(
    socket_folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "flags.json"
    path.write_text("{")
    async with running_gateway(str(socket_folder), Noting(), flags_file=str(path)) as gateway:
        await gateway.serving()
        assert await health(gateway, socket_folder) == {
            "status": "serving",
            "flags": {
                "provider": "voicemesh-flags-file",
                "problem": (gateway.turns.flags.state or {})["problem"],
                "problems": {},
                "reasons": {},
            },
        }
        assert "not valid JSON" in (gateway.turns.flags.state or {})["problem"]


async def health(gateway: Gateway, folder: pathlib.Path) -> Any:

    def fail(why: str, _: BaseException | None) -> None:
        raise AssertionError(why)

    edge = HttpEdge(gateway.turns, gateway.sessions, gateway.readiness, f"unix:{folder}/http", fail)
    edge.start()
    try:
        transport = httpx2.AsyncHTTPTransport(uds=f"{folder}/http")
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://gateway", timeout=GUARD_S
        ) as http:
            return (await http.get("/healthz")).json()
    finally:
        await edge.close()
