"""`voicemesh certs`: an authority that nobody can use again, and certificates of it, to try mutual TLS with.

The authority's key is forgotten when the certificates are made: to renew one, all are made anew.
"""

import datetime as dt
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from voicemesh.cli.exits import DONE, FAILED, Failure, usage

if TYPE_CHECKING:
    from cryptography import x509

HOLDERS: Final = ("gateway", "llm", "chunker", "tts", "cache", "operator")
"""Who has a certificate inside the mesh; beside them the edge, whose certificate callers see."""
EDGE: Final = "edge"
CA: Final = "ca.pem"
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")
_EARLIER: Final = dt.timedelta(minutes=5)
"""Clocks differ."""


@dataclass(frozen=True, kw_only=True)
class CertsOptions:
    """What `voicemesh certs` was asked for."""

    folder: Path
    days: float = 7.0
    domain: str = "cluster.local"
    hosts: tuple[str, ...] = ()
    force: bool = False


def run_certs(options: CertsOptions) -> int:
    """Make the certificates and say how they are used; return the exit status. Raises Failure."""
    make(options)
    folder = options.folder.resolve()
    print(f"for {options.days:g} days, in {folder}: {CA}, and .pem and .key of {', '.join((*HOLDERS, EDGE))}")
    print("each process, with its own name for SERVICE:")
    for name, value in variables("SERVICE", folder).items():
        print(f"  export {name}={value}")
    print("the gateway, for its callers:")
    for name, value in edge_variables(folder).items():
        print(f"  export {name}={value}")
    print("who calls, or looks after the mesh:")
    for name, value in client_variables(folder).items():
        print(f"  export {name}={value}")
    return DONE


def variables(service: str, folder: Path) -> dict[str, str]:
    """Return what a process is told of its certificate inside the mesh."""
    return {
        "VOICEMESH_TLS_CA": str(folder / CA),
        "VOICEMESH_TLS_CERT": str(folder / f"{service}.pem"),
        "VOICEMESH_TLS_KEY": str(folder / f"{service}.key"),
        "VOICEMESH_TLS_SERVER_NAME": "{service}.voicemesh",
    }


def edge_variables(folder: Path) -> dict[str, str]:
    """Return what a gateway is told of the certificate that callers see."""
    return {
        "VOICEMESH_GATEWAY_TLS_CERT": str(folder / f"{EDGE}.pem"),
        "VOICEMESH_GATEWAY_TLS_KEY": str(folder / f"{EDGE}.key"),
    }


def client_variables(folder: Path) -> dict[str, str]:
    """Return what the command line is told."""
    return {
        "VOICEMESH_CLIENT_TLS_CA": str(folder / CA),
        "VOICEMESH_CLIENT_TLS_CERT": str(folder / "operator.pem"),
        "VOICEMESH_CLIENT_TLS_KEY": str(folder / "operator.key"),
    }


def make(options: CertsOptions) -> None:
    """Make all of them. Raises Failure."""
    folder = options.folder
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (folder / CA).exists() and not options.force:
            raise usage(f"{folder}: there are certificates already", "--force makes others")
        _make(options)
    except OSError as error:
        raise Failure(FAILED, "CERTS", f"{error.filename}: cannot be written: {error.strerror}") from None


def _make(options: CertsOptions) -> None:
    try:
        from cryptography import x509  # noqa: PLC0415 - only who makes certificates needs it
        from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - as above
        from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - as above
        from cryptography.x509.oid import NameOID  # noqa: PLC0415 - as above
    except ImportError:
        raise Failure(
            FAILED, "CERTS", "the package cryptography is not installed", "pip install cryptography"
        ) from None
    begins = dt.datetime.now(dt.UTC) - _EARLIER
    ends = begins + _EARLIER + dt.timedelta(days=options.days)
    names = _names(options.hosts)

    def named(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    def begun(name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named("voicemesh throw-away authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
        )

    authority = ec.generate_private_key(ec.SECP256R1())
    constraints = x509.BasicConstraints(ca=True, path_length=0)
    own = begun("voicemesh throw-away authority", authority).add_extension(constraints, critical=True)
    for holder in (*HOLDERS, EDGE):
        key = ec.generate_private_key(ec.SECP256R1())
        said: list[x509.GeneralName] = [*names]
        if holder != EDGE:
            uri = f"spiffe://{options.domain}/voicemesh/{holder}"
            said += [x509.UniformResourceIdentifier(uri), x509.DNSName(f"{holder}.voicemesh")]
        certificate = begun(holder, key).add_extension(x509.SubjectAlternativeName(said), critical=False)
        _write(options.folder / f"{holder}.key", _pem(key), 0o600)
        _write(options.folder / f"{holder}.pem", _pem(certificate.sign(authority, hashes.SHA256())), 0o644)
    _write(options.folder / CA, _pem(own.sign(authority, hashes.SHA256())), 0o644)


def _names(hosts: Sequence[str]) -> "list[x509.GeneralName]":
    from cryptography import x509  # noqa: PLC0415 - as above

    names: list[x509.GeneralName] = []
    for host in (*_LOCAL, *hosts):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            try:
                names.append(x509.DNSName(host))
            except ValueError:
                raise usage(f"--host: {host!r} is no name of a host") from None
    return names


def _pem(thing: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - as above

    if hasattr(thing, "private_bytes"):
        content: bytes = thing.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return content
    certificate: bytes = thing.public_bytes(serialization.Encoding.PEM)
    return certificate


def _write(path: Path, content: bytes, mode: int) -> None:
    # Away first: what is there may be readable by others, and stays so when it is written again.
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
