"""TLS of a mesh here: certificates for one run, and how its children are asked whether they serve."""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from voicemesh.cli.certs import CertsOptions, client_variables, edge_variables, make, variables
from voicemesh.cli.child import ChildSpec
from voicemesh.cli.supervisor import Health
from voicemesh.tls import Tls


@contextmanager
def certificates() -> Iterator[Path]:
    """Make certificates for one run of a mesh; give their folder, which is removed behind it."""
    folder = Path(tempfile.mkdtemp(prefix="voicemesh-tls-"))
    try:
        make(CertsOptions(folder=folder))
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def with_certificates(specs: Sequence[ChildSpec], folder: Path) -> list[ChildSpec]:
    """Return the children with their certificates in `folder`."""
    return [
        replace(spec, env={**spec.env, **variables(_service(spec), folder), **edge_variables(folder)})
        for spec in specs
    ]


def exports(folder: Path) -> str:
    """Return what a person puts into a shell, so that commands reach such a mesh."""
    return "export " + " ".join(f"{name}={value}" for name, value in client_variables(folder).items())


def scheme(specs: Iterable[ChildSpec]) -> str:
    """Return "https" where the gateways among the children were told of a certificate, else "http"."""
    told = (spec.env.get("VOICEMESH_GATEWAY_TLS_CERT") for spec in specs if _service(spec) == "gateway")
    return "https" if any(told) else "http"


def asking(specs: Sequence[ChildSpec]) -> Callable[[str], Health]:
    """Return what asks a child at an address whether it serves, as its environment says that it listens."""
    spoken = {spec.address: _usable(tls_of(_service(spec), spec.env)) for spec in specs}

    def health(address: str) -> Health:
        from voicemesh.cli.health import HealthClient  # noqa: PLC0415 - gRPC, while the children start

        return HealthClient(address, spoken.get(address))

    return health


def tls_of(service: str, environment: Mapping[str, str]) -> Tls | None:
    """Return how to ask a process of a service whether it serves; None: in plain text.

    It is shown its own certificate: health is open to every identity. A gateway is believed by the very
    certificate that it was told to show, for a public one has no name of this machine.
    """
    if service == "gateway":
        shown = environment.get("VOICEMESH_GATEWAY_TLS_CERT", "")
        if not shown:
            return None
        own = "VOICEMESH_CLIENT_TLS"
        return Tls(
            ca=shown,
            cert=environment.get(f"{own}_CERT", ""),
            key=environment.get(f"{own}_KEY", ""),
            server_name=_a_name_in(shown),
        )
    cert = environment.get("VOICEMESH_TLS_CERT", "")
    if not cert:
        return None
    return Tls(
        ca=environment.get("VOICEMESH_TLS_CA", "") or cert,
        cert=cert,
        key=environment.get("VOICEMESH_TLS_KEY", ""),
        server_name=environment.get("VOICEMESH_TLS_SERVER_NAME", "").replace("{service}", service),
    )


def ways_to_ask(service: str, environment: Mapping[str, str]) -> list[Tls]:
    """Return in which ways a process that speaks TLS can be asked: as its own kind, and as a caller."""
    own = "VOICEMESH_CLIENT_TLS"
    said = {
        name: environment.get(f"{own}_{name.upper()}", "") for name in ("ca", "cert", "key", "server_name")
    }
    caller = Tls(**said) if any(said.values()) or environment.get(own) else None
    return [tls for tls in (_usable(tls_of(service, environment)), _usable(caller)) if tls is not None]


def _usable(tls: Tls | None) -> Tls | None:
    """Return None for files that cannot be: the child ends with what is wrong about them."""
    try:
        if tls is not None:
            tls.check()
    except ValueError:
        return None
    return tls


def _a_name_in(path: str) -> str:
    """Return a DNS name in a certificate; "" where there is none, or the process will say what is wrong."""
    from cryptography import x509  # noqa: PLC0415 - only for a gateway that speaks TLS

    try:
        certificate = x509.load_pem_x509_certificate(Path(path).read_bytes())
        said = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return ""
    return next((name.replace("*", "gateway") for name in said.get_values_for_type(x509.DNSName)), "")


def _service(spec: ChildSpec) -> str:
    return spec.name.partition("-")[0]
