"""The table of who connects to whom, against settings, permissions and manifests."""

import pathlib

import pytest
import yaml

from gateway.settings import GatewaySettings
from services.cache.settings import CacheSettings
from services.chunker.settings import ChunkerSettings
from services.llm.settings import LlmSettings
from services.tts.settings import TtsSettings
from voicemesh.runtime import edges
from voicemesh.runtime.edges import EDGES, LISTENS, edges_from, edges_to
from voicemesh.runtime.permissions import CACHE, CHUNKER, GATEWAY, LLM, PERMISSIONS, TTS
from voicemesh.runtime.settings import ServerSettings

BASE = pathlib.Path(__file__).resolve().parents[3] / "k8s" / "base"
SETTINGS: dict[str, type[ServerSettings]] = {
    GATEWAY: GatewaySettings,
    LLM: LlmSettings,
    CHUNKER: ChunkerSettings,
    TTS: TtsSettings,
    CACHE: CacheSettings,
}


@pytest.mark.parametrize("service", edges.SERVICES)
def test_the_ports_are_those_of_the_settings(service: str) -> None:
    default = SETTINGS[service].model_fields[f"{service}_listen"].default
    assert default == f"127.0.0.1:{LISTENS[service]}"


def test_so_is_the_one_for_http() -> None:
    assert GatewaySettings.model_fields["http_listen"].default == f"127.0.0.1:{edges.HTTP_PORT}"


@pytest.mark.parametrize("service", edges.SERVICES)
def test_manifests_listen_where_the_table_says_and_nowhere_else(service: str) -> None:
    deployment = yaml.safe_load((BASE / service / "deployment.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    ports = [each["containerPort"] for each in container["ports"]]
    assert sorted(ports) == sorted({port for edge in edges_to(service) for port in edge.ports})


def test_all_that_may_be_called_is_an_edge() -> None:
    inside = {(edge.caller, edge.callee) for edge in EDGES if edge.callee in SETTINGS}
    assert {(each.caller, each.service) for each in PERMISSIONS} <= inside
    # Beyond the permissions of the mesh's inside: callers and the operator at the edge, and who watches.
    assert {
        pair for pair in inside if pair[1] != GATEWAY and pair[0] not in (edges.PROMETHEUS, edges.KUBELET)
    } == {(each.caller, each.service) for each in PERMISSIONS}


def test_each_pair_is_there_once() -> None:
    pairs = [(edge.caller, edge.callee) for edge in EDGES]
    assert len(pairs) == len(set(pairs))


def test_only_the_gateway_calls_others_of_the_mesh() -> None:
    for service in (LLM, CHUNKER, TTS, CACHE):
        assert not [edge for edge in edges_from(service) if edge.callee in SETTINGS]
