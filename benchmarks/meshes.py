"""A mesh to measure: started as a person would start it, and loaded with `voicemesh bench`."""

import contextlib
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

SIMULATED = json.dumps(
    [
        {
            "name": "simulated",
            "engine": "simulated",
            "replicas": 1,
            "options": {"first_frame_ms": 50, "rtf": 0.05, "slots": 64},
        }
    ]
)
"""`VOICEMESH_TTS_VOICES`: one voice like a neural model with capacity to spare: 50 ms to its first frame."""

TURN_TIMEOUT_S = 600


@dataclass(frozen=True)
class RunningMesh:
    """A mesh that is ready."""

    address: str
    """Of the gateway."""
    addresses: dict[str, str]
    """By service."""
    pids: dict[str, int]
    """Process id by service."""
    took_s: float
    """From the command to `voicemesh ready`."""
    metrics: dict[str, str]
    """Where each service is scraped; empty where none is."""
    certificates: str = ""
    """The folder of its certificates; "" where it speaks plain text."""

    def bench(self, *arguments: str) -> dict[str, Any]:
        """Run `voicemesh bench --json` with `arguments`; return what it prints."""
        command = [
            sys.executable,
            "-m",
            "voicemesh.cli",
            "bench",
            "--json",
            "--addr",
            self.address,
            *arguments,
        ]
        done = subprocess.run(command, capture_output=True, check=True, timeout=TURN_TIMEOUT_S)
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def processes(self) -> dict[str, list[psutil.Process]]:
        """Return each service's process and, behind it, its workers."""
        return {
            name: [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
            for name, pid in self.pids.items()
        }


def running_mesh(**environment: str) -> contextlib.AbstractContextManager[RunningMesh]:
    """Run `voicemesh up` on free ports, without metrics, with these variables on top of the environment."""
    return _running(["--metrics-port", "0"], environment)


def scraped_mesh(**environment: str) -> contextlib.AbstractContextManager[RunningMesh]:
    """Do the same with metrics."""
    return _running([], environment)


def tls_mesh(**environment: str) -> contextlib.AbstractContextManager[RunningMesh]:
    """Do as `running_mesh`, with mutual TLS."""
    return _running(["--metrics-port", "0", "--tls"], environment)


@contextlib.contextmanager
def _running(options: Sequence[str], environment: Mapping[str, str]) -> Iterator[RunningMesh]:
    command = [sys.executable, "-m", "voicemesh.cli", "up", "--free-ports", "--json", *options]
    # What the mesh does under load is measured, not whom it refuses; `benchmarks.overload` sets its own.
    env = {"VOICEMESH_GATEWAY_MIN_TURNS": "256", **os.environ, **environment}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env) as up:
        assert up.stdout is not None
        try:
            ready = json.loads(up.stdout.readline())
            addresses = ready["addresses"]
            yield RunningMesh(
                addresses["gateway"],
                addresses,
                ready["pids"],
                ready["took_s"],
                ready["metrics"],
                ready.get("certificates", ""),
            )
        finally:
            up.send_signal(signal.SIGTERM)
            up.wait()


@contextlib.contextmanager
def prompts(lines: Sequence[str]) -> Iterator[str]:
    """Write prompts to a file for `--prompts`."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "prompts.txt"
        path.write_text("\n".join(lines), encoding="utf-8")
        yield str(path)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile, linear between the closest ranks."""
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=1000, method="inclusive")[round(percent * 10) - 1]


def row(name: str, values: Sequence[float]) -> str:
    """Return a line of a table: p50, p95 and p99 in milliseconds."""
    cells = "  ".join(f"{percentile(values, percent):8.2f}" for percent in (50, 95, 99))
    return f"{name:<34} {cells}"


HEADER = f"{'':<34} {'p50 ms':>8}  {'p95 ms':>8}  {'p99 ms':>8}"
