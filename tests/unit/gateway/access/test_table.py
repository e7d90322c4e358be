"""Nothing answers at the edges without a line that says who may."""

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from gateway.access.table import METHODS, OPEN, ROUTES
from voicemesh.gateway.v1 import gateway_pb2
from voicemesh.keyfile import SCOPES

DESCRIPTORS = (gateway_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR)


def test_every_method_that_the_gateway_serves_has_a_line_and_no_other() -> None:
    served = {
        f"/{service.full_name}/{method.name}"
        for file in DESCRIPTORS
        for service in file.services_by_name.values()
        for method in service.methods
    }
    assert set(METHODS) == served


def test_every_scope_is_one_that_a_key_can_have_and_each_opens_something() -> None:
    used = {scope for needs in (*METHODS.values(), *ROUTES.values()) for scope in needs.scopes}
    # That one says whose calls they are, not what they may do.
    assert used == set(SCOPES) - {"tenant:any"}


def test_only_health_and_the_list_of_endpoints_ask_nobody() -> None:
    assert [name for name, needs in METHODS.items() if needs is OPEN or not needs.scopes] == [
        f"/grpc.health.v1.Health/{name}" for name in ("Check", "List", "Watch")
    ]
    assert [name for name, needs in ROUTES.items() if not needs.scopes] == ["GET /", "GET /healthz"]
