"""Programs that tests need and no wheel brings: a test without one is left out, and says how to get it."""

import os
import pathlib
import shutil
from typing import Final

import pytest

_PACKAGES = {
    "chromium": "chromium",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "redis-cli": "redis-server",
    "redis-server": "redis-server",
}
_REQUIRED = "REQUIRED_PROGRAMS"
"""Those whose absence is a failure, by name: `.ci/run` sets it."""


_ALSO: Final = {"chromium": ("chromium-browser", "google-chrome", "google-chrome-stable", "chrome")}
"""Other names of a program."""


_OURS: Final = {
    "kubectl": pathlib.Path(__file__).resolve().parents[2] / ".tools" / "kubectl" / "bin" / "kubectl",
}
"""Those that the checks bring, which go before what is on the PATH: `make check-k8s`."""


def program(name: str) -> str:
    """Return the path of a program; leave the test out where there is none, or fail it."""
    if name in _OURS and _OURS[name].is_file():
        return str(_OURS[name])
    for each in (name, *_ALSO.get(name, ())):
        found: str | None = shutil.which(each)
        if found is not None:
            return found
    advice = f"no {name} on the PATH: `apt-get install {_PACKAGES.get(name)}`, or what your system has"
    if name in _OURS:
        advice = f"no {name}: `make check-k8s` brings one"
    if name in os.environ.get(_REQUIRED, "").split():
        pytest.fail(advice)
    pytest.skip(advice)
