"""The library `coqui-tts`, made loadable on any machine.

Its package is called `TTS`. It imports torchaudio, whose wheels are linked to CUDA: beside a torch for
CPUs their compiled part cannot be loaded. What the library takes of torchaudio for speaking (resampling,
spectrograms) is Python, so the compiled part is left out then.
"""

import importlib
import os
import sys
import types
from typing import Any, Final

from services.tts.engines.base import OptionsError
from services.tts.engines.coqui.options import Options
from services.tts.engines.cores import own_cores
from services.tts.engines.loading import loading

INSTALL: Final = "pip install 'voicemesh[coqui]' (in a checkout: make setup-coqui)"

_EXTENSION: Final = "torchaudio._extension"


def load_library() -> None:
    """Import torch and what the library needs of torchaudio.

    Raises:
        OptionsError: The extra is not installed.

    """
    # Whoever calls `torch.load` in this process, and however: a file is weights, and none of it is executed.
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    for package in ("torch", "torchaudio", "TTS"):
        loading(f"the package {package}")
        try:
            load_torchaudio() if package == "torchaudio" else importlib.import_module(package)
        except ModuleNotFoundError as error:
            raise OptionsError(
                f"engine: coqui needs {error.name}, which is not installed: {INSTALL}"
            ) from None
    loading("the model")


def load_torchaudio() -> str:
    """Import torchaudio; return "native", or "python" where its compiled part was left out."""
    known = sys.modules.get(_EXTENSION)
    if "torchaudio" in sys.modules:
        return "native" if known is None or known.__file__ else "python"
    try:
        importlib.import_module("torchaudio")
        return "native"
    except (OSError, RuntimeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
            del sys.modules[name]
    # In place of the package that loads the compiled part: the names that the rest imports from it.
    stand_in: Any = types.ModuleType(_EXTENSION)
    stand_in.__file__ = None
    stand_in._IS_TORCHAUDIO_EXT_AVAILABLE = False  # noqa: SLF001 - torchaudio's own names
    stand_in._IS_ALIGN_AVAILABLE = False  # noqa: SLF001
    stand_in.fail_if_no_align = lambda function: function
    sys.modules[_EXTENSION] = stand_in
    importlib.import_module("torchaudio")
    return "python"


def take_device(options: Options) -> Any:
    """Return the `torch.device` that the options `device` and `threads` ask for, set up.

    Raises:
        OptionsError: There is no such device.

    """
    import torch  # noqa: PLC0415 - heavy

    wanted = options.text("device", "auto")
    threads = options.whole("threads", 1, 256, min(256, own_cores()))
    kind, _, index = wanted.partition(":")
    if wanted not in ("auto", "cpu") and (kind != "cuda" or (index and not index.isdecimal())):
        raise OptionsError(f"option device: must be cpu, cuda, cuda:N or auto, not {wanted!r}")
    count = torch.cuda.device_count() if wanted != "cpu" and torch.cuda.is_available() else 0
    if kind == "cuda" and int(index or 0) >= count:
        has = f"this machine has {count}" if count else "torch finds none on this machine"
        raise OptionsError(f"option device: {wanted} is not there; {has}")
    torch.set_num_threads(threads)
    if not count:
        return torch.device("cpu")
    device = torch.device("cuda", int(index or 0))
    torch.cuda.set_device(device)
    # Convolutions would be in TF32 by default: 1e-3 off, and durations would differ. And some of their
    # kernels add in any order.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    return device
