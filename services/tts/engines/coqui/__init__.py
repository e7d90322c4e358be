"""Coqui TTS: the models that the library `coqui-tts` loads (extra `coqui`), from a folder or by name.

    __init__        which engine speaks a model                     standard library only
    model_files     where its files are, and what kind it is        standard library only, but for names
    library         the library made loadable on any machine
    phonemes        what its models take phonemes from
    options         the options of a voice, each checked            standard library only

A model is spoken by the engine for its kind: `vits` and `xtts` have inference paths of their own, in steps;
any other is spoken through the library's API, a sentence at a time (`whole`).

Options of every kind: `model` (a folder with `config.json` and a checkpoint, or a name of the library's as
`tts_models/en/ljspeech/vits`), `device` (`cpu`, `cuda`, `cuda:1`, `auto`), `threads` (of a CPU). The others
are in the module of the engine.
"""

from typing import Any

from services.tts.engines.base import Engine, SteppedEngine
from services.tts.engines.coqui.library import load_library
from services.tts.engines.coqui.model_files import find_model
from services.tts.engines.coqui.phonemes import use_own_phonemes


def load(language: str, options: dict[str, Any]) -> Engine | SteppedEngine:
    """Load the model that the option `model` names.

    Raises:
        OptionsError: The declaration is wrong, or the extra `coqui` is not installed.
        Exception: The model cannot be loaded.

    """
    files = find_model(options)
    load_library()
    use_own_phonemes()
    if files.kind == "vits":
        from services.tts.engines.coqui.vits import VitsEngine  # noqa: PLC0415 - heavy

        return VitsEngine(files, language, options)
    if files.kind == "xtts":
        from services.tts.engines.coqui.xtts import XttsEngine  # noqa: PLC0415 - heavy

        return XttsEngine(files, language, options)
    from services.tts.engines.coqui.whole import WholeEngine  # noqa: PLC0415 - heavy

    return WholeEngine(files, language, options)
