"""TLS of a caller: files with certificates, checked before gRPC is given them.

gRPC says nothing but UNAVAILABLE of a key that is another certificate's. This module is plain Python, so that
the client and the command line share it.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc


@dataclass(frozen=True, kw_only=True)
class Tls:
    """How a caller speaks TLS.

    Attributes:
        ca: A PEM file with the authorities that are believed; "": those that gRPC brings.
        cert: A PEM file with the caller's own certificate, where the mesh asks for one; "": none is shown.
        key: A PEM file with its private key.
        server_name: The name that the mesh's certificate must have; "": the host of its address.

    """

    ca: str = ""
    cert: str = ""
    key: str = ""
    server_name: str = ""

    def credentials(self) -> "grpc.ChannelCredentials":
        """Return credentials of a channel with what is in the files now.

        Raises:
            ValueError: A file cannot be read, or holds nothing of its kind; the text names it, and which of
                `ca`, `cert` and `key` it is, and nothing that is in it.

        """
        import grpc  # noqa: PLC0415 - the command line reads options before it needs gRPC

        self.check()
        ca, key, cert = (Path(path).read_bytes() if path else None for path in (self.ca, self.key, self.cert))
        return grpc.ssl_channel_credentials(ca, key, cert)

    def options(self, address: str) -> tuple[tuple[str, str], ...]:
        """Return the options of a channel to `address`."""
        # A socket in a folder has no host: gRPC would look for its path in the certificate.
        name = self.server_name or ("localhost" if address.startswith("unix:") else "")
        return (("grpc.ssl_target_name_override", name),) if name else ()

    def check(self) -> ssl.SSLContext:
        """Return a context of Python's own with the same files. Raises ValueError as `credentials` does."""
        if bool(self.cert) != bool(self.key):
            given, missing = ("cert", "key") if self.cert else ("key", "cert")
            raise ValueError(
                f"{missing}: is missing, and {given} is given: a certificate and its key go together"
            )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if self.ca:
                context.load_verify_locations(_readable("ca", self.ca))
            else:
                context.load_default_certs()
        except ssl.SSLError:
            raise ValueError(f"ca: {self.ca}: holds no certificate in PEM, or a damaged one") from None
        if not self.cert:
            return context
        try:
            context.load_cert_chain(_readable("cert", self.cert), _readable("key", self.key), password="")
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise ValueError(
                    f"key: {self.key}: is not the key of the certificate in {self.cert}"
                ) from None
            raise ValueError(
                f"cert, key: {self.cert}, {self.key}: hold no certificate and key in PEM, or a damaged one"
            ) from None
        return context


def _readable(what: str, path: str) -> str:
    try:
        with Path(path).open("rb"):
            return path
    except OSError as error:
        raise ValueError(f"{what}: {path}: cannot be read: {error.strerror}") from None
