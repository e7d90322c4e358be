"""Every panel of the dashboard and every rule, asked of a real Prometheus that scrapes a mesh under load."""

import asyncio
import json
import pathlib
from typing import Any

import psutil
import pytest

from tests.support.mesh import SERVICES, Mesh, running_mesh
from tests.support.openai_server import OpenAiServer, Reply, Request
from tests.support.otlp import OtlpReceiver, otlp_receiver
from tests.support.programs import program
from tests.support.prometheus import Prometheus, prometheus
from tests.support.redis_server import RedisServer, redis_server
from voicemesh.client import Frame, SpeechOptions, VoiceMesh, VoiceMeshError

DASHBOARD = (
    pathlib.Path(__file__).resolve().parents[2]
    / "deploy"
    / "observability"
    / "grafana"
    / "dashboards"
    / "voicemesh.json"
)
UNPACED = SpeechOptions(max_lead_ms=0)
QUICK = 12
"""Turns of each round, beside those that fail, are interrupted or repeat."""
WITHIN_S = 30.0

VOICES = json.dumps(
    [
        {"name": "espeak", "engine": "espeak", "replicas": 2, "language": "en-us"},
        {"name": "steps", "engine": "simulated-steps", "replicas": 1, "options": {"step_ms": 1}},
    ]
)

# Queries that may find nothing here, as (panel, beginning of the legend): what they count did not happen.
MAY_BE_EMPTY = {
    ("Unattributed, violations", "violations"): "no turn broke a rule",
    ("Underruns by cause", "{{stage}}"): "no player ran dry",
    ("Underruns, how long", "{{stage}}"): "no player ran dry",
    ("Barge-ins and what turns gave up", "without"): "no turn gave anything up",
    ("Retries, failovers, hedges", "retry"): "a key that is refused is not tried again",
}


def queries() -> list[tuple[str, str, str]]:
    """Return panel, legend and PromQL of each query, with all variables at their widest."""
    found = []
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            expr = target["expr"].replace("$__rate_interval", "1m")
            for variable in ("namespace", "instance", "voice"):
                expr = expr.replace(f"${variable}", ".*")
            found.append((panel["title"], target["legendFormat"], expr))
    return found


def answer(request: Request) -> Reply:
    """Refuse the key of questions that ask for it; answer all others."""
    asked = json.dumps(request.body)
    return Reply.error(401) if "refused" in asked else Reply(ttft_s=0.01, usage=(30, 40, 0))


async def test_panels_rules_and_alerts_of_a_mesh_under_load(tmp_path: pathlib.Path) -> None:
    program("prometheus")
    async with (
        OpenAiServer(default=answer) as llm,
        redis_server() as redis,
        otlp_receiver("127.0.0.1:0") as spans,
        running_mesh(
            OPENAI_BASE_URL=llm.base_url,
            OPENAI_API_KEY="sk-test",
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=spans.endpoint,
            OTEL_BSP_SCHEDULE_DELAY="200",
            VOICEMESH_PRICES_LLM='{"*": {"input": 1, "output": 1}}',
            VOICEMESH_REDIS_URL=redis.url,
            VOICEMESH_TTS_VOICES=VOICES,
            **{f"VOICEMESH_{name.upper()}_METRICS_LISTEN": "127.0.0.1:0" for name in SERVICES},
        ) as mesh,
        VoiceMesh(mesh.address("gateway")) as client,
        prometheus(tmp_path, {f"voicemesh-{name}": scraped(mesh, name) for name in SERVICES}) as asked,
    ):
        # What has never happened has no series, and what has no series twice has no rate.
        for number in range(2):
            await everybody_is_scraped_twice(asked)
            await turns(client, number)
        await every_panel_finds_something(asked)
        await every_rule_is_healthy(asked)
        await exemplars_lead_to_traces(asked, spans)
        await trouble_alerts(asked, mesh, redis, client)


def scraped(mesh: Mesh, name: str) -> str:
    """Return where a process of the mesh is scraped, as it has logged."""
    (address,) = (line["address"] for line in mesh.processes[name].logs if line.get("event") == "metrics")
    return str(address)


async def everybody_is_scraped_twice(asked: Prometheus) -> None:
    """Wait until what has happened by now is known, however long that took."""
    await asked.until(f"min(count_over_time(up[1h])) >= {await scrapes(asked) + 2} and min(up) == 1")


