"""The command line as a process, against a scripted gateway over real gRPC."""

import asyncio
import json
import os
import signal
import socket
import sys
import wave
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.contract.fake_gateway import FakeGateway, report, serve
from tests.contract.tts_harness import TEXT, say, serving, sim
from tests.support.command_line import Result, started, voicemesh
from tests.support.warm import Running
from tests.unit.critical_path.exports import request, span
from tests.unit.critical_path.populations import noisy
from voicemesh.gateway.v1 import gateway_pb2
from voicemesh.stages import STAGES

ROOT = Path(__file__).parents[2]
GUARD_S = 60.0
TURN_FIELDS = {
    "turn_id", "trace_id", "prompt", "text", "outcome", "error", "ttft_ms", "ttfa_ms", "ttfa_audible_ms",
    "total_ms", "audio_ms", "underruns", "underrun_ms", "degraded", "stages", "unattributed_ms", "chunks",
    "reply_cache", "tokens", "characters", "engine_ms", "cost_usd", "cost", "model", "prompt_variant",
    "variants", "began_unix_us", "leading_silence_ms", "hops", "underrun_stages", "excess_ms",
    "attribution_violations",
    "degraded_why", "failovers",
}  # fmt: skip


@dataclass
class Cli:
    address: str
    gateway: FakeGateway | None
    folder: Path

    async def start(self, *arguments: str | bytes, stdout: int = PIPE, stderr: int = PIPE) -> Running:
        """Start a command in the test's folder."""
        variables = {"VOICEMESH_ADDR": self.address}
        return await started(
            *arguments, environment=variables, folder=self.folder, stdout=stdout, stderr=stderr
        )

    async def run(self, *arguments: str | bytes, stdin: bytes | None = None) -> Result:
        """Run a command in the test's folder to its end."""
        variables = {"VOICEMESH_ADDR": self.address}
        return await voicemesh(*arguments, environment=variables, folder=self.folder, stdin=stdin)


@pytest.fixture
async def cli(tmp_path) -> AsyncIterator[Cli]:
    gateway = FakeGateway()
    async with asyncio.timeout(GUARD_S), serve(gateway) as address:
        yield Cli(address, gateway, tmp_path)


@pytest.fixture
def nowhere(tmp_path) -> Cli:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Cli(f"127.0.0.1:{probe.getsockname()[1]}", FakeGateway(), tmp_path)


def assert_is_a_turn(turn: dict[str, Any]) -> None:
    assert set(turn) == TURN_FIELDS
    assert list(turn["stages"]) == [stage.value for stage in STAGES]
    total = sum(turn["stages"].values()) + turn["unattributed_ms"]
    assert total == pytest.approx(turn["ttfa_ms"], abs=0.01)


async def test_ask_prints_the_reply_and_its_waterfall(cli):
    result = await cli.run("ask", "Grüße")
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith("Heard: Grüße.\n")
    assert all(stage.value in result.out for stage in STAGES)
    assert "unattributed" in result.out
    assert max(len(line) for line in result.out.splitlines()) <= 80


async def test_ask_prints_one_json_object_and_writes_the_audio(cli):
    result = await cli.run("ask", "Hi", "--json", "--out", "hi.wav", "--voice", "v", "--policy", "words:4")
    assert (result.status, result.err) == (0, "")
    turn = json.loads(result.out)
    assert_is_a_turn(turn)
    assert (turn["prompt"], turn["text"], turn["outcome"]) == ("Hi", "Heard: Hi.", "completed")
    assert turn["chunks"][0]["reason"] == "flush"
    with wave.open(str(cli.folder / "hi.wav")) as file:
        assert file.getnframes() == 20
    speech = cli.gateway.received[0].configure.speech
    assert (speech.voice, speech.chunk_policy.words) == ("v", 4)
    assert speech.HasField("max_lead_ms")
    assert speech.max_lead_ms == 0


async def test_ask_bypasses_the_caches_and_continues_a_session(cli):
    await cli.run("ask", "Hi", "--no-cache", "--session", "s", "--json")
    configure = cli.gateway.received[0].configure
    assert configure.bypass_reply_cache
    assert configure.speech.bypass_audio_cache
    assert configure.session_id == "s"


