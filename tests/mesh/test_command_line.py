"""`voicemesh up` and `demo` with the real processes: ready, drain, and every way to fail."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import psutil
import pytest

ROOT = Path(__file__).parents[2]
CLI = (sys.executable, "-m", "voicemesh.cli")
GUARD_S = 90.0
NAMES = {"gateway", "llm", "chunker", "tts", "cache"}


def environment(**more: str) -> dict[str, str]:
    own = {
        name: value for name, value in os.environ.items() if not name.startswith(("VOICEMESH_", "OPENAI_"))
    }
    return {**own, "PYTHONPATH": str(ROOT), **more}


def free_ports() -> dict[str, str]:
    """Listen addresses for every process, by variable."""
    probes = {name: socket.socket() for name in (*NAMES, "http")}
    try:
        for probe in probes.values():
            probe.bind(("127.0.0.1", 0))
        return {
            f"VOICEMESH_{name.upper()}_LISTEN": f"127.0.0.1:{probe.getsockname()[1]}"
            for name, probe in probes.items()
        }
    finally:
        for probe in probes.values():
            probe.close()


def gone(processes: list[psutil.Process]) -> bool:
    """Wait until all of `processes` have ended; an orphan that nobody has reaped has ended."""
    give_up_s = time.monotonic() + GUARD_S
    for process in processes:
        while time.monotonic() < give_up_s:
            try:
                if process.status() == psutil.STATUS_ZOMBIE:
                    break
                process.wait(timeout=0.05)
            except psutil.TimeoutExpired:
                continue
            except psutil.NoSuchProcess:
                pass
            break
        else:
            return False
    return True


class Up:
    """A `voicemesh up` that runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.ready: dict[str, Any] = {}
        self.family: list[psutil.Process] = []

    def wait_ready(self) -> None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.stderr()
        self.ready = json.loads(line)
        self.family = psutil.Process(self.process.pid).children(recursive=True)

    def news(self) -> dict[str, Any]:
        """Wait for the next line of a program's output."""
        assert self.process.stdout is not None
        line: dict[str, Any] = json.loads(self.process.stdout.readline())
        return line

    def end(self) -> int:
        return self.process.wait(timeout=GUARD_S)

    def stderr(self) -> str:
        stream: IO[str] | None = self.process.stderr
        assert stream is not None
        return stream.read()


@contextmanager
def start(*arguments: str, **env: str) -> Iterator[Up]:
    process = subprocess.Popen(
        [*CLI, "up", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**env),
    )
    with process:
        up = Up(process)
        try:
            yield up
        finally:
            if process.poll() is None:
                up.family = up.family or psutil.Process(process.pid).children(recursive=True)
                process.kill()
            assert gone(up.family)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_is_ready_answers_and_drains(number, tmp_path):
    with start("--free-ports", "--json") as up:
        up.wait_ready()
        assert set(up.ready["pids"]) == NAMES
        asked = subprocess.run(
            [*CLI, "ask", "Why is the sky blue?", "--json", "--addr", up.ready["addresses"]["gateway"]],
            capture_output=True,
            check=True,
            env=environment(),
            timeout=GUARD_S,
        )
        assert json.loads(asked.stdout)["audio_ms"] > 0
        up.process.send_signal(number)
        assert up.end() == 0
        assert up.stderr() == ""
        assert gone(up.family)


def test_up_for_people_says_where_everything_is_and_then_that_it_is_ready():
    ports = free_ports()
    with start(**ports) as up:
        assert up.process.stdout is not None
        lines = []
        for line in up.process.stdout:
            lines.append(line.rstrip("\n"))
            if lines[-1] == "voicemesh ready":
                break
        up.process.send_signal(signal.SIGINT)
        assert up.end() == 0
        assert all(any(address in line for line in lines) for address in ports.values())
        gateway, tts = ports["VOICEMESH_GATEWAY_LISTEN"], ports["VOICEMESH_TTS_LISTEN"]
        cache = ports["VOICEMESH_CACHE_LISTEN"]
        exports = f"VOICEMESH_ADDR={gateway} VOICEMESH_TTS_ADDR={tts} VOICEMESH_CACHE_ADDR={cache}"
        assert f"for all commands: export {exports}" in lines
        assert {line.split()[0] for line in lines if "serving after" in line} == NAMES


def test_a_port_in_use_ends_with_3_and_names_it():
    ports = free_ports()
    host, _, port = ports["VOICEMESH_TTS_LISTEN"].rpartition(":")
    with socket.create_server((host, int(port))), start(**ports) as up:
        assert up.end() == 3
        stderr = up.stderr()
        assert "error: PORT_IN_USE" in stderr
        assert f"{ports['VOICEMESH_TTS_LISTEN']} (tts)" in stderr
        assert "--free-ports" in stderr


