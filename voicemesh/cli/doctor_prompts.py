"""`voicemesh doctor`: the gateway's system prompts, and how many tokens each costs every turn."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from voicemesh.cli.findings import MISSING, OK, Check

_TIMEOUT_S: Final = 30.0
_NAME: Final = "system prompts"


def prompt_check(root: Path) -> Check:
    """Ask the gateway of the checkout at `root`, in a process of its own: this one knows no server."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "gateway.prompt_sizes"],
            cwd=root,
            env={**os.environ, "PYTHONPATH": os.pathsep.join((str(root), os.environ.get("PYTHONPATH", "")))},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
        return Check(_NAME, OK, _told(json.loads(done.stdout)))
    except subprocess.CalledProcessError as failure:
        lines = failure.stderr.strip().splitlines()
        return Check(
            _NAME, MISSING, lines[-1] if lines else "the gateway says nothing", "correct the setting"
        )
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return Check(_NAME, MISSING, f"the gateway cannot be asked: {error}", "make setup (in a checkout)")


def _told(found: dict[str, Any]) -> str:
    sizes = ", ".join(f"{name} {tokens}" for name, tokens in found["tokens"].items())
    return f"tokens, about: {sizes}; usually {found['usual']}, of {found['budget']} for a whole prompt"