async def test_a_failed_turn_ends_with_1_and_says_why(cli):
    result = await cli.run("ask", "fail")
    assert result.status == 1
    assert "error: LLM_UNAVAILABLE: no model answers" in result.err
    assert "hint: try again in 0.25 s" in result.err
    coded = await cli.run("ask", "fail", "--json")
    assert coded.status == 1
    turn = json.loads(coded.out)
    assert_is_a_turn(turn)
    assert turn["error"]["reason"] == "LLM_UNAVAILABLE"


async def test_no_audio_is_not_a_file(cli):
    result = await cli.run("ask", "silent", "--out", "silent.wav")
    assert result.status == 1
    assert "error: NO_AUDIO" in result.err
    assert "no audio was heard" in result.out
    assert not (cli.folder / "silent.wav").exists()


async def test_a_file_that_cannot_be_written(cli):
    result = await cli.run("say", "Hi", "--out", "no/such/folder.wav")
    assert result.status == 2
    assert "--out: cannot write" in result.err


async def test_a_file_is_refused_before_a_turn_is_paid_for(cli):
    result = await cli.run("ask", "Hi", "--out", "speech.mp4")
    assert result.status == 2
    assert ".mp4 is none of .wav" in result.err
    result = await cli.run("say", "Hi", "--out", "speech.mp3", "--encoding", "flac")
    assert result.status == 2
    assert "--out: speech.mp3 takes mp3, and --encoding is flac" in result.err
    result = await cli.run("ask", "Hi", "--encoding", "wax")
    assert result.status == 2
    assert "'wax' is none of pcm_s16le, mulaw, opus, flac, mp3, aac" in result.err
    assert not cli.gateway.received


@pytest.mark.parametrize(
    "command",
    [
        ("ask", "Hi"),
        ("say", "Hi"),
        ("voices",),
        ("explain",),
        ("explain", "--slowest", "3"),
        ("bench",),
        ("chat",),
    ],
)
async def test_without_a_mesh_it_ends_with_3_and_a_hint(nowhere, command):
    result = await nowhere.run(*command)
    assert result.status == 3
    assert f"error: SERVICE_UNAVAILABLE: cannot reach the mesh at {nowhere.address}" in result.err
    assert "is `voicemesh up` running?" in result.err


async def test_without_a_mesh_json_is_still_a_turn(nowhere):
    result = await nowhere.run("ask", "Hi", "--json")
    assert result.status == 3
    turn = json.loads(result.out)
    assert_is_a_turn(turn)
    assert turn["error"]["code"] == "UNAVAILABLE"


async def test_interrupted_it_ends_with_130_and_cancels_the_turn(cli):
    process = await cli.start("ask", "hang")
    assert process.stdout is not None
    assert await process.stdout.readuntil(b"hang.") == b"Heard: hang."
    process.send_signal(signal.SIGINT)
    await process.communicate()
    assert process.returncode == 130
    await cli.gateway.cancelled.wait()


async def test_bytes_that_are_no_text(cli):
    result = await cli.run("ask", b"caf\xff")
    assert result.status == 2
    assert "PROMPT: not valid UTF-8 at character 4" in result.err
    piped = await cli.run("say", "-", stdin=b"one\n\xff\n")
    assert piped.status == 2
    assert "standard input: line 2: not valid UTF-8" in piped.err


async def test_say_reads_standard_input(cli):
    result = await cli.run("say", "-", "--json", stdin=b"Guten Tag.\nWie geht's?\n")
    assert result.status == 0
    turn = json.loads(result.out)
    assert_is_a_turn(turn)
    assert turn["text"] == "Guten Tag.\nWie geht's?"


async def test_an_unknown_voice(cli):
    result = await cli.run("say", "Hi", "--voice", "nobody")
    assert result.status == 1
    assert "error: UNKNOWN_VOICE" in result.err
    assert "`voicemesh voices` lists those that are" in result.err


