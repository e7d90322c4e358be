"""What `voicemesh doctor` says of voices of Coqui TTS: the extra, the device, torchaudio, phonemes."""

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Any, Final

from voicemesh.cli.findings import MISSING, NOTE, OK, Check, is_declared

_PACKAGES: Final = ("coqui-tts", "torch", "torchaudio", "six")
_INSTALL: Final = "make setup-coqui (in a checkout), or pip install 'voicemesh[coqui]'"
_PROBE_TIMEOUT_S: Final = 120.0
_PROBE: Final = """\
import json, torch
found = {"torch": torch.__version__, "built_for": torch.version.cuda, "devices": [], "torchaudio": ""}
if torch.cuda.is_available():
    found["devices"] = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
try:
    import torchaudio
except (OSError, RuntimeError) as error:
    found["torchaudio"] = str(error).splitlines()[0][:200]
print(json.dumps(found))
"""


def coqui_checks() -> Iterator[Check]:
    """Look; what is missing is only required where a voice is declared that needs it."""
    required = is_declared("coqui")
    absent = [name for name in _PACKAGES if not _version(name)]
    if absent:
        state, what = (MISSING, "needed by VOICEMESH_TTS_VOICES and") if required else (NOTE, "")
        yield Check("coqui voices", state, f"{what} not installed: {', '.join(absent)}".strip(), _INSTALL)
        return
    yield Check("coqui voices", OK, f"coqui-tts {_version('coqui-tts')}, torch {_version('torch')}")
    try:
        found = _probe()
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        reason = getattr(error, "stderr", "") or str(error)
        last = str(reason).strip().splitlines()[-1:] or ["no reason given"]
        yield Check("coqui torch", MISSING if required else NOTE, f"torch does not load: {last[0]}", _INSTALL)
        return
    yield _device(found)
    yield _torchaudio(found)
    if not _version("espeakng-loader"):
        detail = "espeakng-loader is not installed: models of phonemes cannot speak"
        yield Check("coqui phonemes", NOTE, detail, "pip install 'voicemesh[espeak]'")


def _device(found: dict[str, Any]) -> Check:
    if found["devices"]:
        return Check("coqui device", OK, ", ".join(found["devices"]))
    if found["built_for"]:
        detail = f"torch is built for CUDA {found['built_for']} and finds no device: models run on the CPU"
        return Check("coqui device", NOTE, detail, "check the driver with nvidia-smi, if there is a GPU")
    return Check(
        "coqui device", NOTE, "this torch is for CPUs: models run on the CPU", "install torch for CUDA"
    )


def _torchaudio(found: dict[str, Any]) -> Check:
    if not found["torchaudio"]:
        return Check("coqui torchaudio", OK, "loads")
    detail = f"without its compiled part, which speaking does not need ({found['torchaudio']})"
    return Check("coqui torchaudio", OK, detail)


def _probe() -> dict[str, Any]:
    """Load torch in a process of its own: one that is broken may end it."""
    done = subprocess.run(
        [sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
