"""What is shipped in deploy/observability holds together: rules, dashboard, collector and their pages."""

import dataclasses
import json
import pathlib
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from gateway.settings import GatewaySettings
from tests.support.otlp import ReceivedSpan
from tests.support.programs import program
from tests.support.tail_sampling import fnv1a, policies, wanted_by
from voicemesh.runtime import trace_names

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "deploy" / "observability"
RULES = sorted((SHIPPED / "prometheus" / "rules").glob("*.yml"))
CASES = sorted((SHIPPED / "prometheus" / "tests").glob("*.yml"))
DASHBOARD = SHIPPED / "grafana" / "dashboards" / "voicemesh.json"
SEVERITIES = {"critical", "warning", "info"}


def load(path: pathlib.Path) -> Any:
    return yaml.safe_load(path.read_text())


def rules() -> Iterator[dict[str, Any]]:
    for path in RULES:
        for group in load(path)["groups"]:
            yield from group["rules"]


ALERTS = [rule for rule in rules() if "alert" in rule]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


# ---- Prometheus -------------------------------------------------------------------------------


def test_prometheus_takes_the_rules() -> None:
    checked = subprocess.run(
        [program("promtool"), "check", "rules", "--lint-fatal", *RULES],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_prometheus_takes_the_configuration() -> None:
    checked = subprocess.run(
        [program("promtool"), "check", "config", SHIPPED / "prometheus" / "prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_alerts_fire_when_they_must_and_not_otherwise(case: pathlib.Path) -> None:
    tested = subprocess.run(
        [program("promtool"), "test", "rules", case], capture_output=True, text=True, check=False
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_says_what_it_means_and_where_to_read_on(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in SEVERITIES
    told = alert["annotations"]
    assert set(told) == {"summary", "description", "runbook_url"}
    assert told["runbook_url"] == f"docs/alerts.md#{alert['alert'].lower()}"
    assert f"\n### {alert['alert']}\n" in (ROOT / "docs" / "alerts.md").read_text()


def test_the_page_of_alerts_has_those_that_there_are_and_no_others() -> None:
    text = (ROOT / "docs" / "alerts.md").read_text()
    sections = re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    assert sorted(section.split("\n", 1)[0] for section in sections) == sorted(
        {alert["alert"] for alert in ALERTS}
    )
    for section in sections:
        told = next(alert for alert in ALERTS if alert["alert"] == section.split("\n", 1)[0])
        assert f"`{told['labels']['severity']}`" in section or "As above" in section


def test_every_alert_is_seen_to_fire_in_a_case() -> None:
    fired = {
        (case["alertname"], expected["exp_labels"].get("window", ""))
        for path in CASES
        for test in load(path)["tests"]
        for case in test.get("alert_rule_test", ())
        for expected in case["exp_alerts"]
    }
    assert fired == {(alert["alert"], alert["labels"].get("window", "")) for alert in ALERTS}


def test_names_of_recorded_series_are_used_as_they_are_recorded() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked = " ".join(rule["expr"] for rule in rules()) + DASHBOARD.read_text()
    assert set(re.findall(r"\b(?:namespace\w*|voicemesh):[\w:]+", asked)) <= recorded


# ---- Grafana ----------------------------------------------------------------------------------


def test_the_dashboard_names_no_data_source_of_one_installation() -> None:
    text = DASHBOARD.read_text()
    assert set(re.findall(r'"uid": "([^"]*)"', text)) == {"${datasource}", "voicemesh"}
    variables = {variable["name"] for variable in json.loads(text)["templating"]["list"]}
    assert variables == {"datasource", "namespace", "instance", "voice"}
    assert set(re.findall(r"\$\{?(\w+)", text)) == variables | {"__all", "__rate_interval"}


def test_panels_lie_beside_each_other_and_say_what_they_show() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"].endswith("."), panel["title"]
            assert panel["targets"], panel["title"]
    assert len({panel["id"] for panel in panels()}) == len(panels())
    titles = [panel["title"] for panel in panels()]
    assert len(set(titles)) == len(titles)


def test_pages_name_panels_that_there_are() -> None:
    titles = {panel["title"] for panel in panels()}
    for page in ("alerts.md", "dashboards.md", "operations.md"):
        text = (ROOT / "docs" / page).read_text()
        for told in re.findall(r"(?<![*\w])\*([A-Z][^*\n]+)\*(?!\*)", text):
            assert told in titles | {"Targets"}, f"docs/{page} names a panel {told}"


def test_panels_of_percentiles_lead_to_traces() -> None:
    leading = [
        panel["title"]
        for panel in panels()
        if panel["type"] != "row" and any(target["exemplar"] for target in panel["targets"])
    ]
    assert "Time to first audio" in leading
    assert len(leading) > 10


# ---- the collector ----------------------------------------------------------------------------

# What a policy of each type may say, from the processor's own README and config.go (v0.135).
POLICY_KEYS = {
    "status_code": {"status_codes"},
    "ottl_condition": {"error_mode", "span", "spanevent"},
    "string_attribute": {"key", "values", "enabled_regex_matching", "cache_max_size", "invert_match"},
    "probabilistic": {"sampling_percentage", "hash_salt"},
    "and": {"and_sub_policy"},
}
SAMPLING_KEYS = {
    *("policies", "decision_wait", "num_traces", "expected_new_traces_per_sec", "decision_cache"),
    *("sample_on_first_match", "drop_pending_traces_on_shutdown"),
}


def policies_in(found: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for policy in found:
        yield policy
        yield from policies_in(policy.get("and", {}).get("and_sub_policy", []))


@pytest.mark.parametrize(
    ("file", "processors"),
    [
        # Memory is limited before anything is kept, and what is dropped is in no batch.
        ("collector.yaml", ["memory_limiter", "tail_sampling", "batch"]),
        ("router.yaml", ["memory_limiter", "batch"]),
    ],
)
def test_a_collector_is_wired_of_parts_that_it_declares(file: str, processors: list[str]) -> None:
    config = load(SHIPPED / "otel" / file)
    assert set(config) == {"extensions", "receivers", "processors", "exporters", "service"}
    assert set(config["service"]["extensions"]) == set(config["extensions"])
    for pipeline in config["service"]["pipelines"].values():
        for kind, names in pipeline.items():
            assert set(names) == set(config[kind])
    assert config["service"]["pipelines"]["traces"]["processors"] == processors


def test_collectors_in_front_send_a_trace_to_one_sampler() -> None:
    exporter = load(SHIPPED / "otel" / "router.yaml")["exporters"]["loadbalancing"]
    assert exporter["routing_key"] == "traceID"
    # The outer one asks again who is there; retries of one sampler's would wait for one that is gone.
    assert exporter["retry_on_failure"]["enabled"]
    assert exporter["sending_queue"]["enabled"]
    assert not exporter["protocol"]["otlp"]["retry_on_failure"]["enabled"]
    assert not exporter["protocol"]["otlp"]["sending_queue"]["enabled"]


def test_the_collector_takes_what_is_late_from_the_gateways_setting() -> None:
    default = GatewaySettings.model_fields["gateway_ttfa_objective_ms"].default
    text = (SHIPPED / "otel" / "collector.yaml").read_text()
    assert (
        f'attributes["{trace_names.TTFA_MS}"] > ${{env:VOICEMESH_GATEWAY_TTFA_OBJECTIVE_MS:-{default}}}'
        in text
    )


# ---- what the policies keep, by our reading of them: see tests/support/tail_sampling.py ----------


def span(**attributes: Any) -> ReceivedSpan:
    dotted = {name.replace("__", "."): value for name, value in attributes.items()}
    return ReceivedSpan(
        "voicemesh-gateway", "turn", DROPPED, "01", "", 0, 1, 1, dotted, failed=False, events=()
    )


DROPPED = "00000000000000000000000000000007"
"""A trace that no share of the collector takes."""


def wanted(*spans: ReceivedSpan, environment: dict[str, str] | None = None) -> list[str]:
    return wanted_by(policies(SHIPPED / "otel" / "collector.yaml", environment), DROPPED, spans)


def test_an_ordinary_turn_is_kept_by_its_share_alone() -> None:
    assert not wanted(span(voicemesh__ttfa_ms=799.9, voicemesh__underruns=0, voicemesh__outcome="completed"))


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        ("degraded", span(voicemesh__degraded=["cache"])),
        ("late_first_audio", span(voicemesh__ttfa_ms=800.01)),
        ("underruns", span(voicemesh__underruns=1)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_trace_is_kept_for(policy: str, kept: ReceivedSpan) -> None:
    assert wanted(kept) == [policy]
    assert wanted(span(), kept) == [policy]


def test_a_span_that_failed_keeps_its_trace() -> None:
    assert wanted(dataclasses.replace(span(), failed=True)) == ["failed"]


def test_an_objective_of_ones_own_is_the_samplers_too() -> None:
    environment = {"VOICEMESH_GATEWAY_TTFA_OBJECTIVE_MS": "300"}
    assert wanted(span(voicemesh__ttfa_ms=300.5), environment=environment) == ["late_first_audio"]
    assert not wanted(span(voicemesh__ttfa_ms=299.5), environment=environment)


def test_shares_are_taken_by_the_hash_of_the_id() -> None:
    assert (fnv1a(b""), fnv1a(b"foobar")) == (0xCBF29CE484222325, 0x85944171F73967E8)
    found = policies(SHIPPED / "otel" / "collector.yaml")
    ids = [f"{number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128:032x}" for number in range(1, 20_001)]
    kept = sum("share_of_all" in wanted_by(found, trace_id, [span()]) for trace_id in ids)
    interrupted = [span(voicemesh__outcome="interrupted")]
    of_interrupted = sum(
        "share_of_interrupted" in wanted_by(found, trace_id, interrupted) for trace_id in ids
    )
    assert kept / len(ids) == pytest.approx(0.05, abs=0.005)
    assert of_interrupted / len(ids) == pytest.approx(0.25, abs=0.01)


def test_policies_of_the_collector_have_the_keys_of_their_type() -> None:
    sampling = load(SHIPPED / "otel" / "collector.yaml")["processors"]["tail_sampling"]
    assert set(sampling) <= SAMPLING_KEYS
    found = list(policies_in(sampling["policies"]))
    assert len({policy["name"] for policy in found}) == len(found)
    for policy in found:
        kind = policy["type"]
        assert set(policy) == {"name", "type", kind}, policy
        assert set(policy[kind]) <= POLICY_KEYS[kind], policy


def test_policies_of_the_collector_ask_for_attributes_that_turns_have() -> None:
    text = (SHIPPED / "otel" / "collector.yaml").read_text()
    asked = set(re.findall(r'attributes\["([\w.]+)"\]', text)) | set(
        re.findall(r"(?<!\w)key: ([\w.]+)", text)
    )
    assert asked == {
        trace_names.DEGRADED,
        trace_names.TTFA_MS,
        trace_names.UNDERRUNS,
        trace_names.OUTCOME,
    }


def test_the_compose_file_mounts_what_there_is_and_pins_what_it_runs() -> None:
    compose = load(SHIPPED / "compose.yaml")
    for name, service in compose["services"].items():
        _, tag = service["image"].rsplit(":", 1)
        assert re.fullmatch(r"v?\d+\.\d+\.\d+", tag), name
        for volume in service.get("volumes", ()):
            source = volume.split(":", 1)[0]
            assert source in compose["volumes"] or (SHIPPED / source).exists(), volume
