"""A flag that is changed while turns run: the next ones take it, none fails, one command takes it back."""

import asyncio
import pathlib

from tests.support.command_line import voicemesh
from tests.support.mesh import Mesh, running_mesh
from tests.support.otlp import otlp_receiver
from voicemesh.client import SpeechOptions, TurnReport, VoiceMesh
from voicemesh.flags.definitions import CHUNK_POLICY

GUARD_S = 120.0
CALLERS = 4
UNPACED = SpeechOptions(max_lead_ms=0)


async def flags(path: pathlib.Path, *arguments: str) -> str:
    """Run `voicemesh flags`; return what it printed."""
    done = await voicemesh("flags", *arguments, environment={"VOICEMESH_FLAGS_FILE": str(path)})
    assert done.status == 0, done.err
    return done.out


def is_refused(mesh: Mesh) -> bool:
    """Return whether the gateway has said that the file is broken."""
    lines = mesh.processes["gateway"].logs
    return any("not valid JSON" in line.get("reason", "") for line in lines if line["level"] == "error")


async def test_a_flag_changes_while_turns_run_and_is_taken_back(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "flags.json"
    reports: list[TurnReport] = []
    stop = asyncio.Event()
    news = asyncio.Condition()

    async def caller(client: VoiceMesh, name: int) -> None:
        turn = 0
        async with client.converse(session_id=f"caller-{name}", speech=UNPACED) as conversation:
            while not stop.is_set():
                turn += 1
                asked = await conversation.ask(f"Caller {name} asks about rain for the time number {turn}.")
                reports.append((await asked.collect()).report)
                async with news:
                    news.notify_all()

    async def until(variant: str) -> None:
        """Wait until every caller's last turn had the variant."""

        def reached() -> bool:
            last = {report.session_id: report.variants.get(CHUNK_POLICY) for report in reports}
            return len(last) == CALLERS and set(last.values()) == {variant}

        async with news:
            await news.wait_for(reached)

    async with otlp_receiver("127.0.0.1:0") as receiver, asyncio.timeout(GUARD_S):
        await flags(path, "set", CHUNK_POLICY, "usual", "--value", "adaptive")
        async with (
            running_mesh(
                VOICEMESH_FLAGS_FILE=str(path), OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint
            ) as mesh,
            VoiceMesh(mesh.address("gateway")) as client,
            asyncio.TaskGroup() as callers,
        ):
            for name in range(CALLERS):
                callers.create_task(caller(client, name))
            await until("usual")
            assert "everyone: usual -> everyone: short" in await flags(
                path, "set", CHUNK_POLICY, "short", "--value", "words:3"
            )
            await until("short")
            path.write_text("{ half of a fi")
            before = len(reports)
            async with news:
                await news.wait_for(lambda: is_refused(mesh) and len(reports) >= before + CALLERS)
            assert {report.variants[CHUNK_POLICY] for report in reports[before:]} == {"short"}
            # Nothing changes for the gateways: they have gone on with what is put back.
            told = await flags(path, "rollback")
            assert "as it was in version 2;" in told
            assert "->" not in told
            assert "everyone: short -> everyone: usual" in await flags(path, "rollback", CHUNK_POLICY)
            await until("usual")
            stop.set()
    assert {report.outcome for report in reports} == {"completed"}
    short = next(report for report in reports if report.variants[CHUNK_POLICY] == "short")
    assert {chunk.reason for chunk in short.chunks} >= {"words"}
    turns = {span.trace_id: span for span in receiver.spans if span.name == "turn"}
    for report in reports:
        span = turns[report.trace_id]
        assert span.attributes["voicemesh.variant.chunk_policy"] == report.variants[CHUNK_POLICY]
        assert "feature_flag.evaluation" in span.events
    lines = [line for line in mesh.processes["gateway"].logs if line["event"] == "turn ended"]
    logged = {line["turn_id"]: line["variants"] for line in lines}
    assert logged == {report.turn_id: report.variants for report in reports}
