"""`voicemesh certs`, and the files of a caller."""

import re
import stat
from pathlib import Path

import pytest
from cryptography import x509

from tests.support.certificates import Authority
from voicemesh.cli import connection
from voicemesh.cli.certs import EDGE, HOLDERS, CertsOptions, make, run_certs, variables
from voicemesh.cli.child import ChildSpec
from voicemesh.cli.exits import USAGE, Failure
from voicemesh.cli.mesh_tls import scheme, tls_of, with_certificates
from voicemesh.runtime.settings import ServerSettings
from voicemesh.runtime.tls import ProcessTls
from voicemesh.runtime.tls_files import TlsFiles, read, readable_by_others
from voicemesh.tls import Tls


def test_every_process_can_begin_with_them(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    make(CertsOptions(folder=folder, days=1, domain="example.org", hosts=("voice.example.org", "10.0.0.7")))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not list(folder.glob("ca.key"))
    for name in (*HOLDERS, EDGE):
        files = TlsFiles(str(folder / f"{name}.pem"), str(folder / f"{name}.key"), str(folder / "ca.pem"))
        held = read(files)
        assert not readable_by_others(files.key)
        assert {"localhost", "voice.example.org"} <= set(held.names)
        assert (f"spiffe://example.org/voicemesh/{name}" in held.names) is (name != EDGE)
        assert held.ends_s - held.begins_s == pytest.approx(86_400 + 300)
        certificate = x509.load_pem_x509_certificate(held.cert)
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(held.ca))
    names = {
        name.removeprefix("VOICEMESH_").lower(): value for name, value in variables("llm", folder).items()
    }
    settings = ServerSettings.model_validate(
        {**names, "tls_identity": "spiffe://example.org/voicemesh/{service}"}
    )
    assert ProcessTls("llm", settings).interceptors


def test_what_is_there_is_replaced_when_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(CertsOptions(folder=tmp_path))
    before = (tmp_path / "ca.pem").read_bytes()
    (tmp_path / "llm.key").chmod(0o644)
    with pytest.raises(Failure) as refused:
        make(CertsOptions(folder=tmp_path))
    assert (refused.value.status, refused.value.hint) == (USAGE, "--force makes others")
    assert (tmp_path / "ca.pem").read_bytes() == before
    assert run_certs(CertsOptions(folder=tmp_path, force=True)) == 0
    assert (tmp_path / "ca.pem").read_bytes() != before
    assert not readable_by_others(str(tmp_path / "llm.key"))
    said = capsys.readouterr().out
    assert f"export VOICEMESH_CLIENT_TLS_CA={tmp_path}/ca.pem" in said
    assert "PRIVATE" not in said


def test_a_host_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Failure) as refused:
        make(CertsOptions(folder=tmp_path, hosts=("bücher.example",)))
    assert refused.value.message == "--host: 'bücher.example' is no name of a host"


def test_children_are_asked_as_they_listen(tmp_path: Path) -> None:
    make(CertsOptions(folder=tmp_path))
    specs = [
        ChildSpec(name=name, argv=(), env={}, cwd=tmp_path, address=name) for name in ("tts-2", "gateway")
    ]
    assert [tls_of("tts", spec.env) for spec in specs] == [None, None]
    assert scheme(specs) == "http"
    tts, gateway = with_certificates(specs, tmp_path)
    assert tls_of("tts", tts.env) == Tls(
        ca=f"{tmp_path}/ca.pem",
        cert=f"{tmp_path}/tts.pem",
        key=f"{tmp_path}/tts.key",
        server_name="tts.voicemesh",
    )
    assert tls_of("gateway", gateway.env) == Tls(ca=f"{tmp_path}/edge.pem", server_name="localhost")
    assert scheme([tts, gateway]) == "https"
    assert scheme([tts]) == "http"


def test_a_callers_files_are_checked_and_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    mine, other = authority.issue("operator"), authority.issue("tts")
    assert Tls(ca=str(authority.path), cert=str(mine.cert), key=str(mine.key)).credentials()
    broken = tmp_path / "broken.pem"
    broken.write_text("secret words")
    for tls, said in (
        (Tls(cert="a"), "key: is missing, and cert is given: a certificate and its key go together"),
        (Tls(key="a"), "cert: is missing, and key is given: a certificate and its key go together"),
        (Tls(ca=f"{tmp_path}/no.pem"), f"ca: {tmp_path}/no.pem: cannot be read: No such file or directory"),
        (Tls(ca=str(broken)), f"ca: {broken}: holds no certificate in PEM, or a damaged one"),
        (
            Tls(cert=str(mine.cert), key=str(other.key)),
            f"key: {other.key}: is not the key of the certificate in {mine.cert}",
        ),
        (
            Tls(cert=str(broken), key=str(other.key)),
            f"cert, key: {broken}, {other.key}: hold no certificate and key in PEM, or a damaged one",
        ),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
            tls.credentials()


def test_options_of_a_run(tmp_path: Path) -> None:
    nothing = {"tls": False, "tls_ca": "", "tls_cert": "", "tls_key": "", "tls_server_name": ""}
    arguments = {**nothing, "addr": "a"}
    connection.take(arguments)
    assert arguments == {"addr": "a"}
    assert connection.tls() is None
    connection.take({**nothing, "tls": True})
    assert connection.tls() == Tls()
    with pytest.raises(Failure) as refused:
        connection.take({**nothing, "tls_ca": f"{tmp_path}/no.pem"})
    assert refused.value.message.startswith(f"--tls-ca: {tmp_path}/no.pem: cannot be read")
    connection.take(dict(nothing))