async def test_chat_from_a_pipe_answers_line_by_line(cli):
    result = await cli.run("chat", "--json", stdin=b"one\n\ntwo\n/quit\nthree\n")
    turns = [json.loads(line) for line in result.out.splitlines()]
    assert [turn["prompt"] for turn in turns] == ["one", "two"]
    assert [turn["outcome"] for turn in turns] == ["completed", "completed"]
    assert result.status == 0
    assert [request.WhichOneof("event") for request in cli.gateway.received] == [
        "configure",
        "prompt",
        "prompt",
    ]


async def test_chat_shows_text_and_goes_on_after_a_failure(cli):
    result = await cli.run("chat", stdin=b"fail\nHi")
    assert result.status == 1
    assert "Heard: Hi." in result.out
    assert "error: LLM_UNAVAILABLE" in result.err


async def test_chat_with_a_line_that_is_no_text(cli):
    result = await cli.run("chat", stdin=b"one\n\xff\n")
    assert result.status == 2
    assert "standard input: line 2: not valid UTF-8" in result.err


async def test_explain_says_what_made_the_slow_turns_of_the_gateway_slow(cli):
    for number in range(40):
        done = report(f"turn-{number}")
        if number < 8:
            late_us = 500_000 + number
            done.stages[2].duration_us += late_us
            done.ttfa_us += late_us
        cli.gateway.listed.append(gateway_pb2.ListedTurn(report=done))
    cli.gateway.forgotten = True
    shown = await cli.run("explain", "--slowest", "5", "--since", "1h", "--outcome", "completed", "--json")
    assert (shown.status, shown.err) == (0, "")
    found = json.loads(shown.out)
    assert [slow["turn_id"] for slow in found["slow"]] == [f"turn-{number}" for number in (7, 6, 5, 4, 3)]
    (finding,) = found["findings"]
    assert (finding["part"], finding["turns"], finding["affected"]) == ("tts_synthesis", 5, 8)
    assert finding["excess_ms"] == pytest.approx(500, abs=0.1)
    assert (found["measured"], found["forgotten"]) == (40, True)
    (request,) = cli.gateway.list_requests
    assert request.max_age_us == 3_600_000_000
    assert list(request.outcomes) == [gateway_pb2.TURN_OUTCOME_COMPLETED]
    assert not request.with_text
    text = await cli.run("explain", "--slowest", "5")
    assert "1. tts_synthesis: the first frame took 503 ms" in text.out
    assert max(len(line) for line in text.out.splitlines()) <= 80
    cli.gateway.listed.clear()
    assert "0 turns in the gateway's record" in (await cli.run("explain", "--by", "total")).out


async def test_explain_reads_traces_from_standard_input(cli):
    made = "".join(json.dumps(request(span(one))) + "\n" for one in noisy(30))
    shown = await cli.run("explain", "--file", "-", "--json", stdin=made.encode())
    assert (shown.status, json.loads(shown.out)["turns"]) == (0, 30)
    broken = await cli.run("explain", "--file", "-", stdin=b"oops")
    assert broken.status == 2
    assert "standard input: line 1: is no JSON" in broken.err


async def test_explain_shows_the_last_turn_or_the_one_named(cli):
    turn = json.loads((await cli.run("ask", "Hi", "--json")).out)
    for arguments in ((), (turn["turn_id"],)):
        shown = await cli.run("explain", *arguments, "--json")
        explained = json.loads(shown.out)
        assert_is_a_turn(explained)
        assert explained["turn_id"] == turn["turn_id"]
    assert "tts_synthesis" in (await cli.run("explain")).out
    unknown = await cli.run("explain", "none")
    assert unknown.status == 1
    assert "error: UNKNOWN_TURN" in unknown.err
    assert "turns are found by tenant (--tenant)" in unknown.err


async def test_usage_shows_what_was_consumed_and_what_has_no_price(cli):
    assert "no turn has ended" in (await cli.run("usage")).out
    cost = gateway_pb2.Cost(llm_usd=0.25, saved_usd=1.5, unpriced=["llm p/new"], estimated=True)
    cli.gateway.usage += [
        gateway_pb2.UsageTotals(turns=3, input_tokens=120, engine_us=1_500_000, cost=cost, unpriced_turns=1),
        gateway_pb2.UsageTotals(tenant="acme", variant="prompt=compact", turns=1),
    ]
    shown = await cli.run("usage")
    assert "$0.250000" in shown.out
    assert "$1.50" in shown.out
    assert "1 turns had something without a price" in shown.out.replace("\n", " ")
    assert "acme" not in shown.out
    (first, second) = json.loads((await cli.run("usage", "--all", "--json")).out)["usage"]
    assert (first["turns"], first["cost_usd"], first["engine_s"]) == (3, 0.25, 1.5)
    assert (second["tenant"], second["variant"]) == ("acme", "prompt=compact")


