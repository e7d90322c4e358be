"""Certificate files, what is refused in them, and which process listens with which."""

import datetime as dt
import os
import ssl
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from structlog.testing import capture_logs

from gateway.settings import GatewaySettings
from tests.support.certificates import DOMAIN, HOUR, Authority, Pair
from voicemesh.runtime.errors import SettingsError
from voicemesh.runtime.settings import ServerSettings, load
from voicemesh.runtime.tls import ProcessTls, following_context, is_local
from voicemesh.runtime.tls_files import TlsFiles, read, readable_by_others
from voicemesh.runtime.tls_reload import Certificates


@pytest.fixture(name="authority")
def _authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def files(pair: Pair, authority: Authority | None = None) -> TlsFiles:
    return TlsFiles(str(pair.cert), str(pair.key), str(authority.path) if authority is not None else "")


def refusal(of: TlsFiles) -> str:
    with pytest.raises(SettingsError) as refused:
        read(of)
    return str(refused.value)


def test_a_good_set_is_read(authority: Authority) -> None:
    held = read(files(authority.issue("llm", dns=("llm.voicemesh",)), authority))
    assert held.names == (f"{DOMAIN}llm", "llm.voicemesh")
    assert held.begins_s < time.time() < held.ends_s
    assert b"PRIVATE KEY" in held.key
    assert "PRIVATE" not in repr(held)
    assert "CERTIFICATE" not in repr(held)


def test_a_file_that_cannot_be_read_is_named(authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue("llm")
    missing = tmp_path / "missing.pem"
    assert refusal(TlsFiles(str(missing), str(pair.key))) == (
        f"VOICEMESH_TLS_CERT: {missing}: cannot be read: No such file or directory"
    )
    assert refusal(TlsFiles(str(pair.cert), str(tmp_path))) == f"VOICEMESH_TLS_KEY: {tmp_path}: is no file"
    assert refusal(TlsFiles(str(pair.cert), str(pair.key), str(missing))).startswith("VOICEMESH_TLS_CA: ")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no certificate in PEM, or a damaged one"),
        (
            b"-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----\n",
            "holds no certificate in PEM",
        ),
        (b"x" * 1_100_000, "has more than 1 MiB: it holds no certificates"),
    ],
)
def test_what_is_no_certificate_is_refused(authority: Authority, content: bytes, said: str) -> None:
    pair = authority.issue("llm")
    pair.cert.write_bytes(content)
    text = refusal(files(pair))
    assert text.startswith(f"VOICEMESH_TLS_CERT: {pair.cert}: {said}")
    assert "c2VjcmV0" not in text


def test_a_key_must_be_the_certificates(authority: Authority) -> None:
    pair, other = authority.issue("llm"), authority.issue("tts")
    text = refusal(TlsFiles(str(pair.cert), str(other.key)))
    assert text == f"VOICEMESH_TLS_KEY: {other.key}: is not the key of the certificate in {pair.cert}"
    pair.key.write_bytes(b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
    assert refusal(files(pair)) == (
        f"VOICEMESH_TLS_KEY: {pair.key}: holds no private key in PEM, or a damaged one"
    )


def test_what_expired_or_does_not_hold_yet_is_refused(authority: Authority, tmp_path: Path) -> None:
    expired = authority.issue("llm", ends=-dt.timedelta(minutes=1))
    assert f"VOICEMESH_TLS_CERT: {expired.cert}: expired on " in refusal(files(expired))
    future = authority.issue("llm", begins=HOUR, ends=2 * HOUR)
    assert refusal(files(future)).endswith("is the clock of this machine right?")
    gone = Authority(tmp_path, "gone", ends=-dt.timedelta(minutes=1))
    assert "every authority in it has expired" in refusal(files(gone.issue("tts"), gone))


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"TLS_CERT": "a"}, "VOICEMESH_TLS_KEY: is not set, and VOICEMESH_TLS_CERT is"),
        ({"TLS_KEY": "a"}, "VOICEMESH_TLS_CERT: is not set, and VOICEMESH_TLS_KEY is"),
        (
            {"GATEWAY_TLS_CERT": "a"},
            "VOICEMESH_GATEWAY_TLS_KEY: is not set, and VOICEMESH_GATEWAY_TLS_CERT is",
        ),
        ({"TLS_IDENTITY": "spiffe://a/gateway"}, "VOICEMESH_TLS_IDENTITY: must have {service} in it once"),
        ({"TLS_CLIENTS": "some"}, "VOICEMESH_TLS_CLIENTS: Input should be 'authorized', 'any' or 'off'"),
    ],
)
def test_wrong_combinations_name_the_variable(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"VOICEMESH_{name}", value)
    with pytest.raises(SettingsError) as refused:
        load(GatewaySettings)
    assert said in str(refused.value)


def tls(service: str, **settings: Any) -> ProcessTls:
    kind = GatewaySettings if service == "gateway" else ServerSettings
    return ProcessTls(service, kind(**settings))


def test_without_settings_all_is_plain_text() -> None:
    for service in ("gateway", "llm"):
        plain = tls(service)
        assert plain.mesh is None
        assert plain.listening is None
        assert plain.peer("tts") is None
        assert plain.http_context("1.2") is None
        assert not plain.interceptors


