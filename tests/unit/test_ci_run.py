"""`.ci/run` leaves no process behind, whatever its tests and tools do."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import uuid

import psutil
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = ["chromium", "prometheus", "promtool", "redis-cli", "redis-server"]
SLEEPER = f"{sys.executable} -c 'import time; time.sleep(600)'"

pytestmark = pytest.mark.skipif(not pathlib.Path("/proc/self/environ").exists(), reason="needs /proc")


def run(folder: pathlib.Path, tests: str, *, machine: str = "exit 0") -> subprocess.CompletedProcess[str]:
    """Run `.ci/run` as it is, in a checkout whose `make test` is the shell command `tests`.

    `machine` is what stands for the script that installs what the machine lacks.
    """
    (folder / ".ci").mkdir()
    (folder / "tools").mkdir()
    (folder / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", folder / ".ci" / "run")
    shutil.copy(ROOT / "tools" / "check_left.py", folder / "tools")
    programs = {
        ".venv/bin/python": "echo grpcio==1",
        "tools/ci_machine.sh": machine,
        "bin/npm": "echo 1",
        "bin/make": f'case "$1" in test) {tests} ;; *) echo "make $1" ;; esac',
    }
    for name, text in programs.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    return subprocess.run(
        [folder / ".ci" / "run"],
        env={**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_run_that_leaves_nothing_passes(tmp_path: pathlib.Path) -> None:
    done = run(tmp_path, "echo tested")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-2:] == ["tested", "make test-coqui"]


def test_programs_that_could_be_installed_are_required(tmp_path: pathlib.Path) -> None:
    done = run(tmp_path, 'echo "required: $REQUIRED_PROGRAMS"')
    assert "required: chromium prometheus promtool redis-cli redis-server" in done.stdout


def test_programs_that_are_not_to_be_had_are_not_required(tmp_path: pathlib.Path) -> None:
    done = run(tmp_path, 'echo "required: $REQUIRED_PROGRAMS"', machine="echo chromium; echo promtool")
    assert "required: prometheus redis-cli redis-server\n" in done.stdout
    all_missing = "; ".join(f"echo {name}" for name in PROGRAMS)
    (tmp_path / "bare").mkdir()
    done = run(tmp_path / "bare", 'echo "required: $REQUIRED_PROGRAMS"', machine=all_missing)
    assert (done.returncode, "required: \n" in done.stdout) == (0, True)


def test_a_machine_on_which_nothing_can_be_installed_says_what_is_left_out(tmp_path: pathlib.Path) -> None:
    # Of the machine's programs there are those that the script itself needs, and no apt-get.
    for name in ("bash", "env", "id", "paste", "sort"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    done = subprocess.run(
        [ROOT / "tools" / "ci_machine.sh"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == PROGRAMS
    assert "are left out: install chromium prometheus redis-server." in done.stderr


@pytest.mark.parametrize(("works", "status"), [("install", 0), ("update", 1), ("nothing", 1)])
def test_what_root_cannot_install_fails_the_run(tmp_path: pathlib.Path, works: str, status: int) -> None:
    for name in ("bash", "env", "paste", "sort", "chmod", "rm"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    policy = tmp_path / "policy-rc.d"
    programs = {
        "id": "echo 0",
        # Nothing is started: as long as it installs, the machine's policy forbids that.
        "apt-get": f"""case "$*" in *" {works}"*) [ -x {policy} ] && echo "$*" ;; *) exit 100 ;; esac""",
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!{shutil.which('bash')}\n{text}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        [ROOT / "tools" / "ci_machine.sh"],
        env={"PATH": str(tmp_path), "POLICY_RC_D": str(policy)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (status, "")
    assert not policy.exists()
    if status:
        assert "chromium prometheus redis-server could not be installed" in done.stderr
    else:
        # Without a network for `update`, too, where the packages are known.
        assert "apt-get update failed" in done.stderr
        assert "install --yes --no-install-recommends chromium prometheus redis-server" in done.stderr


def test_a_failure_is_passed_on(tmp_path: pathlib.Path) -> None:
    assert run(tmp_path, "exit 2").returncode == 2


def test_what_is_left_is_named_and_ended_and_fails_the_run(tmp_path: pathlib.Path) -> None:
    mark = uuid.uuid4().hex
    # In a session of its own, and of a parent that is gone: nobody's child any more.
    done = run(tmp_path, f"(setsid {SLEEPER} {mark} </dev/null >/dev/null 2>&1 &)")
    assert done.returncode == 1
    assert "left behind: " in done.stderr
    assert mark in done.stderr
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(done.stderr.split("left behind: ")[1].split()[0])).wait(timeout=30)
