"""What k8s/ says about certificates, keys and Redis fits what the code reads and believes."""

import datetime as dt
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.cache.settings import CacheSettings
from tests.support.cert_manager import CertManager, documents, hours, mounts_of, settings_in
from voicemesh.runtime.edges import SERVICES
from voicemesh.runtime.permissions import OPERATOR, Identities
from voicemesh.runtime.settings import ServerSettings
from voicemesh.runtime.tls_files import TlsFiles, check

ROOT = Path(__file__).resolve().parents[2]
COMPONENTS = ROOT / "k8s" / "components"
AUTHORITIES = documents(COMPONENTS / "mtls" / "authorities.yaml")
LEAVES = [
    *documents(COMPONENTS / "mtls" / "certificates.yaml"),
    *documents(COMPONENTS / "redis-tls" / "certificate.yaml"),
]
CERTIFICATES = [each for each in (*AUTHORITIES, *LEAVES) if each["kind"] == "Certificate"]
IDENTITIES = Identities(ServerSettings.model_fields["tls_identity"].default)
BY_NAME = pytest.mark.parametrize(
    "manifest", CERTIFICATES, ids=[each["metadata"]["name"] for each in CERTIFICATES]
)


@BY_NAME
def test_a_certificate_is_renewed_before_processes_warn_of_it(manifest: Mapping[str, Any]) -> None:
    """They warn where less than a fifth of its life is left."""
    spec = manifest["spec"]
    manager = CertManager([*AUTHORITIES, *LEAVES])
    secret = manager.secret(spec["secretName"])
    contents = (secret["tls.crt"], secret["tls.key"], secret["ca.crt"])
    now_s = dt.datetime.now(dt.UTC).timestamp()
    held = check(TlsFiles("cert", "key", "ca"), contents, now_s + 1)
    renewed_s = held.ends_s - hours(spec["renewBefore"]).total_seconds()
    assert held.begins_s < renewed_s < held.ends_s
    if not spec.get("isCA"):
        assert not held.expires_soon(renewed_s + 6 * 3600), "with hours to spare"


@BY_NAME
def test_a_key_is_kept_by_authorities_alone(manifest: Mapping[str, Any]) -> None:
    spec = manifest["spec"]
    assert spec["privateKey"]["rotationPolicy"] == ("Never" if spec.get("isCA") else "Always")


def test_each_process_is_who_it_should_be_and_nobody_else_is_anybody() -> None:
    roles = {
        each["metadata"]["name"]: IDENTITIES.role(tuple(each["spec"].get("uris", ()))) for each in LEAVES
    }
    inside = (*SERVICES, OPERATOR)
    assert roles == {**{name: name for name in inside}, "gateway-edge": "", "redis": ""}
    issuers = {each["metadata"]["name"]: each["spec"]["issuerRef"]["name"] for each in LEAVES}
    assert issuers == {**dict.fromkeys((*inside, "redis"), "voicemesh-ca"), "gateway-edge": "voicemesh-edge"}


def test_each_process_has_its_own_certificate_and_no_other() -> None:
    mounted = {
        each["metadata"]["name"]: [mount.secret for mount in mounts_of(each)]
        for each in documents(COMPONENTS / "mtls" / "mounts.yaml")
    }
    expected = {name: [f"{name}-tls"] for name in SERVICES}
    expected["gateway"].append("gateway-edge-tls")
    assert mounted == expected


def test_services_have_the_names_that_they_are_called_by() -> None:
    called = settings_in(COMPONENTS / "mtls" / "inside.env")["VOICEMESH_TLS_SERVER_NAME"]
    addresses = settings_in(ROOT / "k8s" / "base" / "gateway" / "settings.env")
    names = {each["metadata"]["name"]: each["spec"].get("dnsNames", []) for each in LEAVES}
    for service in SERVICES:
        if service != "gateway":
            assert called.replace("{service}", service) in names[service]
            host = addresses[f"VOICEMESH_{service.upper()}_ADDR"].removeprefix("dns:///").rpartition(":")[0]
            assert host in names[service]


def test_the_user_of_the_mesh_in_redis_has_the_rights_that_the_docs_name_and_no_more() -> None:
    docs = (ROOT / "docs" / "cache.md").read_text()
    found = re.search(r"ACL SETUSER mesh on >PASSWORD (.*?)```", docs, re.DOTALL)
    assert found
    script = (COMPONENTS / "redis" / "start.sh").read_text()
    user = re.search(r"^user mesh on\$\(.*\) (resetkeys .*)$", script, re.MULTILINE)
    assert user
    assert user[1].split() == found[1].replace("\\\n", " ").split()


def test_redis_has_room_beside_what_it_keeps() -> None:
    config = (COMPONENTS / "redis" / "redis.conf").read_text()
    kept = re.search(r"^maxmemory (\d+)mb$", config, re.MULTILINE)
    clients = re.search(r"^maxclients (\d+)$", config, re.MULTILINE)
    (deployment,) = documents(COMPONENTS / "redis" / "deployment.yaml")
    limit = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
    assert kept
    assert clients
    assert limit == "1Gi"
    assert int(kept[1]) <= 1024 * 3 / 4
    # What is waiting in one cache service for Redis, and an entry for each of its connections.
    assert CacheSettings.model_fields["cache_redis_queue_bytes"].default < 1024 * 1024 * 1024 / 4


@pytest.mark.parametrize("component", ["mtls", "redis", "redis-tls", "keys"])
def test_no_secret_is_in_a_component(component: str) -> None:
    for file in (COMPONENTS / component).glob("*.yaml"):
        for manifest in yaml.safe_load_all(file.read_text()):
            assert manifest["kind"] != "Secret", file
            assert "secretGenerator" not in manifest, file
