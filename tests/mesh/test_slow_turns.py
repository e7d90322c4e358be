"""One stage is slow in some turns of a real mesh: `explain --slowest` names it, asked either way."""

import asyncio
import gzip
import json
import os
import sys
from asyncio.subprocess import PIPE
from typing import Any

import pytest

from tests.support.mesh import ROOT, running_mesh
from tests.support.openai_server import OpenAiServer, Reply, Request, tokens_of
from tests.support.otlp import otlp_receiver
from voicemesh.client import SpeechOptions, VoiceMesh

LATE_S = 2.0
LATE_TURNS = 6
TURNS = 36
AT_ONCE = 4


def reply(request: Request) -> Reply:
    """Answer late where the question says so, behind the response's headers."""
    late = "late" in json.dumps(request.body["messages"][-1])
    return Reply(tokens=tokens_of("Yes, that is so."), ttft_s=LATE_S if late else 0.0)


async def explained(*arguments: str) -> dict[str, Any]:
    """Run `voicemesh explain` as a process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "voicemesh.cli", "explain", "--json", *arguments,
        stdout=PIPE, stderr=PIPE, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Run turns, of which some are late; return what is said of them from each source."""
    file = tmp_path_factory.mktemp("traces") / "traces.json"

    async def run() -> dict[str, dict[str, Any]]:
        async with (
            OpenAiServer(default=reply) as server,
            otlp_receiver("127.0.0.1:0", file) as receiver,
            running_mesh(
                OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
                OPENAI_BASE_URL=server.base_url,
                OPENAI_API_KEY="key",
                VOICEMESH_LLM_MODEL="scripted",
            ) as mesh,
            VoiceMesh(mesh.address("gateway"), tenant="acme") as client,
        ):
            places = asyncio.Semaphore(AT_ONCE)

            async def ask(number: int) -> None:
                question = f"Is it so, {number}{', late' if number % (TURNS // LATE_TURNS) == 1 else ''}?"
                async with places:
                    speech = SpeechOptions(cache=False)
                    await client.ask(question, speech=speech, reply_cache=False).collect()

            await asyncio.gather(*(ask(number) for number in range(TURNS)))
            address = ("--addr", mesh.address("gateway"))
            asked = await explained("--slowest", "6", "--since", "1h", "--tenant", "acme", *address)
            others = await explained("--slowest", "6", "--tenant", "rival", *address)
        return {"record": asked, "another tenant": others}

    found = asyncio.run(run())
    packed = file.with_suffix(".json.gz")
    packed.write_bytes(gzip.compress(file.read_bytes()))
    for name, path in (("file", file), ("compressed file", packed)):
        found[name] = asyncio.run(explained("--file", str(path), "--slowest", "6"))
    return found


@pytest.mark.parametrize("source", ["record", "file", "compressed file"])
def test_the_stage_that_was_late_is_named_with_its_figure(
    accounts: dict[str, dict[str, Any]], source: str
) -> None:
    found = accounts[source]
    assert (found["turns"], found["measured"], found["enough"]) == (TURNS, TURNS, True)
    first = found["findings"][0]
    assert (first["part"], first["turns"]) == ("llm_ttft", LATE_TURNS)
    # On a busy machine others are late by less, and are affected too.
    assert first["affected"] >= LATE_TURNS
    assert first["excess_ms"] == pytest.approx(LATE_S * 1000, rel=0.05)
    assert first["without_ms"]["p95"] < found["ms"]["p95"] - LATE_S * 500
    assert "VOICEMESH_LLM_HEDGE_PERCENT" in first["advice"]
    assert found["parts"]["llm_ttft"]["blamed"] == LATE_TURNS


def test_both_sources_say_the_same(accounts: dict[str, dict[str, Any]]) -> None:
    record, file = accounts["record"], accounts["file"]
    assert [slow["turn_id"] for slow in file["slow"]] == [slow["turn_id"] for slow in record["slow"]]
    assert file["ms"] == record["ms"]
    assert file["parts"] == record["parts"]
    assert {slow["tenant"] for slow in file["slow"]} == {"acme"}
    for ours, theirs in zip(record["slow"], file["slow"], strict=True):
        assert theirs["trace_id"] == ours["trace_id"]
        assert theirs["excess_ms"] == ours["excess_ms"]


def test_nobody_is_told_of_anothers_turns(accounts: dict[str, dict[str, Any]]) -> None:
    assert (accounts["another tenant"]["turns"], accounts["another tenant"]["slow"]) == (0, [])