def test_a_service_listens_with_the_mesh_and_the_gateway_with_the_edge(authority: Authority) -> None:
    mesh, edge = authority.issue("gateway"), authority.issue("edge")
    inside = {"tls_cert": str(mesh.cert), "tls_key": str(mesh.key), "tls_ca": str(authority.path)}
    outside = {"gateway_tls_cert": str(edge.cert), "gateway_tls_key": str(edge.key)}
    service = tls("llm", **inside)
    assert service.listening is service.mesh is not None
    assert len(service.interceptors) == 1
    assert not tls("llm", **inside, tls_clients="any").interceptors
    half = tls("gateway", **inside)
    assert half.listening is None
    assert half.peer("llm") is not None
    both = tls("gateway", **inside, **outside)
    assert both.listening is not both.mesh
    assert both.listening is not None
    assert both.listening.current.cert == edge.cert.read_bytes()
    assert not both.interceptors


@pytest.mark.parametrize(
    ("service", "given", "said"),
    [
        (
            "llm",
            ("ca",),
            "VOICEMESH_TLS_CERT: is not set, and VOICEMESH_TLS_CA is: the service would listen in",
        ),
        (
            "llm",
            ("cert", "key"),
            "VOICEMESH_TLS_CA: is not set: without the authority no caller's certificate",
        ),
        ("gateway", ("cert", "key"), "VOICEMESH_TLS_CA: is not set, and VOICEMESH_TLS_CERT is: without the"),
    ],
)
def test_an_authority_is_needed(
    authority: Authority, service: str, given: tuple[str, ...], said: str
) -> None:
    pair = authority.issue(service)
    paths = {"ca": authority.path, "cert": pair.cert, "key": pair.key}
    with pytest.raises(SettingsError) as refused:
        tls(service, **{f"tls_{name}": str(paths[name]) for name in given})
    assert str(refused.value).startswith(said)


def test_the_edge_needs_a_certificate_to_ask_for_them(authority: Authority) -> None:
    with pytest.raises(SettingsError) as refused:
        tls("gateway", gateway_tls_client_ca=str(authority.path))
    assert str(refused.value) == (
        "VOICEMESH_GATEWAY_TLS_CLIENT_CA: needs VOICEMESH_GATEWAY_TLS_CERT and VOICEMESH_GATEWAY_TLS_KEY"
    )


def test_a_name_is_made_of_the_service(authority: Authority) -> None:
    pair = authority.issue("gateway")
    inside = {"tls_cert": str(pair.cert), "tls_key": str(pair.key), "tls_ca": str(authority.path)}
    named = tls("gateway", **inside, tls_server_name="{service}.voicemesh").peer("tts")
    assert named is not None
    assert named.options("dns:///tts:50053") == (("grpc.ssl_target_name_override", "tts.voicemesh"),)
    plain = tls("gateway", **inside).peer("tts")
    assert plain is not None
    assert plain.options("tts:50053") == ()
    assert plain.options("unix:/run/tts") == (("grpc.ssl_target_name_override", "localhost"),)


@pytest.mark.parametrize(
    ("listen", "local"),
    [
        ("127.0.0.1:50050", True),
        ("127.8.8.8:1", True),
        ("[::1]:50050", True),
        ("localhost:50050", True),
        ("unix:/run/gateway", True),
        ("0.0.0.0:50050", False),
        ("[::]:50050", False),
        ("10.0.0.7:50050", False),
        ("gateway:50050", False),
    ],
)
def test_what_only_this_machine_reaches(listen: str, local: bool) -> None:
    assert is_local(listen) is local


def test_plain_text_is_warned_of_where_others_reach_it() -> None:
    with capture_logs() as logs:
        tls("llm").warn_of_plain_text("127.0.0.1:1", "VOICEMESH_LLM_LISTEN")
        tls("llm", allow_plaintext=True).warn_of_plain_text("0.0.0.0:1", "VOICEMESH_LLM_LISTEN")
    assert not logs
    with capture_logs() as logs:
        tls("llm").warn_of_plain_text("0.0.0.0:1", "VOICEMESH_LLM_LISTEN")
    (said,) = logs
    assert said["event"] == "listening in plain text where other machines reach it"
    assert "VOICEMESH_ALLOW_PLAINTEXT" in said["hint"]


def test_a_key_that_others_may_read_is_warned_of(authority: Authority) -> None:
    pair = authority.issue("llm")
    assert stat.S_IMODE(pair.key.stat().st_mode) == 0o600
    with capture_logs() as logs:
        Certificates("mesh", files(pair, authority))
    assert not logs
    pair.key.chmod(0o640)
    with capture_logs() as logs:
        Certificates("mesh", files(pair, authority))
    assert [each["event"] for each in logs] == ["others may read a private key"]


