"""Writes what `voicemesh capacity` knows of the manifests: what pods ask for, and what KEDA scales by.

.venv/bin/python tools/gen_capacity_pods.py [--check]

The wheel has no manifests, so a plan reads a copy of these figures; `--check` compares it with k8s/.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any, Final

import yaml
from k8s.objects import quantity

from voicemesh.capacity.profile import SERVICES

ROOT: Final = Path(__file__).resolve().parent.parent
COPY: Final = ROOT / "voicemesh" / "capacity" / "manifests.json"
_OTHERS: Final = {"tts, Coqui": "coqui", "tts, GPU": "gpu"}
"""Components that change what the TTS service's pods ask for."""
_SPARE: Final = re.compile(r"\+ (\d+(?:\.\d+)?)$")
_MIB: Final = 2**20


def pods() -> dict[str, dict[str, float]]:
    """Return what a pod of each service asks for."""
    found = {name: _asked(ROOT / f"k8s/base/{name}/deployment.yaml") for name in SERVICES}
    for name, component in _OTHERS.items():
        found[name] = found["tts"] | _asked(ROOT / f"k8s/components/{component}/tts.yaml")
    return found


def _asked(path: Path) -> dict[str, float]:
    (deployment,) = (
        document
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
        if document["kind"] == "Deployment"
    )
    containers = deployment["spec"]["template"]["spec"]["containers"]
    resources = [container["resources"] for container in containers if "resources" in container]
    return {
        "cpu": sum(quantity(each["requests"]["cpu"]) for each in resources),
        "cpu_limit": sum(quantity(each["limits"]["cpu"]) for each in resources),
        "memory_mib": sum(quantity(each["requests"]["memory"]) for each in resources) / _MIB,
        "memory_limit_mib": sum(quantity(each["limits"]["memory"]) for each in resources) / _MIB,
    }


def thresholds() -> dict[str, dict[str, float]]:
    """Return by what KEDA scales each service: the first trigger, which is what its pods are asked for."""
    found = {}
    for name in SERVICES:
        text = (ROOT / f"k8s/components/keda/{name}.yaml").read_text(encoding="utf-8")
        spec: dict[str, Any] = yaml.safe_load(text)["spec"]
        metadata = spec["triggers"][0]["metadata"]
        spare = _SPARE.search(metadata["query"])
        found[name] = {
            "threshold": float(metadata["threshold"]),
            "spare": float(spare[1]) if spare else 0.0,
            "least": spec["minReplicaCount"],
            "most": spec["maxReplicaCount"],
        }
    return found


def made() -> str:
    """Return what the copy says."""
    return json.dumps({"pods": pods(), "keda": thresholds()}, indent=2) + "\n"


def main() -> None:
    """Write the copy, or compare it."""
    if "--check" not in sys.argv[1:]:
        COPY.write_text(made(), encoding="utf-8")
    elif COPY.read_text(encoding="utf-8") != made():
        sys.exit(f"{COPY}: is not what k8s/ says; run `make docs-capacity`")


if __name__ == "__main__":
    main()
