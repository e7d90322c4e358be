"""What k8s/components/observability is made of fits together, and fits what is in deploy/observability."""

import json
import pathlib
import re
from typing import Any

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMPONENT = ROOT / "k8s" / "components" / "observability"
SHIPPED = ROOT / "deploy" / "observability"
SERVICES = {"gateway", "llm", "chunker", "tts", "cache"}
ANNOTATION_LIMIT = 262_144
"""Bytes that all annotations of an object may have; `kubectl apply` keeps the whole object in one."""


def documents(file: str) -> list[dict[str, Any]]:
    return [*yaml.safe_load_all((COMPONENT / file).read_text())]


def workload(name: str) -> dict[str, Any]:
    (found,) = (each for each in documents(f"{name}.yaml") if each["kind"] in ("Deployment", "StatefulSet"))
    return found


def environment(name: str) -> dict[str, str]:
    (container,) = workload(name)["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each.get("value", "") for each in container["env"]}


def ports(name: str) -> dict[str, int]:
    """Return the ports of a Service by their name."""
    (service,) = (each for each in documents(f"{name}.yaml") if each["kind"] == "Service")
    return {port["name"]: port["port"] for port in service["spec"]["ports"]}


def telemetry() -> dict[str, str]:
    lines = (COMPONENT / "telemetry.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_spans_find_their_way_from_the_mesh_to_tempo() -> None:
    domain = "voicemesh.svc.cluster.local"
    asked = telemetry()["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]
    assert asked == f"http://collector.{domain}:{ports('collector')['otlp']}"
    assert environment("collector")["SAMPLERS"] == f"sampler.{domain}"
    router = yaml.safe_load((SHIPPED / "otel" / "router.yaml").read_text())
    resolver = router["exporters"]["loadbalancing"]["resolver"]["dns"]
    assert int(resolver["port"]) == ports("sampler")["otlp"]
    assert environment("sampler")["TRACES_ENDPOINT"] == f"tempo.{domain}:{ports('tempo')['otlp']}"
    (source,) = documents("grafana.yaml")
    assert f"http://tempo.{domain}:{ports('tempo')['http']}" in source["data"]["voicemesh-tempo.yaml"]


def test_samplers_are_known_one_by_one() -> None:
    (service,) = (each for each in documents("sampler.yaml") if each["kind"] == "Service")
    assert service["spec"]["clusterIP"] == "None"


def test_each_runs_the_file_that_is_shipped() -> None:
    made = yaml.safe_load((SHIPPED / "kustomization.yaml").read_text())["configMapGenerator"]
    files = {each["name"]: dict(file.split("=") for file in each["files"]) for each in made}
    for name in ("collector", "sampler", "tempo"):
        pod = workload(name)["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        (config,) = (volume["configMap"]["name"] for volume in pod["volumes"] if volume["name"] == "config")
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        path = pathlib.PurePosixPath(container["args"][0].split("=", 1)[1])
        assert str(path.parent) == mounts["config"]
        assert (SHIPPED / files[config][path.name]).is_file()


def test_variables_of_the_configurations_are_those_that_pods_set() -> None:
    for name, file in (("collector", "router.yaml"), ("sampler", "collector.yaml"), ("tempo", "tempo.yaml")):
        asked = set(re.findall(r"\$\{(?:env:)?(\w+)", (SHIPPED / "otel" / file).read_text()))
        assert asked == set(environment(name)) - {"GOMEMLIMIT"}, name


def test_versions_are_those_of_the_compose_file() -> None:
    compose = yaml.safe_load((SHIPPED / "compose.yaml").read_text())["services"]
    component = yaml.safe_load((COMPONENT / "kustomization.yaml").read_text())
    ours = {f"{image['name']}:{image['newTag']}" for image in component["images"]}
    assert ours == {compose["collector"]["image"], compose["tempo"]["image"]}


def test_every_process_is_scraped_under_the_name_that_rules_ask_for() -> None:
    (monitor,) = (each for each in documents("monitors.yaml") if each["metadata"]["name"] == "voicemesh")
    (expression,) = monitor["spec"]["selector"]["matchExpressions"]
    assert set(expression["values"]) == SERVICES
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    (job,) = (each for each in endpoint["relabelings"] if each["targetLabel"] == "job")
    jobs = {job["replacement"].replace("$1", service) for service in SERVICES}
    rules = (SHIPPED / "prometheus" / "rules" / "alerts.yml").read_text()
    assert jobs == set(re.findall(r'absent\(up\{job="([^"]+)"\}\)', rules))
    for service in SERVICES:
        deployment = yaml.safe_load((ROOT / "k8s" / "base" / service / "deployment.yaml").read_text())
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert endpoint["port"] in {port["name"] for port in container["ports"]}


def test_every_process_is_told_where_spans_go_and_says_where_it_is() -> None:
    component = yaml.safe_load((COMPONENT / "kustomization.yaml").read_text())
    told = {each["name"]: each for each in component["configMapGenerator"]}
    assert set(told) == {f"{service}-settings" for service in SERVICES}
    assert all(each["envs"] == ["telemetry.env"] for each in told.values())
    assert {each["metadata"]["name"] for each in documents("pods.yaml")} == SERVICES


def test_the_dashboard_is_small_enough_to_be_applied() -> None:
    text = (SHIPPED / "grafana" / "dashboards" / "voicemesh.json").read_text()
    assert len(json.dumps(json.dumps(text))) < ANNOTATION_LIMIT
