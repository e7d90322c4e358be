"""The table of who may call what, against the contract."""

import pytest
from google.protobuf.descriptor import ServiceDescriptor

from voicemesh.cache.v1 import cache_pb2
from voicemesh.chunker.v1 import chunker_pb2
from voicemesh.llm.v1 import llm_pb2
from voicemesh.runtime import permissions
from voicemesh.runtime.permissions import OPERATOR, PERMISSIONS, ROLES, Identities, callers_of
from voicemesh.tts.v1 import tts_pb2

TEMPLATE = "spiffe://example.org/voicemesh/{service}"
SERVICES: dict[str, ServiceDescriptor] = {
    permissions.LLM: llm_pb2.DESCRIPTOR.services_by_name["LlmService"],
    permissions.CHUNKER: chunker_pb2.DESCRIPTOR.services_by_name["ChunkerService"],
    permissions.TTS: tts_pb2.DESCRIPTOR.services_by_name["TtsService"],
    permissions.CACHE: cache_pb2.DESCRIPTOR.services_by_name["CacheService"],
}


@pytest.mark.parametrize("service", SERVICES)
def test_the_table_has_every_method_of_the_contract_and_no_other(service: str) -> None:
    contract = {f"{SERVICES[service].full_name}/{method.name}" for method in SERVICES[service].methods}
    table = {method for each in PERMISSIONS if each.service == service for method in each.methods}
    assert table == contract


def test_services_call_nobody_but_answer_the_gateway_and_operators() -> None:
    assert {each.caller for each in PERMISSIONS} == {permissions.GATEWAY, OPERATOR}
    assert callers_of(permissions.GENERATE) == (permissions.GATEWAY,)
    assert callers_of(permissions.INVALIDATE) == (OPERATOR,)
    assert callers_of(permissions.CACHE_STATS) == (permissions.GATEWAY, OPERATOR)


def test_health_is_everyones_reflection_the_operators_and_the_rest_nobodys() -> None:
    assert callers_of("grpc.health.v1.Health/Check") == ROLES
    assert callers_of("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo") == (OPERATOR,)
    assert callers_of("voicemesh.tts.v1.TtsService/Sing") == ()


@pytest.mark.parametrize(
    ("names", "role"),
    [
        (("spiffe://example.org/voicemesh/gateway",), "gateway"),
        (("localhost", "spiffe://example.org/voicemesh/operator"), "operator"),
        (("spiffe://example.org/voicemesh/tts", "spiffe://example.org/voicemesh/gateway"), ""),
        (("spiffe://other.org/voicemesh/gateway",), ""),
        (("spiffe://example.org/voicemesh/gateway/",), ""),
        (("spiffe://example.org/voicemesh/{service}",), ""),
        (("gateway",), ""),
        ((), ""),
    ],
)
def test_a_certificate_stands_for_one_role_or_none(names: tuple[str, ...], role: str) -> None:
    assert Identities(TEMPLATE).role(names) == role


def test_a_dns_name_can_be_the_identity() -> None:
    assert Identities("{service}.voicemesh").role(("localhost", "cache.voicemesh")) == "cache"
