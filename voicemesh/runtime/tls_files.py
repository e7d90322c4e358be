"""Certificates and keys in files: read whole, checked, and never shown.

What is wrong is said with the variable and the file at fault; what is in a file is never quoted.
"""

import datetime as dt
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from voicemesh.runtime.errors import SettingsError

if TYPE_CHECKING:
    from cryptography import x509

_MAX_BYTES: Final = 1_048_576
"""A file larger than this holds something else."""
_READS: Final = 5
_SOON: Final = 0.2
"""A certificate expires soon when less than this share of its life is left: renewal is due well before."""
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True)
class TlsFiles:
    """Where certificates are.

    Attributes:
        cert: The certificate, and behind it those that lead to its authority; "": none.
        key: Its private key.
        ca: The authorities by which peers are believed; "": peers show no certificate.
        cert_variable: Which setting named `cert`; the two below the others.

    """

    cert: str = ""
    key: str = ""
    ca: str = ""
    cert_variable: str = "VOICEMESH_TLS_CERT"
    key_variable: str = "VOICEMESH_TLS_KEY"
    ca_variable: str = "VOICEMESH_TLS_CA"

    def check_pair(self) -> None:
        """Raise ValueError where there is a certificate without a key, or a key without a certificate."""
        if bool(self.cert) != bool(self.key):
            given, missing = self.cert_variable, self.key_variable
            if self.key:
                given, missing = missing, given
            raise ValueError(f"{missing}: is not set, and {given} is: a certificate and its key go together")

    def contents(self) -> tuple[bytes, bytes, bytes]:
        """Return what is in the files: certificate, key, authorities; b"" for one that is not named.

        They are read again until nothing changed meanwhile, so that an old certificate is not taken with a
        new key. Raises SettingsError for a file that cannot be read.
        """
        before = self._read_all()
        for _ in range(_READS):
            after = self._read_all()
            if after == before:
                break
            before = after
        return before

    def _read_all(self) -> tuple[bytes, bytes, bytes]:
        return (
            _read(self.cert, self.cert_variable),
            _read(self.key, self.key_variable),
            _read(self.ca, self.ca_variable),
        )


@dataclass(frozen=True, repr=False)
class Material:
    """What one set of files held, checked.

    Attributes:
        cert: The certificate and those behind it, as PEM; b"" where there is none.
        key: Its key, as PEM.
        ca: The authorities, as PEM; b"" where there are none.
        names: What the certificate says its holder is: its URIs and DNS names.
        begins_s: When it begins to hold, in seconds since 1970.
        ends_s: When it ends to hold: the first of the certificate and those behind it.

    """

    cert: bytes
    key: bytes
    ca: bytes
    names: tuple[str, ...]
    begins_s: float
    ends_s: float

    def __repr__(self) -> str:
        """Return no content: it may end in a log."""
        return f"Material(names={self.names})"

    def expires_soon(self, now_s: float) -> bool:
        """Say whether less than a fifth of the certificate's life is left."""
        return bool(self.cert) and self.ends_s - now_s < _SOON * (self.ends_s - self.begins_s)


def read(files: TlsFiles, now_s: Callable[[], float] = time.time) -> Material:
    """Read a set of files.

    Raises:
        SettingsError: A file cannot be read, or holds no PEM of its kind; the key is of another
            certificate; a certificate has expired or does not hold yet.

    """
    return check(files, files.contents(), now_s())


def check(files: TlsFiles, contents: tuple[bytes, bytes, bytes], now_s: float) -> Material:
    """Check what was in `files`. Raises SettingsError as `read` does."""
    cert, key, ca = contents
    if files.ca:
        _check_authorities(files, ca, now_s)
    if not files.cert:
        return Material(b"", b"", ca, (), 0.0, 0.0)
    chain = _certificates(cert, files.cert, files.cert_variable)
    _check_key(files, chain[0], key)
    for certificate in chain:
        if certificate.not_valid_after_utc.timestamp() <= now_s:
            raise SettingsError(
                f"{files.cert_variable}: {files.cert}: expired on {_when(certificate.not_valid_after_utc)}. "
                "Renew it"
            )
    begins_s = chain[0].not_valid_before_utc.timestamp()
    if begins_s > now_s:
        raise SettingsError(
            f"{files.cert_variable}: {files.cert}: holds from {_when(chain[0].not_valid_before_utc)} on: is "
            "the clock of this machine right?"
        )
    ends_s = min(certificate.not_valid_after_utc.timestamp() for certificate in chain)
    return Material(cert, key, ca, _names(chain[0]), begins_s, ends_s)


def readable_by_others(path: str) -> bool:
    """Say whether others than its owner may read a file.

    The group of a file that somebody else owns may: so Kubernetes gives a Secret, which is root's, to a pod
    that does not run as root (`fsGroup`), whatever `defaultMode` says.
    """
    try:
        found = Path(path).stat()
    except OSError:
        return False  # reading it says what is wrong
    given = 0 if found.st_uid == os.geteuid() else stat.S_IRGRP
    return bool(found.st_mode & _OTHERS & ~given)


def _read(path: str, variable: str) -> bytes:
    if not path:
        return b""
    try:
        if not Path(path).is_file() and Path(path).exists():
            raise SettingsError(f"{variable}: {path}: is no file")
        with Path(path).open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{variable}: {path}: cannot be read: {error.strerror}") from None
    if len(content) > _MAX_BYTES:
        raise SettingsError(f"{variable}: {path}: has more than 1 MiB: it holds no certificates")
    return content


def _certificates(content: bytes, path: str, variable: str) -> "list[x509.Certificate]":
    # Only who uses TLS pays for the library: it takes tens of milliseconds to load.
    from cryptography import x509  # noqa: PLC0415 - above

    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        raise SettingsError(f"{variable}: {path}: holds no certificate in PEM, or a damaged one") from None


def _check_authorities(files: TlsFiles, content: bytes, now_s: float) -> None:
    authorities = _certificates(content, files.ca, files.ca_variable)
    if all(authority.not_valid_after_utc.timestamp() <= now_s for authority in authorities):
        last = max(authority.not_valid_after_utc for authority in authorities)
        raise SettingsError(
            f"{files.ca_variable}: {files.ca}: every authority in it has expired, the last on "
            f"{_when(last)}. Renew it"
        )


def _check_key(files: TlsFiles, certificate: "x509.Certificate", content: bytes) -> None:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    where = f"{files.key_variable}: {files.key}"
    try:
        key = load_pem_private_key(content, None)
    except TypeError:
        raise SettingsError(f"{where}: is encrypted; give a key without a password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise SettingsError(f"{where}: holds no private key in PEM, or a damaged one") from None
    if key.public_key() != certificate.public_key():
        raise SettingsError(f"{where}: is not the key of the certificate in {files.cert}")


def _names(certificate: "x509.Certificate") -> tuple[str, ...]:
    from cryptography import x509  # noqa: PLC0415 - as above

    try:
        said = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return (
        *said.get_values_for_type(x509.UniformResourceIdentifier),
        *said.get_values_for_type(x509.DNSName),
    )


def _when(time_of_day: dt.datetime) -> str:
    return f"{time_of_day:%Y-%m-%d %H:%M:%S} UTC"
