"""What the shipped collector would keep of real turns, of the spans that five processes export."""

import asyncio
import pathlib
import urllib.parse
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from tests.support.mesh import running_mesh
from tests.support.openai_server import OpenAiServer, Reply
from tests.support.otlp import OtlpReceiver, ReceivedSpan, otlp_receiver
from tests.support.tail_sampling import policies, wanted_by
from voicemesh.client import Frame, SpeechOptions, TurnReport, VoiceMesh, VoiceMeshError
from voicemesh.runtime import trace_names

ROOT = pathlib.Path(__file__).resolve().parents[2]
COLLECTOR = ROOT / "deploy" / "observability" / "otel" / "collector.yaml"
COMPONENT = ROOT / "k8s" / "components" / "observability"
UNPACED = SpeechOptions(max_lead_ms=0)


@dataclass
class Seen:
    """What was exported of some turns, and what the mesh said of them."""

    receiver: OtlpReceiver
    ordinary: list[TurnReport]
    interrupted: TurnReport
    failed: TurnReport
    degraded: TurnReport
    lines: list[dict[str, Any]]
    """The log of the gateway."""

    @property
    def reports(self) -> list[TurnReport]:
        return [*self.ordinary, self.interrupted, self.failed, self.degraded]


def trace_url() -> str:
    """Return where lines of the log lead to in a cluster."""
    lines = (COMPONENT / "telemetry.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)["VOICEMESH_LOG_TRACE_URL"]


@pytest.fixture(scope="module")
def seen() -> Seen:
    """Run turns of each kind; stop the mesh, so that every span is exported."""

    async def run() -> Seen:
        async with OpenAiServer() as llm, otlp_receiver("127.0.0.1:0") as receiver:
            async with (
                running_mesh(
                    OPENAI_BASE_URL=llm.base_url,
                    OPENAI_API_KEY="sk-of-the-tests",
                    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=receiver.endpoint,
                    OTEL_BSP_SCHEDULE_DELAY="200",
                    VOICEMESH_LOG_TRACE_URL=trace_url(),
                ) as mesh,
                VoiceMesh(mesh.address("gateway")) as client,
            ):
                questions = (f"Tell me of harbour {number}." for number in range(4))
                ordinary = [
                    (await client.ask(question, speech=UNPACED).collect()).report for question in questions
                ]
                async with client.converse(speech=UNPACED) as conversation:
                    llm.script(Reply(hangs_after=30))
                    turn = await conversation.ask("Go on and on.")
                    async for event in turn:
                        if isinstance(event, Frame):
                            await conversation.interrupt()
                assert turn.report is not None
                llm.script(Reply.error(401))
                with pytest.raises(VoiceMeshError) as raised:
                    await client.ask("Who are you?").collect()
                assert raised.value.report is not None
                await mesh.processes["cache"].kill()
                degraded = (await client.ask("Without a cache?", speech=UNPACED).collect()).report
            lines = mesh.processes["gateway"].logs
            return Seen(receiver, ordinary, turn.report, raised.value.report, degraded, lines)

    return asyncio.run(run())


def wanted(seen: Seen, report: TurnReport, objective_ms: str = "60000") -> set[str]:
    environment = {"VOICEMESH_GATEWAY_TTFA_OBJECTIVE_MS": objective_ms}
    return set(
        wanted_by(policies(COLLECTOR, environment), report.trace_id, seen.receiver.trace(report.trace_id))
    )


def test_turns_that_fail_or_give_something_up_are_kept(seen: Seen) -> None:
    assert "failed" in wanted(seen, seen.failed)
    assert "cache" in seen.degraded.degraded
    assert "degraded" in wanted(seen, seen.degraded)


def test_each_policy_wants_what_the_report_says_and_nothing_else(seen: Seen) -> None:
    for report in seen.reports:
        found = wanted(seen, report) - {"share_of_all", "share_of_interrupted"}
        expected = {
            "failed": any(span.failed for span in seen.receiver.trace(report.trace_id)),
            "degraded": bool(report.degraded),
            "underruns": report.underruns > 0,
        }
        assert found == {name for name, holds in expected.items() if holds}, report
    for report in seen.ordinary:
        assert not any(span.failed for span in seen.receiver.trace(report.trace_id)), report


def test_what_is_late_is_told_to_a_fraction_of_a_millisecond(seen: Seen) -> None:
    for report in seen.ordinary:
        (root,) = roots(seen, report)
        ttfa_ms = root.attributes[trace_names.TTFA_MS]
        assert "late_first_audio" in wanted(seen, report, f"{ttfa_ms - 0.01:.4f}")
        assert "late_first_audio" not in wanted(seen, report, f"{ttfa_ms + 0.01:.4f}")


def test_a_share_of_what_was_interrupted_is_a_share_of_turns_that_say_so(seen: Seen) -> None:
    (root,) = roots(seen, seen.interrupted)
    assert root.attributes[trace_names.OUTCOME] == "interrupted"
    spans = seen.receiver.trace(seen.interrupted.trace_id)
    (share,) = [policy for policy in policies(COLLECTOR) if policy.name == "share_of_interrupted"]
    ids = [f"{number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128:032x}" for number in range(1, 201)]
    assert 20 < sum(share.wants(trace_id, spans) for trace_id in ids) < 80
    ordinary = seen.receiver.trace(seen.ordinary[0].trace_id)
    assert not any(share.wants(trace_id, ordinary) for trace_id in ids)


def test_a_sampler_that_has_half_of_a_trace_judges_it_wrongly(seen: Seen) -> None:
    """All spans of a trace must reach one sampler: what is asked for is on the span `turn` alone."""
    spans = seen.receiver.trace(seen.degraded.trace_id)
    elsewhere = [span for span in spans if span.service != "voicemesh-gateway"]
    assert len(elsewhere) > 2
    found = policies(COLLECTOR, {"VOICEMESH_GATEWAY_TTFA_OBJECTIVE_MS": "0"})
    assert {"degraded", "late_first_audio"} <= set(wanted_by(found, seen.degraded.trace_id, spans))
    assert not {"degraded", "late_first_audio"} & set(wanted_by(found, seen.degraded.trace_id, elsewhere))


def test_a_line_of_the_log_leads_to_its_trace_in_grafana(seen: Seen) -> None:
    lines = {line["turn_id"]: line for line in seen.lines if line["event"] in ("turn ended", "turn failed")}
    (source,) = yaml.safe_load(datasource())["datasources"]
    for report in seen.reports:
        url = urllib.parse.urlsplit(lines[report.turn_id]["trace_url"])
        asked = urllib.parse.parse_qs(url.query)
        (pane,) = yaml.safe_load(asked["panes"][0]).values()
        (query,) = pane["queries"]
        assert pane["datasource"] == query["datasource"]["uid"] == source["uid"]
        assert query["datasource"]["type"] == source["type"] == "tempo"
        assert roots(seen, report)[0].trace_id == query["query"]


def datasource() -> str:
    """Return what Grafana's sidecar is given."""
    (data,) = yaml.safe_load((COMPONENT / "grafana.yaml").read_text())["data"].values()
    return str(data)


def roots(seen: Seen, report: TurnReport) -> list[ReceivedSpan]:
    return [span for span in seen.receiver.trace(report.trace_id) if span.name == trace_names.TURN_SPAN]