async def test_a_picture_is_asked_about_and_anything_else_refused_before_a_turn(cli, tmp_path):
    picture, other = tmp_path / "cat.bin", tmp_path / "cat.png"
    picture.write_bytes(b"GIF89a" + bytes(20))
    other.write_text("<svg/>")
    await cli.run("ask", "What is it?", "--image", str(picture), "--prompt-variant", "compact")
    configure, prompt = cli.gateway.received
    assert configure.configure.system_prompt_variant == "compact"
    assert [part.WhichOneof("part") for part in prompt.prompt.parts] == ["text", "image"]
    assert prompt.prompt.parts[1].image.media_type == "image/gif"
    refused = await cli.run("ask", "What is it?", "--image", str(other))
    assert refused.status == 2
    assert "first bytes" in refused.err
    missing = await cli.run("ask", "What is it?", "--image", str(tmp_path / "none.png"))
    assert missing.status == 2
    assert "cannot read" in missing.err


async def test_voices(cli):
    result = await cli.run("voices")
    assert "espeak/en-us (default)" in result.out
    coded = json.loads((await cli.run("voices", "--json", "--language", "de")).out)
    assert [voice["name"] for voice in coded["voices"]] == ["espeak/de"]


async def test_nothing_was_played_is_said_on_a_terminal_alone(cli):
    main, side = os.openpty()
    try:
        for arguments, hinted in ((("say", "Hi"), True), (("say", "Hi", "--json"), False)):
            process = await cli.start(*arguments, stdout=DEVNULL, stderr=side)
            assert await process.wait() == 0
            os.write(side, b"end")
            said = b""
            while not said.endswith(b"end"):
                said += os.read(main, 4096)
            assert (b"--play plays it" in said) is hinted
    finally:
        os.close(main)
        os.close(side)
    assert (await cli.run("say", "Hi")).err == ""


async def test_voices_says_that_a_change_of_the_file_was_refused(cli, tmp_path):
    async with serving(tmp_path, sim()) as service:
        target = ("--tts-addr", f"unix:{tmp_path}/tts.sock")
        assert "refused" not in (await cli.run("voices", *target)).out
        service.speech.refuse("voices.json: voice 'a': " + "long " * 30 + "reason")
        shown = await cli.run("voices", *target)
        (line,) = [line for line in shown.out.splitlines() if "refused" in line]
        assert line.endswith("voices.json: voice 'a': " + "long " * 30 + "reason")
    # Where it cannot be known, nothing is said, and the voices are listed all the same.
    for arguments in ((), target):
        gone = await cli.run("voices", *arguments)
        assert (gone.status, "refused" in gone.out, "espeak/en-us" in gone.out) == (0, False, True)


async def test_voices_with_pools_asks_the_tts_service(tmp_path):
    async with serving(tmp_path, sim(2)) as service:
        await say(service, TEXT)
        cli = Cli("none:1", None, tmp_path)
        shown = await cli.run("voices", "--pools", "--tts-addr", f"unix:{tmp_path}/tts.sock")
        assert "sim-1" in shown.out
        assert "2/2" in shown.out
        coded = await cli.run("voices", "--pools", "--json", "--tts-addr", f"unix:{tmp_path}/tts.sock")
        (pool,) = json.loads(coded.out)["pools"]
        assert (pool["voice"], pool["completed_chunks"], len(pool["replicas"])) == ("sim", 1, 2)
        assert pool["replicas"][0]["resident_bytes"] > 2**20
    gone = await cli.run("voices", "--pools", "--tts-addr", f"unix:{tmp_path}/tts.sock")
    assert gone.status == 3
    assert "--tts-addr" in gone.err