def test_a_wrong_setting_ends_with_2_and_names_it():
    with start("--free-ports", VOICEMESH_LOG_LEVEL="loud") as up:
        assert up.end() == 2
        stderr = up.stderr()
        assert "error: WRONG_SETTINGS" in stderr
        assert "VOICEMESH_LOG_LEVEL" in stderr


def test_a_process_that_dies_ends_the_mesh_with_1_where_it_is_not_to_be_started_again():
    with start("--free-ports", "--json", "--restarts", "0") as up:
        up.wait_ready()
        os.kill(up.ready["pids"]["tts"], signal.SIGKILL)
        assert up.end() == 1
        assert "error: PROCESS_ENDED: tts was killed by SIGKILL" in up.stderr()
        assert gone(up.family)


def test_processes_that_die_or_hang_are_started_again_and_it_says_so():
    """One of each of two replicas; the mesh answers before, and after."""
    with start("--free-ports", "--json", "--replicas", "2", "--hung-after", "2") as up:
        up.wait_ready()
        names = NAMES | {f"{name}-2" for name in NAMES - {"cache"}}
        assert set(up.ready["pids"]) == names
        os.kill(up.ready["pids"]["tts"], signal.SIGKILL)
        os.kill(up.ready["pids"]["gateway-2"], signal.SIGSTOP)
        back = [up.news() for _ in range(2)]
        assert {news["back"] for news in back} == {"tts", "gateway-2"}
        assert not {news["pid"] for news in back} & set(up.ready["pids"].values())
        up.family = psutil.Process(up.process.pid).children(recursive=True)
        asked = subprocess.run(
            [*CLI, "ask", "Who is back?", "--json", "--addr", up.ready["addresses"]["gateway-2"]],
            capture_output=True,
            check=True,
            env=environment(),
            timeout=GUARD_S,
        )
        assert json.loads(asked.stdout)["audio_ms"] > 0
        up.process.send_signal(signal.SIGTERM)
        assert up.end() == 0
        said = up.stderr()
        assert "tts was killed by SIGKILL: starting it again in" in said
        assert "gateway-2 did not answer for 2 s and was killed: starting it again in" in said
        assert "tts serves again after" in said
        assert gone(up.family)


def test_when_the_supervisor_is_killed_nothing_stays():
    with start("--free-ports", "--json") as up:
        up.wait_ready()
        assert len(up.family) >= len(NAMES)
        up.process.kill()
        up.end()
        assert gone(up.family)


def test_demo_speaks_and_stops(tmp_path):
    out = tmp_path / "demo.wav"
    done = subprocess.run(
        [*CLI, "demo", "Why is the sky blue?", "--out", str(out)],
        capture_output=True,
        check=False,
        text=True,
        # A machine that is busy gives the cache up, and says so.
        env=environment(VOICEMESH_GATEWAY_CACHE_TIMEOUT_MS="10000"),
        timeout=GUARD_S,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for text in ("sky", "llm_ttft", "tts_synthesis", "unattributed", str(out)):
        assert text in done.stdout
    with wave.open(str(out)) as file:
        assert file.getnframes() > file.getframerate()


def test_demo_with_a_provider_that_is_not_there_says_so_and_does_not_wait_for_it(tmp_path):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        server = f"127.0.0.1:{nobody.getsockname()[1]}"
        done = subprocess.run(
            [*CLI, "demo", "--out", str(tmp_path / "demo.wav")],
            capture_output=True,
            check=False,
            text=True,
            env=environment(OPENAI_BASE_URL=f"http://{server}/v1"),
            timeout=GUARD_S,
        )
    assert done.returncode == 1
    # It is waited for after it has complained, but not for the 20 s that a start may take.
    assert "waiting for" in done.stdout
    assert f"cannot be reached: it takes no connection, or has no such name  server={server}" in done.stderr
    assert "NOT_READY" in done.stderr
    assert "not ready after 20 s" not in done.stderr


def test_chunk_hands_over_to_the_chunker():
    cut = subprocess.run(
        [*CLI, "chunk", "--json", "One sentence here. And another one."],
        capture_output=True,
        check=True,
        text=True,
        env=environment(),
        timeout=GUARD_S,
    )
    assert "One sentence here." in cut.stdout
    wrong = subprocess.run([*CLI, "chunk", "--nonsense"], capture_output=True, check=False, env=environment())
    assert wrong.returncode == 2
