"""What `voicemesh doctor` says of a mesh that speaks TLS."""

from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from tests.support.certificates import Authority
from voicemesh.cli import doctor
from voicemesh.cli.findings import NOTE, OK
from voicemesh.cli.plan import MeshPlan


async def test_a_mesh_that_speaks_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    pair, operator = authority.issue("edge", uris=()), authority.issue("operator")
    package: Any = health
    servicer = package.aio.HealthServicer()
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    own = [(pair.key.read_bytes(), pair.cert.read_bytes())]
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    asks = grpc.ssl_server_credentials(own, authority.path.read_bytes(), require_client_auth=True)
    inside = server.add_secure_port("127.0.0.1:0", asks)
    edge = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(own))
    await server.start()
    mesh = MeshPlan({"llm": f"127.0.0.1:{inside}", "gateway": f"127.0.0.1:{edge}"}, tmp_path)
    try:
        for check in await doctor._mesh(mesh):
            assert check.state == NOTE
            assert "runs at 127.0.0.1:" in check.detail
            assert "it speaks TLS" in check.detail
        monkeypatch.setenv("VOICEMESH_CLIENT_TLS_CA", str(authority.path))
        llm, gateway = await doctor._mesh(mesh)
        assert (gateway.state, gateway.detail) == (OK, f"SERVING at 127.0.0.1:{edge}")
        assert llm.state == NOTE
        assert "it asks callers for a certificate" in llm.detail
        monkeypatch.setenv("VOICEMESH_CLIENT_TLS_CERT", str(operator.cert))
        monkeypatch.setenv("VOICEMESH_CLIENT_TLS_KEY", str(operator.key))
        assert [check.state for check in await doctor._mesh(mesh)] == [OK, OK]
    finally:
        await server.stop(None)
