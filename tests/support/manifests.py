"""What the manifests say about a pod: its settings, its probes, and whether its address is told early."""

import pathlib
from dataclasses import dataclass
from typing import Any, Final

import yaml

BASE: Final = pathlib.Path(__file__).resolve().parents[2] / "k8s" / "base"
_VOICES: Final = "VOICEMESH_TTS_VOICES_FILE"


@dataclass(frozen=True)
class Manifest:
    """One service as `k8s/base` has it.

    Attributes:
        settings: What its ConfigMap sets, beside where it listens and where the others are.
        port: Of its gRPC.
        probe_s: How often it is asked whether it is ready.
        probed: The name that it is asked about.
        early: Whether its address is told before it is ready.

    """

    settings: dict[str, str]
    port: int
    probe_s: float
    probed: str
    early: bool


def manifest_of(service: str) -> Manifest:
    """Read the manifests of a service."""
    folder = BASE / service
    settings = dict(
        line.split("=", 1)
        for line in (folder / "settings.env").read_text().splitlines()
        if line and not line.startswith("#")
    )
    (deployment,) = _documents(folder / "deployment.yaml")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    headless = next(
        each for each in _documents(folder / "service.yaml") if each["metadata"]["name"] == service
    )
    probe = container["readinessProbe"]
    if _VOICES in settings:  # a volume there
        settings[_VOICES] = str(folder / pathlib.Path(settings[_VOICES]).name)
    return Manifest(
        {
            variable: value
            for variable, value in settings.items()
            if not variable.endswith(("_LISTEN", "_ADDR"))
        },
        next(each["port"] for each in headless["spec"]["ports"] if each["name"] == "grpc"),
        float(probe["periodSeconds"]),
        probe["grpc"].get("service", ""),
        bool(headless["spec"].get("publishNotReadyAddresses")),
    )


def _documents(path: pathlib.Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))