async def test_bench_in_json_has_every_turn_and_a_summary(cli):
    (cli.folder / "prompts.txt").write_text("one\nfail\nsilent\n")
    result = await cli.run(
        "bench", "--turns", "7", "--concurrency", "3", "--prompts", "prompts.txt", "--json"
    )
    assert (result.status, result.err) == (0, "")
    run = json.loads(result.out)
    assert set(run) == {"turns", "summary", "config", "versions", "steps", "machine", "advice"}
    assert len(run["turns"]) == 7
    for turn in run["turns"]:
        timing = turn.pop("run")
        assert set(timing) == {"step", "kind", "due_s", "began_s", "ended_s", "late_ms"}
        assert_is_a_turn(turn)
    summary = run["summary"]
    assert set(summary) == {
        "turns", "errors", "wall_s", "turns_per_s", "ttft_ms", "ttfa_ms", "total_ms", "stages", "underruns",
        "hit_rate", "cost_usd", "cost", "by_cache", "lookups", "degraded", "errors_by_reason",
        "underruns_by_stage", "unattributed",
    }  # fmt: skip
    assert (summary["turns"], summary["errors"]) == (7, 2)
    assert set(summary["stages"]) == {stage.value for stage in STAGES}
    assert set(summary["ttfa_ms"]) == {"p50", "p95", "p99"}
    assert set(summary["hit_rate"]) == {"reply", "audio"}
    assert run["config"]["loop"] == "closed"
    assert "grpcio" in run["versions"]


async def test_bench_interrupts_a_share_and_keeps_to_its_schedule(cli):
    (cli.folder / "prompts.txt").write_text("hang\n")
    result = await cli.run(
        "bench",
        "--turns",
        "4",
        "--rate",
        "50",
        "--prompts",
        "prompts.txt",
        "--interrupt-share",
        "1",
        "--json",
    )
    run = json.loads(result.out)
    assert [turn["outcome"] for turn in run["turns"]] == ["interrupted"] * 4
    assert run["config"]["rate_per_s"] == 50


async def test_bench_for_people(cli):
    result = await cli.run("bench", "--turns", "3")
    assert result.status == 0
    for text in ("p50", "first audio", "tts_synthesis", "3 completed", "from the cache"):
        assert text in result.out


async def test_bench_of_failures_alone_ends_with_1(cli):
    (cli.folder / "prompts.txt").write_text("fail\n")
    result = await cli.run("bench", "--turns", "2", "--prompts", "prompts.txt")
    assert result.status == 1
    assert "2 turns failed with LLM_UNAVAILABLE: no model answers" in result.out


async def test_bench_that_takes_too_long_is_ended(cli):
    (cli.folder / "prompts.txt").write_text("one\nhang\n")
    result = await cli.run(
        "bench", "--turns", "2", "--prompts", "prompts.txt", "--duration-guard", "1", "--json"
    )
    assert result.status == 1
    run = json.loads(result.out)
    assert run["config"]["cut_short"]
    assert len(run["turns"]) == 1


async def test_bench_with_a_file_that_is_wrong_names_the_line(cli):
    (cli.folder / "prompts.txt").write_bytes(b"one\n\xff\n")
    result = await cli.run("bench", "--prompts", "prompts.txt")
    assert result.status == 2
    assert "prompts.txt: line 2: not valid UTF-8" in result.err


async def test_without_the_packages_of_the_command_line_it_says_how_to_get_them(cli):
    (cli.folder / "typer.py").write_text("raise ModuleNotFoundError(name='typer')")
    path = [str(cli.folder), str(ROOT)]
    code = f"import sys; sys.path[:0] = {path!r}; from voicemesh.cli.__main__ import main; main()"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=PIPE, stderr=PIPE)
    _, err = await process.communicate()
    assert process.returncode == 2
    assert "pip install 'voicemesh[cli]'" in err.decode()


async def test_the_client_imports_neither_command_line_nor_server():
    code = (
        "import sys, voicemesh.client; "
        "print(sorted({name.split('.')[0] for name in sys.modules} & "
        "{'typer', 'rich', 'pydantic', 'structlog', 'opentelemetry', 'services', 'gateway'}), "
        "'voicemesh.runtime' in sys.modules)"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=PIPE, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    out, _ = await process.communicate()
    assert out.decode().strip() == "[] False"
