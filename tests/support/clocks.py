"""Processes whose clocks disagree by minutes.

Each has a wall clock that is shifted by a `sitecustomize` of its own. Where the kernel lets anybody make a
namespace of time, each has its own monotonic clock, too.
"""

import pathlib
import shutil
import subprocess
from typing import Final

from tests.support.mesh import SERVICES, Own

MONOTONIC_S: Final = {"llm": 420, "chunker": 60, "tts": 900, "cache": 1800}
"""The gateway has the machine's."""
WALL_S: Final = {"gateway": 600, "llm": -300, "chunker": -120, "tts": -3600, "cache": -86_400}
"""Who calls is ahead, and who is called is behind: gRPC makes deadlines from Python's clock and keeps them by
the machine's, so that otherwise they would be over before they began."""
_SHIFTED: Final = """
import os, time
_by_ns = int(os.environ["SHIFT_WALL_S"]) * 10**9
_time_ns = time.time_ns
time.time_ns = lambda: _time_ns() + _by_ns
time.time = lambda: time.time_ns() / 1e9
"""


def _clock_of_its_own(seconds: int) -> tuple[str, ...]:
    """Return a command that runs another with a monotonic clock that is `seconds` ahead."""
    return ("unshare", "--user", "--map-root-user", "--time", "--monotonic", str(seconds))


def _can_be_set() -> bool:
    """Return whether this machine lets anybody give a process a monotonic clock of its own."""
    if shutil.which("unshare") is None:
        return False
    return not subprocess.run([*_clock_of_its_own(60), "true"], capture_output=True, check=False).returncode


CAN_BE_SET: Final = _can_be_set()


def shifted(folder: pathlib.Path, *, gateway: str = "") -> dict[str, Own]:
    """Return what each process has of its own so that no two agree about the time.

    `folder` takes what is loaded into them; `gateway` is further code for the gateway alone.
    """
    own = {}
    for name in SERVICES:
        place = folder / name
        place.mkdir()
        code = _SHIFTED + (gateway if name == "gateway" else "")
        (place / "sitecustomize.py").write_text(code)
        own[name] = Own(
            wrapper=_clock_of_its_own(MONOTONIC_S[name]) if CAN_BE_SET and name in MONOTONIC_S else (),
            environment={"PYTHONPATH": str(place), "SHIFT_WALL_S": str(WALL_S[name])},
        )
    return own
