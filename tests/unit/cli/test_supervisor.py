"""The supervisor with tiny children: all of them serve, or none is left."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import psutil
import pytest

from tests.contract.fake_gateway import until
from voicemesh.cli.child import ChildSpec
from voicemesh.cli.exits import FAILED, UNREACHABLE, USAGE, Failure
from voicemesh.cli.logs import LogLine
from voicemesh.cli.restarts import Answer, RestartPolicy
from voicemesh.cli.supervisor import Back, Died, Supervisor

GUARD_S = 30.0
SERVES = "print('serving', flush=True); "
UNTIL_TERM = (
    "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit(0))); "
)
SLEEPS = "signal.pause()"
POLITE = UNTIL_TERM + SERVES + SLEEPS
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SERVES + SLEEPS
WITH_STDIN = SERVES + "import sys; sys.stdin.read()"


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; an orphan that nobody has reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Mesh:
    """A supervisor whose children serve when they have said so."""

    def __init__(self, tmp_path: Path, grace_s: float, programs: dict[str, str]) -> None:
        self.lines: list[LogLine] = []
        self.shows = False
        self._said = {name: asyncio.Event() for name in programs}
        specs = [
            ChildSpec(
                name=name,
                argv=(sys.executable, "-c", code),
                env=os.environ,
                cwd=tmp_path,
                address=name,
                front=name == "gateway",
            )
            for name, code in programs.items()
        ]
        self.supervisor = Supervisor(specs, self._line, grace_s=grace_s, health=self._health)
        self.serving: list[str] = []
        self.hung: set[str] = set()
        self.news: list[Died | Back] = []

    def _line(self, line: LogLine) -> bool:
        self.lines.append(line)
        if line.text == "serving":
            self._said[line.service].set()
        return self.shows

    def _health(self, address: str) -> "Said":
        return Said(self, address)

    async def wait_said(self, name: str) -> None:
        await self._said[name].wait()

    def answer(self, name: str) -> Answer:
        if name in self.hung:
            return Answer.SILENT
        return Answer.SERVING if self._said[name].is_set() else Answer.CLOSED

    def tell(self, news: Died | Back) -> None:
        """Note what became of a child; the next one has said nothing yet."""
        self.news.append(news)
        if isinstance(news, Died):
            self._said[news.name].clear()
            self.hung.discard(news.name)

    @asynccontextmanager
    async def kept(self, **policy: Any) -> AsyncIterator["asyncio.Task[None]"]:
        """Keep the children while the block runs, checking and starting again at once."""
        quick = RestartPolicy(**{"first_s": 0.0, "check_s": 0.01, "hung_after_s": 0.05, **policy})
        keeping = asyncio.create_task(self.supervisor.keep(quick, self.tell))
        yield keeping
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)

    async def ready(self, timeout_s: float = GUARD_S) -> None:
        await self.supervisor.start()
        await self.supervisor.ready(timeout_s, lambda child: self.serving.append(child.spec.name))

    def said(self, text: str) -> list[str]:
        return [line.service for line in self.lines if line.text == text]


class Said:
    """Tells of a child whether it serves, by what it printed."""

    def __init__(self, mesh: Mesh, name: str) -> None:
        self._mesh = mesh
        self._name = name

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def wait_serving(self) -> None:
        await self._mesh.wait_said(self._name)

    async def answer(self, timeout_s: float) -> Answer:
        return self._mesh.answer(self._name)


@pytest.fixture
def mesh_of(tmp_path):
    @asynccontextmanager
    async def make(*, grace_s: float = GUARD_S, **programs: str) -> AsyncIterator[Mesh]:
        mesh = Mesh(tmp_path, grace_s, programs)
        try:
            async with asyncio.timeout(GUARD_S):
                yield mesh
        finally:
            hurry = asyncio.Event()
            hurry.set()
            await mesh.supervisor.stop(hurry)
            assert not any(psutil.pid_exists(child.pid) for child in mesh.supervisor.children)

    return make


async def test_all_serve_and_all_stop_the_last_one_first(mesh_of):
    async with mesh_of(one=POLITE, two=POLITE, gateway=POLITE) as mesh:
        await mesh.ready()
        assert sorted(mesh.serving) == ["gateway", "one", "two"]
        assert await mesh.supervisor.stop() == []
        assert mesh.said("bye")[0] == "gateway"
        assert sorted(mesh.said("bye")) == ["gateway", "one", "two"]
        assert [child.status for child in mesh.supervisor.children] == [0, 0, 0]


@pytest.mark.parametrize(
    ("status", "expected", "reason"),
    [
        (1, FAILED, "PROCESS_ENDED"),
        (0, FAILED, "PROCESS_ENDED"),
        (2, USAGE, "WRONG_SETTINGS"),
        (3, UNREACHABLE, "PORT_IN_USE"),
    ],
)
async def test_a_child_that_ends_at_start_says_why(mesh_of, status, expected, reason):
    dies = f"import sys; print('because of this', file=sys.stderr); sys.exit({status})"
    async with mesh_of(tts=dies, gateway=POLITE) as mesh:
        with pytest.raises(Failure) as caught:
            await mesh.ready()
        assert (caught.value.status, caught.value.reason) == (expected, reason)
        assert f"tts ended with exit status {status}" in caught.value.message
        assert "tts | because of this" in caught.value.message


async def test_what_people_have_seen_is_not_said_again(mesh_of):
    dies = "import sys; print('because of this', file=sys.stderr); sys.exit(2)"
    async with mesh_of(tts=dies, gateway=POLITE) as mesh:
        mesh.shows = True
        with pytest.raises(Failure) as caught:
            await mesh.ready()
    assert caught.value.message == "tts ended with exit status 2, for the reason above"


async def test_a_child_that_is_killed_later_is_named(mesh_of):
    async with mesh_of(tts=POLITE, gateway=POLITE) as mesh:
        await mesh.ready()
        ended = asyncio.create_task(mesh.supervisor.ended())
        mesh.supervisor.children[0].send(signal.SIGKILL)
        failure = mesh.supervisor.failure(await ended)
        assert failure.message.startswith("tts was killed by SIGKILL")
        assert failure.status == FAILED


async def test_a_child_that_never_serves_is_named(mesh_of):
    silent = UNTIL_TERM + "print('still loading', flush=True); " + SLEEPS
    async with mesh_of(tts=silent, gateway=POLITE) as mesh:
        with pytest.raises(Failure, match=r"not ready after 1 s: tts\b") as caught:
            await mesh.ready(timeout_s=1.0)
        assert caught.value.status == FAILED


async def test_a_child_that_complains_is_waited_for_no_longer_than_is_said(mesh_of):
    complains = UNTIL_TERM + "print('odd\\nlistening\\nno provider', flush=True); " + SLEEPS
    async with mesh_of(llm=complains, gateway=UNTIL_TERM + SLEEPS) as mesh:
        await mesh.supervisor.start()
        with pytest.raises(Failure, match=r"llm, gateway\n  llm \| odd\n") as caught:
            await mesh.supervisor.ready(GUARD_S * 2, lambda _: None, complaint_s=0.1)
        assert "gateway |" not in caught.value.message


async def test_a_complaint_that_comes_while_the_others_start_counts(mesh_of):
    complains = UNTIL_TERM + "print('odd\\nlistening\\nno provider', flush=True); " + SLEEPS
    async with mesh_of(llm=complains, gateway=UNTIL_TERM + SLEEPS) as mesh:
        await mesh.supervisor.start()
        await until(lambda: bool(mesh.said("no provider")))
        with pytest.raises(Failure, match=r"llm, gateway\n  llm \| odd\n"):
            await mesh.supervisor.ready(GUARD_S * 2, lambda _: None, complaint_s=0.1)


async def test_what_a_child_says_before_it_listens_is_no_complaint(mesh_of):
    late = UNTIL_TERM + "import time; print('odd', flush=True); time.sleep(0.5); " + SERVES + SLEEPS
    async with mesh_of(llm=late, gateway=POLITE) as mesh:
        await mesh.supervisor.start()
        await mesh.supervisor.ready(GUARD_S, lambda _: None, complaint_s=0.01)


async def test_a_child_that_does_not_stop_is_killed_after_the_grace(mesh_of):
    async with mesh_of(grace_s=0.2, tts=STUBBORN, gateway=POLITE) as mesh:
        await mesh.ready()
        killed = await mesh.supervisor.stop()
        assert [child.spec.name for child in killed] == ["tts"]


async def test_in_a_hurry_nobody_waits(mesh_of):
    async with mesh_of(tts=STUBBORN, gateway=STUBBORN) as mesh:
        await mesh.ready()
        hurry = asyncio.Event()
        stopping = asyncio.create_task(mesh.supervisor.stop(hurry))
        hurry.set()
        assert len(await stopping) == 2


async def test_what_a_crashed_child_started_does_not_stay(mesh_of):
    worker = f"[sys.executable, '-c', {STUBBORN!r}], stdout=subprocess.DEVNULL"
    parent = (
        f"import subprocess, sys; w = subprocess.Popen({worker}); print(w.pid, flush=True); " + WITH_STDIN
    )
    async with mesh_of(tts=parent, gateway=POLITE) as mesh:
        await mesh.ready()
        pid = next(int(line.text) for line in mesh.lines if line.text.isdigit())
        assert is_alive(pid)
        mesh.supervisor.children[0].send(signal.SIGKILL)
        await mesh.supervisor.ended()
        await mesh.supervisor.stop()
        await until(lambda: not is_alive(pid))


async def test_standard_input_stays_open_until_the_end(mesh_of):
    async with mesh_of(tts=WITH_STDIN, gateway=POLITE) as mesh:
        await mesh.ready()
        child = mesh.supervisor.children[0]
        assert child.status is None
        child.end_input()
        assert await mesh.supervisor.ended() is child
        assert child.status == 0


async def test_long_lines_and_odd_bytes_do_not_end_the_relay(mesh_of):
    odd = "import sys; sys.stdout.buffer.write(b'x' * 3000000 + b'\\n\\xff\\n\\n'); " + WITH_STDIN
    async with mesh_of(tts=odd, gateway=POLITE) as mesh:
        await mesh.ready()
        texts = [line.text for line in mesh.lines if line.service == "tts"]
        assert "\\xff" in texts
        assert texts[-1] == "serving"


async def test_a_child_that_is_killed_is_started_again_and_the_others_go_on(mesh_of):
    async with mesh_of(tts=POLITE, gateway=POLITE) as mesh:
        await mesh.ready()
        before = [child.pid for child in mesh.supervisor.children]
        async with mesh.kept():
            mesh.supervisor.children[0].send(signal.SIGKILL)
            await until(lambda: len(mesh.news) == 2)
        died, back = mesh.news
        assert isinstance(died, Died)
        assert (died.name, died.how, died.deaths) == ("tts", "was killed by SIGKILL", 1)
        assert isinstance(back, Back)
        after = [child.pid for child in mesh.supervisor.children]
        assert back.pid == after[0] != before[0]
        assert after[1] == before[1]
        assert await mesh.supervisor.stop() == []


async def test_a_child_that_hangs_is_killed_and_started_again(mesh_of):
    async with mesh_of(tts=POLITE, gateway=POLITE) as mesh:
        await mesh.ready()
        stopped = mesh.supervisor.children[0].pid
        async with mesh.kept():
            os.kill(stopped, signal.SIGSTOP)
            mesh.hung.add("tts")
            await until(lambda: len(mesh.news) == 2)
        died = mesh.news[0]
        assert isinstance(died, Died)
        assert "did not answer for" in died.how
        assert died.how.endswith("was killed")
        assert not is_alive(stopped)


async def test_a_child_that_dies_again_and_again_ends_the_mesh(mesh_of):
    dies_once_it_serves = SERVES + "raise SystemExit('because of this')"
    async with mesh_of(tts=POLITE, gateway=POLITE) as mesh:
        await mesh.ready()
        spec = mesh.supervisor.children[0].spec
        dying = replace(spec, argv=(sys.executable, "-c", dies_once_it_serves))
        mesh.supervisor.children[0].spec = dying
        async with mesh.kept(restarts=3) as keeping:
            mesh.supervisor.children[0].send(signal.SIGKILL)
            with pytest.raises(Failure, match="started again 3 times, and never served for 60 s") as caught:
                await keeping
        assert (caught.value.status, caught.value.reason) == (FAILED, "PROCESS_ENDED")
        assert "tts | because of this" in caught.value.message
        assert [news.deaths for news in mesh.news if isinstance(news, Died)] == [1, 2, 3]


@pytest.mark.parametrize(("status", "reason"), [(USAGE, "WRONG_SETTINGS"), (UNREACHABLE, "PORT_IN_USE")])
async def test_what_another_start_would_not_mend_is_not_tried(mesh_of, status, reason):
    wrong = WITH_STDIN + f"; sys.exit({status})"
    async with mesh_of(tts=wrong, gateway=POLITE) as mesh:
        await mesh.ready()
        async with mesh.kept() as keeping:
            mesh.supervisor.children[0].end_input()
            with pytest.raises(Failure) as caught:
                await keeping
        assert (caught.value.status, caught.value.reason) == (status, reason)
        assert mesh.news == []


async def test_without_restarts_the_first_death_is_the_end(mesh_of):
    async with mesh_of(tts=POLITE, gateway=POLITE) as mesh:
        await mesh.ready()
        async with mesh.kept(restarts=0) as keeping:
            mesh.supervisor.children[0].send(signal.SIGKILL)
            with pytest.raises(Failure, match=r"^tts was killed by SIGKILL"):
                await keeping
