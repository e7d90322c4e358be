"""What a bench ran on: figures of two machines, or of one that was busy, are no figures of the mesh."""

import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

_PACKAGES: Final = ("voicemesh", "grpcio", "protobuf")


def versions() -> dict[str, str]:
    """Return what the run was made with."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def machine() -> dict[str, Any]:
    """Return the machine that the tool runs on; `load_1m` is how many processes wanted a CPU just before."""
    try:
        load = round(os.getloadavg()[0], 2)
    except OSError:
        load = None
    return {"cpu": _cpu(), "cpus": os.cpu_count() or 0, "load_1m": load}


def busy(found: Mapping[str, Any]) -> str:
    """Say that a machine had other work before the run; "" where it had not, or nobody knows."""
    load, cpus = found.get("load_1m"), found.get("cpus")
    if not load or not cpus or load <= cpus / 2:
        return ""
    wanted = f"{load:g} processes wanted its {cpus} CPUs"
    return f"the machine was busy before the run ({wanted}): times are of that too"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
