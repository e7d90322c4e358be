"""What cert-manager and kubelet make of manifests: Secrets of certificates, in volumes of pods.

Certificates are made with the fields that the manifests have, and no others.
"""

import datetime as dt
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_CURVES: Final = {256: ec.SECP256R1, 384: ec.SECP384R1}
_EXTENDED: Final = {
    "server auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "client auth": ExtendedKeyUsageOID.CLIENT_AUTH,
}
_BASIC: Final = {
    "digital signature": "digital_signature",
    "cert sign": "key_cert_sign",
    "crl sign": "crl_sign",
}


@dataclass
class _Kept:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    authority: x509.Certificate

    @property
    def secret(self) -> dict[str, bytes]:
        return {
            "tls.crt": _pem(self.certificate),
            "tls.key": self.key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            "ca.crt": _pem(self.authority),
        }


class CertManager:
    """Makes the Secrets of the Certificates of some manifests.

    Args:
        manifests: Issuers and Certificates; others are left alone.

    """

    def __init__(self, manifests: Iterable[Mapping[str, Any]]) -> None:
        manifests = list(manifests)
        self._issuers = {
            each["metadata"]["name"]: each["spec"] for each in manifests if each["kind"] == "Issuer"
        }
        self._wanted = {
            each["spec"]["secretName"]: each["spec"] for each in manifests if each["kind"] == "Certificate"
        }
        self._kept: dict[str, _Kept] = {}

    def secret(self, name: str) -> dict[str, bytes]:
        """Return what is in a Secret, by the names of its keys."""
        return self._keep(name).secret

    def renew(self, name: str) -> dict[str, bytes]:
        """Make a certificate anew, with another key where its manifest says so; return its Secret."""
        kept = self._keep(name)
        always = self._wanted[name]["privateKey"]["rotationPolicy"] == "Always"
        self._kept[name] = self._made(name, None if always else kept.key)
        return self.secret(name)

    def _keep(self, name: str) -> _Kept:
        if name not in self._kept:
            self._kept[name] = self._made(name, None)
        return self._kept[name]

    def _made(self, name: str, key: ec.EllipticCurvePrivateKey | None) -> _Kept:
        spec = self._wanted[name]
        issuer = self._issuers[spec["issuerRef"]["name"]]
        key = key or _key(spec["privateKey"])
        if "ca" not in issuer:
            certificate = _certificate(spec, key, _subject(spec), key)
            return _Kept(key, certificate, certificate)
        authority = self._keep(issuer["ca"]["secretName"])
        certificate = _certificate(spec, key, authority.certificate.subject, authority.key)
        return _Kept(key, certificate, authority.certificate)


def _key(wanted: Mapping[str, Any]) -> ec.EllipticCurvePrivateKey:
    assert (wanted["algorithm"], wanted["encoding"]) == ("ECDSA", "PKCS8"), wanted
    return ec.generate_private_key(_CURVES[wanted["size"]]())


def _subject(spec: Mapping[str, Any]) -> x509.Name:
    name = spec.get("commonName")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])


def _certificate(
    spec: Mapping[str, Any],
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    signed_by: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_subject(spec))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + hours(spec["duration"]))
        .add_extension(x509.BasicConstraints(ca=spec.get("isCA", False), path_length=None), critical=True)
        .add_extension(_usage(spec["usages"]), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signed_by.public_key()), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    extended = [_EXTENDED[each] for each in spec["usages"] if each in _EXTENDED]
    if extended:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    names: list[x509.GeneralName] = [x509.DNSName(each) for each in spec.get("dnsNames", ())]
    names += [x509.UniformResourceIdentifier(each) for each in spec.get("uris", ())]
    if names:
        # What has no subject must be known by these.
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical="commonName" not in spec)
    return builder.sign(signed_by, hashes.SHA256())


def _usage(usages: Iterable[str]) -> x509.KeyUsage:
    asked = {_BASIC[each] for each in usages if each in _BASIC}
    kinds = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
    )
    return x509.KeyUsage(
        **{
            kind: kind in asked
            for kind in (*kinds, "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
        }
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def hours(duration: str) -> dt.timedelta:
    """Return a duration as manifests have it, in whole hours."""
    return dt.timedelta(hours=int(duration.removesuffix("h")))


class SecretVolume:
    """A folder with files of a Secret, as kubelet keeps it: links to a folder that is exchanged as a whole.

        tls.crt ──> ..data/tls.crt      ..data ──> ..1      then      ..data ──> ..2

    See https://pkg.go.dev/k8s.io/kubernetes/pkg/volume/util#AtomicWriter.
    """

    def __init__(self, path: Path, files: Mapping[str, bytes]) -> None:
        self.path = path
        self._number = 0
        path.mkdir(parents=True)
        self.write(files)

    def write(self, files: Mapping[str, bytes]) -> None:
        """Put other files in the place of those that there are, all at once."""
        old = self._folder
        self._number += 1
        self._folder.mkdir(mode=0o755)
        for name, content in files.items():
            with os.fdopen(os.open(self._folder / name, os.O_WRONLY | os.O_CREAT, 0o400), "wb") as file:
                file.write(content)
        link = self.path / "..data_tmp"
        link.symlink_to(self._folder.name)
        link.rename(self.path / "..data")
        for name in files:
            if not (self.path / name).is_symlink():
                (self.path / name).symlink_to(f"..data/{name}")
        if old.is_dir():
            shutil.rmtree(old)

    @property
    def _folder(self) -> Path:
        return self.path / f"..{self._number}"


@dataclass(frozen=True)
class Mount:
    """Where a container finds a Secret."""

    secret: str
    path: str


def mounts_of(deployment: Mapping[str, Any]) -> Iterator[Mount]:
    """Yield the Secrets that the first container of a deployment, or of a patch of one, has as folders."""
    pod = deployment["spec"]["template"]["spec"]
    secrets = {each["name"]: each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each}
    for each in pod["containers"][0]["volumeMounts"]:
        assert "subPath" not in each, "kubelet never changes what is mounted by subPath"
        if each["name"] in secrets:
            yield Mount(secrets[each["name"]], each["mountPath"])


def settings_in(file: Path) -> dict[str, str]:
    """Return the variables of a file for a ConfigMap."""
    lines = (line for line in file.read_text().splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def documents(file: Path) -> list[dict[str, Any]]:
    """Return the manifests of a file."""
    return list(yaml.safe_load_all(file.read_text()))