@pytest.mark.parametrize(
    ("mode", "own", "warned"),
    [
        (0o440, False, False),  # a Secret of Kubernetes
        (0o640, False, False),
        (0o460, False, True),
        (0o444, False, True),
        (0o440, True, True),
        (0o400, True, False),
    ],
)
def test_the_group_of_a_secret_that_is_roots_may_read_it(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, mode: int, own: bool, warned: bool
) -> None:
    key = authority.issue("llm").key
    key.chmod(mode)
    monkeypatch.setattr(os, "geteuid", lambda: key.stat().st_uid + (not own))
    assert readable_by_others(str(key)) is warned


def test_a_certificate_of_another_service_is_warned_of(authority: Authority) -> None:
    pair = authority.issue("tts")
    inside = {"tls_cert": str(pair.cert), "tls_key": str(pair.key), "tls_ca": str(authority.path)}
    with capture_logs() as logs:
        tls("tts", **inside)
    assert not logs
    with capture_logs() as logs:
        tls("llm", **inside)
    assert [each["event"] for each in logs] == ["the certificate names another service"]


async def test_a_change_is_taken_once(authority: Authority) -> None:
    pair = authority.issue("llm")
    held, told = Certificates("mesh", files(pair, authority)), []
    held.subscribe(lambda: told.append(held.version))
    assert not await held.look()
    pair.cert.touch()
    assert not await held.look()
    authority.issue("llm")
    assert await held.look()
    assert not await held.look()
    assert told == [2]
    assert held.current.cert == pair.cert.read_bytes()


async def test_a_link_that_is_swapped_is_a_change(authority: Authority, tmp_path: Path) -> None:
    old, new, data = tmp_path / "..1", tmp_path / "..2", tmp_path / "..data"
    for folder in (old, new):
        folder.mkdir()
        pair = authority.issue("llm")
        for path in (pair.cert, pair.key):
            path.rename(folder / path.name)
    data.symlink_to(old)
    held = Certificates("mesh", TlsFiles(str(data / "llm.pem"), str(data / "llm.key")))
    data.unlink()
    data.symlink_to(new)
    assert await held.look()
    assert held.current.key == (new / "llm.key").read_bytes()


async def test_a_bad_change_is_refused_once_and_the_old_ones_stay(authority: Authority) -> None:
    pair, other = authority.issue("llm"), authority.issue("tts")
    held = Certificates("mesh", files(pair, authority))
    before, first = held.current, (pair.cert.read_bytes(), pair.key.read_bytes())

    async def refusals() -> list[str]:
        with capture_logs() as logs:
            assert not await held.look()
            assert not await held.look()
        return [each["error"] for each in logs if each["event"] == "certificates refused"]

    pair.cert.write_bytes(other.cert.read_bytes())  # half of a new pair
    assert await refusals() == [
        f"VOICEMESH_TLS_KEY: {pair.key}: is not the key of the certificate in {pair.cert}"
    ]
    pair.key.unlink()
    assert await refusals() == [f"VOICEMESH_TLS_KEY: {pair.key}: cannot be read: No such file or directory"]
    pair.cert.write_bytes(first[0])
    pair.key.write_bytes(first[1])
    assert await refusals() == []
    assert (held.current, held.version) == (before, 1)
    pair.cert.write_bytes(other.cert.read_bytes())
    pair.key.write_bytes(other.key.read_bytes())
    assert await held.look()
    assert held.version == 2


async def test_what_expires_is_warned_of_once(authority: Authority) -> None:
    pair = authority.issue("llm")
    now_s = time.time()
    with capture_logs() as logs:
        held = Certificates("mesh", files(pair, authority), now_s=lambda: now_s)
        assert not logs
        now_s += 0.7 * 3600  # of two hours, one of which had passed
        await held.look()
        await held.look()
    (said,) = logs
    assert said["event"] == "a certificate expires soon"
    assert said["file"] == str(pair.cert)
    now_s += 3600
    pair.cert.write_bytes(b"")
    with capture_logs() as logs:
        await held.look()
    assert [each.get("hint") for each in logs] == ["those in use have expired"]


async def test_what_openssl_refuses_is_not_taken_and_the_files_are_followed_still(
    authority: Authority,
) -> None:
    pair = authority.issue("edge")
    weak = rsa.generate_private_key(65537, 1024)
    pem = serialization.Encoding.PEM
    held = Certificates("edge", files(pair))
    following_context(held, ssl.TLSVersion.TLSv1_2)
    before = held.current
    pair.key.write_bytes(
        weak.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    pair.cert.write_bytes(self_signed(weak).public_bytes(pem))
    with capture_logs() as logs:
        assert not await held.look()
    (refused,) = logs
    assert refused["error"] == f"VOICEMESH_TLS_CERT: {pair.cert}: OpenSSL refuses it: ee key too small"
    assert (held.current, held.version) == (before, 1)
    with pytest.raises(SettingsError, match="ee key too small"):
        following_context(Certificates("edge", files(pair)), ssl.TLSVersion.TLSv1_2)
    authority.issue("edge")
    assert await held.look()
    assert held.version == 2


def self_signed(key: rsa.RSAPrivateKey) -> x509.Certificate:
    name, now = x509.Name([]), dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - HOUR)
        .not_valid_after(now + HOUR)
        .sign(key, hashes.SHA256())
    )
