"""What gRPC's core is told by the processes of the mesh, asked of processes."""

import os
import subprocess
import sys

import pytest

from voicemesh import grpc_variables

_TELL = (
    "import os, sys; import {package}; early = 'grpc' not in sys.modules; "
    "import grpc; grpc.insecure_channel('127.0.0.1:1').close(); "
    "print(early, os.environ.get('GRPC_EXPERIMENTS'))"
)


def _told(package: str, **environment: str) -> tuple[str, str]:
    """Return what a process that imports a package tells of itself, and what gRPC's core wrote."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
    done = subprocess.run(
        [sys.executable, "-c", _TELL.format(package=package)],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip(), done.stderr


@pytest.mark.parametrize("package", ["gateway", "services.chunker", "voicemesh.cli"])
def test_every_process_chooses_ahead_of_grpc_and_the_core_knows_the_names(package: str) -> None:
    assert _told(package) == (f"True {grpc_variables.POLLED}", "")


def test_a_choice_of_the_users_own_stays() -> None:
    told, _ = _told("gateway", GRPC_EXPERIMENTS="-event_engine_client")

    assert told == "True -event_engine_client"


def test_the_core_would_tell_of_a_name_that_it_does_not_know() -> None:
    _, written = _told("gateway", GRPC_EXPERIMENTS="-no_such_way")

    assert "no_such_way" in written


def test_a_program_that_uses_the_client_is_left_alone() -> None:
    told, written = _told("voicemesh.client")

    assert (told.split()[-1], written) == ("None", "")


@pytest.mark.parametrize(
    ("version", "chosen"), [("1.85.1", grpc_variables.POLLED), ("1.86.0", None), ("2.0.0rc1", None)]
)
def test_a_release_that_may_not_have_it_is_asked_for_nothing(
    version: str, chosen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(grpc_variables.EXPERIMENTS, raising=False)
    monkeypatch.setattr("importlib.metadata.version", lambda _name: version)

    grpc_variables.read_sockets_where_waited()

    assert os.environ.get(grpc_variables.EXPERIMENTS) == chosen