async def turns(client: VoiceMesh, number: int) -> None:
    """Run turns of every kind: whole, repeated, own words, interrupted, failed, refused."""
    questions = [f"Question {n} of round {number}?" for n in range(QUICK)]
    await asyncio.gather(*(client.ask(question, speech=UNPACED).collect() for question in questions))
    for question in questions[:4]:
        recording = await client.ask(question, speech=UNPACED).collect()
        assert recording.report.reply_cache == "hit"
    texts = [f"Text {n} of round {number}, in words of one's own." for n in range(3)]
    await asyncio.gather(*(client.say(text, voice="steps").collect() for text in texts))
    with pytest.raises(VoiceMeshError):
        await client.ask(f"To be refused in round {number}?", speech=UNPACED).collect()
    with pytest.raises(VoiceMeshError):
        await client.say("Hello.", voice="nobody").collect()
    async with client.converse(speech=UNPACED) as conversation:
        turn = await conversation.ask(f"Interrupted in round {number}?")
        async for event in turn:
            if isinstance(event, Frame):
                await conversation.interrupt()


async def every_panel_finds_something(asked: Prometheus) -> None:
    for panel, legend in MAY_BE_EMPTY:
        assert any(panel == title and told.startswith(legend) for title, told, _ in queries()), panel
    wanted = [query for query in queries() if not may_be_empty(*query[:2])]
    # What is recorded, and what was scraped a moment ago, is there a second later.
    deadline = asyncio.get_running_loop().time() + WITHIN_S
    empty = [query for query in wanted if not await asked.query(query[2])]
    while empty and asyncio.get_running_loop().time() < deadline:
        await asked.until(f"min(count_over_time(up[1h])) > {await scrapes(asked)}")
        empty = [query for query in empty if not await asked.query(query[2])]
    assert not empty, "\n".join(f"{panel} ({legend}): {expr}" for panel, legend, expr in empty)
    for panel, legend, expr in queries():
        if may_be_empty(panel, legend):
            await asked.query(expr)


async def scrapes(asked: Prometheus) -> int:
    found = await asked.query("min(count_over_time(up[1h]))")
    return int(found[0]["value"][1]) if found else 0


def may_be_empty(panel: str, legend: str) -> bool:
    return any(panel == title and legend.startswith(begin) for title, begin in MAY_BE_EMPTY)


async def every_rule_is_healthy(asked: Prometheus) -> None:
    groups: list[dict[str, Any]] = (await asked.get("rules"))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 30
    assert {(rule["name"], rule["health"], rule.get("lastError", "")) for rule in rules} == {
        (rule["name"], "ok", "") for rule in rules
    }
    for rule in rules:
        if rule["type"] == "recording":
            await asked.until(rule["name"])  # it is recorded once a second


async def exemplars_lead_to_traces(asked: Prometheus, spans: OtlpReceiver) -> None:
    found = await asked.get(
        "query_exemplars",
        query="voicemesh_turn_time_to_first_audio_seconds_bucket",
        start="0",
        end="9999999999",
    )
    traces = {exemplar["labels"]["trace_id"] for series in found for exemplar in series["exemplars"]}
    assert traces
    exported = {span.trace_id for span in spans.spans if span.name == "turn"}
    assert traces & exported


async def trouble_alerts(asked: Prometheus, mesh: Mesh, redis: RedisServer, client: VoiceMesh) -> None:
    """Break things, one after the other, and see each alert."""
    # Two of some forty turns failed: above 1%, for less than the five minutes that it must last.
    await asked.until('ALERTS{alertname="VoicemeshErrorRateHigh", alertstate="pending"}')
    assert not await asked.query('ALERTS{alertstate="firing", severity="critical"}')

    worker = psutil.Process(mesh.processes["tts"].process.pid).children()[0]
    worker.kill()
    await asked.until('ALERTS{alertname="VoicemeshReplicaLost", alertstate="firing", cause="died"}')
    await redis.kill()
    assert (await client.ask("Is Redis there?", speech=UNPACED).collect()).report.outcome == "completed"
    await asked.until('ALERTS{alertname="VoicemeshRedisAway"}')
    await mesh.processes["tts"].kill()
    await asked.until('ALERTS{alertname="VoicemeshProcessDown", job="voicemesh-tts"}')
    assert not await asked.query('ALERTS{alertname="VoicemeshProcessDown", job!="voicemesh-tts"}')
