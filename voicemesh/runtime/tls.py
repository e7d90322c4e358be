"""TLS of one process: what it listens with, what it calls its peers with, and who may call it.

    VOICEMESH_TLS_*          the mesh's inside: every service listens with it, the gateway calls with it
    VOICEMESH_GATEWAY_TLS_*  the edge: the gateway's gRPC and HTTP ports listen with it

Without any of them nothing here does anything, and the mesh speaks plain text.
"""

import ipaddress
import os
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc

from voicemesh.runtime.errors import SettingsError
from voicemesh.runtime.identities import PermissionInterceptor
from voicemesh.runtime.logs import get_logger
from voicemesh.runtime.metrics import Metrics
from voicemesh.runtime.permissions import PLACEHOLDER, Identities
from voicemesh.runtime.settings import ServerSettings
from voicemesh.runtime.tls_files import Material, TlsFiles
from voicemesh.runtime.tls_reload import Certificates

GATEWAY: Final = "gateway"

_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_log = get_logger(__name__)


class PeerCredentials:
    """With what a service of the mesh is called.

    Args:
        certificates: Of the mesh's inside.
        server_name: The name that the peer's certificate must have; "": the host of its address.

    """

    def __init__(self, certificates: Certificates, server_name: str) -> None:
        self.certificates = certificates
        self._server_name = server_name

    def options(self, target: str) -> tuple[tuple[str, str], ...]:
        """Return the options of a channel to `target`."""
        # A socket in a folder has no host: gRPC would look for its path in the certificate.
        name = self._server_name or ("localhost" if target.startswith("unix:") else "")
        return (("grpc.ssl_target_name_override", name),) if name else ()

    def now(self) -> grpc.ChannelCredentials:
        """Return credentials with the certificates of now."""
        held = self.certificates.current
        return grpc.ssl_channel_credentials(held.ca or None, held.key or None, held.cert or None)


class ProcessTls:
    """The certificates of one process.

    Args:
        service: Its short name.
        settings: Its settings.
        metrics: Its metrics.

    Attributes:
        mesh: Those of the mesh's inside; None where it speaks plain text.
        listening: Those that its gRPC port listens with: the gateway's are those of the edge.

    Raises SettingsError for files, or combinations, that cannot be.

    """

    def __init__(self, service: str, settings: ServerSettings, metrics: Metrics | None = None) -> None:
        metrics = metrics or Metrics.off()
        self._service = service
        self._settings = settings
        self._metrics = metrics
        files, edge = settings.tls_files, settings.edge_tls_files
        self.mesh: Certificates | None = None
        if files.cert or files.ca:
            self._check(service, settings)
            self.mesh = Certificates("mesh", files, every_s=settings.tls_reload_s, metrics=metrics)
        self.listening = self.mesh
        if service == GATEWAY:
            self.listening = None
            if edge.cert:
                self.listening = Certificates("edge", edge, every_s=settings.tls_reload_s, metrics=metrics)
            elif edge.ca:
                raise SettingsError(f"{edge.ca_variable}: needs {edge.cert_variable} and {edge.key_variable}")
        self._say_who()

    @staticmethod
    def _check(service: str, settings: ServerSettings) -> None:
        files = settings.tls_files
        if service == GATEWAY:
            if not files.ca:
                raise SettingsError(
                    f"{files.ca_variable}: is not set, and {files.cert_variable} is: without the authority "
                    "no service can be believed"
                )
        elif not files.cert:
            raise SettingsError(
                f"{files.cert_variable}: is not set, and {files.ca_variable} is: the service would listen in "
                "plain text"
            )
        elif settings.tls_clients != "off" and not files.ca:
            raise SettingsError(
                f"{files.ca_variable}: is not set: without the authority no caller's certificate can be "
                "believed. Set it, or VOICEMESH_TLS_CLIENTS=off to let everyone call who reaches the port"
            )

    def _say_who(self) -> None:
        """Warn where the certificate stands for another service: its peers will refuse it."""
        if self.mesh is None or not self.mesh.files.cert or self._settings.tls_clients != "authorized":
            return
        role = Identities(self._settings.tls_identity).role(self.mesh.current.names)
        if role != self._service:
            _log.warning(
                "the certificate names another service",
                file=self.mesh.files.cert,
                names=self.mesh.current.names,
                expected=self._settings.tls_identity.replace(PLACEHOLDER, self._service),
            )

    @property
    def interceptors(self) -> Sequence[Any]:
        """What holds the calls of the server to the table of permissions."""
        if self._service == GATEWAY or self.mesh is None or self._settings.tls_clients != "authorized":
            return ()
        return (PermissionInterceptor(Identities(self._settings.tls_identity), self._metrics),)

    def bind(self, server: grpc.aio.Server, listen: str) -> int:
        """Bind the server's port; return it. Raises RuntimeError where that cannot be."""
        if self.listening is None:
            self.warn_of_plain_text(listen, f"VOICEMESH_{self._service.upper()}_LISTEN")
            return server.add_insecure_port(listen)
        return server.add_secure_port(listen, server_credentials(self.listening, self._asks_for_certificates))

    @property
    def _asks_for_certificates(self) -> bool:
        if self._service == GATEWAY:
            return bool(self._settings.edge_tls_files.ca)
        return self._settings.tls_clients != "off"

    def peer(self, service: str) -> PeerCredentials | None:
        """Return with what a service is called; None: in plain text."""
        if self.mesh is None:
            return None
        return PeerCredentials(self.mesh, self._settings.tls_server_name.replace(PLACEHOLDER, service))

    def http_context(self, least: str) -> Callable[[], ssl.SSLContext] | None:
        """Return what gives the context of each handshake of the HTTP port; None: plain text.

        `least` is the lowest version that is spoken, "1.2" or "1.3".
        """
        if self.listening is None:
            return None
        return following_context(self.listening, _VERSIONS[least])

    def warn_of_plain_text(self, listen: str, variable: str) -> None:
        """Warn where a port that other machines reach is about to speak plain text."""
        if self._settings.allow_plaintext or is_local(listen):
            return
        what = "VOICEMESH_GATEWAY_TLS_CERT" if self._service == GATEWAY else "VOICEMESH_TLS_CERT"
        _log.warning(
            "listening in plain text where other machines reach it",
            address=listen,
            variable=variable,
            hint=f"set {what} and its like (docs/tls.md), or VOICEMESH_ALLOW_PLAINTEXT=true where something "
            "else encrypts, such as a service mesh",
        )

    def start(self) -> None:
        """Follow the files from now on."""
        for each in self._sets:
            each.start()

    async def stop(self) -> None:
        """Follow them no more."""
        for each in self._sets:
            await each.stop()

    @property
    def _sets(self) -> list[Certificates]:
        return [each for each in dict.fromkeys((self.mesh, self.listening)) if each is not None]


def server_credentials(certificates: Certificates, asks: bool) -> grpc.ServerCredentials:
    """Return credentials that follow the files: gRPC asks before each handshake whether there is news.

    `asks` is whether callers must show a certificate.
    """
    given = certificates.version

    def news() -> grpc.ServerCertificateConfiguration | None:
        # In a thread of gRPC's: it takes what is there, and reads no file.
        nonlocal given
        version, held = certificates.version, certificates.current
        if version == given:
            return None
        given = version
        return _configuration(held, asks)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(certificates.current, asks),
        news,  # type: ignore[arg-type]  # None is for no news: the stubs do not know
        require_client_authentication=asks,
    )


def _configuration(held: Material, asks: bool) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(held.key, held.cert)], held.ca if asks else None)


def following_context(certificates: Certificates, least: ssl.TLSVersion) -> Callable[[], ssl.SSLContext]:
    """Return what gives the context for the next handshake, with the certificates of now.

    Each change makes another context: no session that one of them began is resumed in another.
    Raises SettingsError where OpenSSL, which asks for more than gRPC does, refuses them.
    """
    current = _context(certificates.files, certificates.current, least)

    def renew(held: Material) -> Callable[[], None]:
        made = _context(certificates.files, held, least)

        def take() -> None:
            nonlocal current
            current = made

        return take

    certificates.require(renew)
    return lambda: current


def _context(files: TlsFiles, held: Material, least: ssl.TLSVersion) -> ssl.SSLContext:
    try:
        return _made(files, held, least)
    except ssl.SSLError as error:
        why = (error.reason or "").replace("_", " ").lower()
        raise SettingsError(f"{files.cert_variable}: {files.cert}: OpenSSL refuses it: {why}") from None
    except OSError as error:
        raise SettingsError(f"{files.cert_variable}: {files.cert}: {error.strerror}") from None


def _made(files: TlsFiles, held: Material, least: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = least
    if hasattr(os, "memfd_create"):
        # What was checked, and not what is in the files by now: OpenSSL takes no bytes, so it is given a file
        # in memory that nobody else can open.
        with os.fdopen(os.memfd_create("certificates"), "wb") as file:
            file.write(held.key + b"\n" + held.cert)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    else:
        context.load_cert_chain(files.cert, files.key)
    if held.ca:
        context.load_verify_locations(cadata=held.ca.decode("ascii", "replace"))
        context.verify_mode = ssl.CERT_REQUIRED
        # Who resumes a session shows no certificate again: one that has expired meanwhile would be let in.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


def is_local(listen: str) -> bool:
    """Say whether only this machine reaches an address."""
    if listen.startswith("unix:"):
        return True
    host = listen.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
