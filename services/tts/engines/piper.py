"""Piper: neural voices from a file each, fast on a CPU (extra `piper`).

`piper-tts` is GPL-3 and brings its own espeak-ng and onnxruntime. It is imported here alone, in the
worker process, and never with the service. What operators should know:

- A sentence is made as a whole, so its first audio waits for it, and a cancel takes effect behind it. A
  sentence of more than 300 characters is cut between two words, which bounds both.
- The noise is drawn inside the model, where no seed reaches it: only with both noise scales at 0 is the
  same request the same audio again, at the price of a duller voice.
- Voices whose phonemes need further downloads (Chinese, Hebrew, Japanese, Thai) are refused.
"""

import hashlib
import json
import logging
import math
from importlib import metadata
from pathlib import Path
from typing import Any, Final, NamedTuple

from services.tts.engines.base import (
    CannotSpeakError,
    Capabilities,
    Engine,
    OptionsError,
    Output,
    SpeakRequest,
    Variant,
)
from services.tts.engines.model_json import read_object
from services.tts.text import neutralise
from services.tts.text_pieces import pieces_of
from voicemesh.runtime.nearest import did_you_mean

_RENDERING: Final = 1
_MOST_CHARS: Final = 300
_PHONEME_TYPES: Final = ("espeak", "text")


class Options(NamedTuple):
    """What can be set, with its defaults."""

    model: str = ""
    """Path of the voice, `….onnx`; its configuration is beside it, `….onnx.json`."""
    config: str = ""
    """Path of the configuration, where it is elsewhere."""
    speaker: str = ""
    """Who speaks by default, of a voice with several speakers; empty for the voice's own choice."""
    length_scale: float | None = None
    """Length of every sound at speed 1: 1.1 is a tenth slower. None for the voice's own."""
    noise_scale: float | None = None
    """How much the sound varies. None for the voice's own."""
    noise_w: float | None = None
    """How much the lengths vary. None for the voice's own."""
    threads: int = 2
    """Of onnxruntime, for each request; 0 for one a core."""
    slots: int = 1
    """Chunks at once, with as many threads each."""


class PiperEngine(Engine):
    """See the module.

    Args:
        language: Not looked at: a voice speaks its own.
        options: Those of `Options`.

    Raises:
        OptionsError: An option is unknown or wrong, or the voice's files are.
        RuntimeError: The model cannot be loaded.

    """

    def __init__(self, language: str, options: dict[str, Any]) -> None:  # noqa: ARG002 - see above
        checked = _check_options(options)
        try:
            # Imported here: they are an extra, and whoever uses another engine need not have them.
            import onnxruntime  # noqa: PLC0415 - see above
            from piper import PiperVoice, SynthesisConfig  # noqa: PLC0415 - see above
            from piper.config import PiperConfig  # noqa: PLC0415 - see above
        except ModuleNotFoundError as error:
            raise OptionsError(
                f"engine: piper needs the module {error.name!r}: pip install 'voicemesh[piper]'"
            ) from None
        # It tells every phoneme that a voice does not know, a line each.
        logging.getLogger("piper").setLevel(logging.ERROR)
        path = Path(checked.model)
        described = _described(Path(checked.config or f"{checked.model}.json"))
        try:
            self._config = PiperConfig.from_dict(described)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise OptionsError(f"option config: it does not describe a voice of Piper: {error!r}") from None
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = checked.threads
        settings.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
        except _not_a_model() as error:
            raise OptionsError(f"option model: {path} cannot be loaded: {error}") from None
        self._voice = PiperVoice(session=session, config=self._config)
        self._settings = SynthesisConfig
        self._length, self._noise, self._noise_w = (
            own if given is None else given
            for given, own in (
                (checked.length_scale, self._config.length_scale),
                (checked.noise_scale, self._config.noise_scale),
                (checked.noise_w, self._config.noise_w_scale),
            )
        )
        tag = str(described.get("language", {}).get("code", "") or self._config.espeak_voice).replace(
            "_", "-"
        )
        self._speakers, default = _speakers(self._config, checked.speaker)
        self.capabilities = Capabilities(
            sample_rate_hz=self._config.sample_rate,
            slots=checked.slots,
            word_timings=False,
            deterministic=not self._noise and not self._noise_w,
            revision=_revision(path, described, (self._length, self._noise, self._noise_w)),
            variants=tuple(Variant(name, tag) for name in self._speakers),
            default_variant=default,
            language=tag,
        )

    def synthesize(self, request: SpeakRequest, output: Output) -> None:
        """Speak sentence by sentence; a cancel takes effect behind the one that is being made."""
        settings = self._settings(
            speaker_id=self._speakers.get(request.variant),
            length_scale=self._length / request.speed,
            noise_scale=self._noise,
            noise_w_scale=self._noise_w,
        )
        spoken = False
        # Two brackets begin phonemes to Piper: texts are spoken, never obeyed.
        text = neutralise(request.text).replace("[[", "  ")
        pieces = pieces_of(text, _MOST_CHARS)
        for piece in pieces:
            if not output.pause(0):
                return
            for sentence in self._voice.synthesize(piece, settings):
                if not any(self._known(phoneme) for phoneme in sentence.phonemes):
                    continue
                spoken = True
                if not output.write(sentence.audio_int16_bytes):
                    return
        if pieces and not spoken:
            raise CannotSpeakError("the voice knows none of its letters")

    def _known(self, phoneme: str) -> bool:
        return phoneme.isalnum() and phoneme in self._config.phoneme_id_map


def _not_a_model() -> tuple[type[Exception], ...]:
    """Return what onnxruntime raises for a file that it can never load."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # noqa: PLC0415 - an extra

    return (state.InvalidProtobuf, state.InvalidGraph, state.NotImplemented, state.InvalidArgument)


def _described(path: Path) -> dict[str, Any]:
    described = read_object(path, "config")
    kind = described.get("phoneme_type", "espeak")
    if kind not in _PHONEME_TYPES:
        raise OptionsError(
            f"option model: a voice of phoneme type {kind!r} needs what is not here: espeak and text are"
        )
    return described


def _speakers(config: Any, wanted: str) -> tuple[dict[str, int], str]:
    """Return the speakers' numbers by their names, none where there is one; and who speaks by default."""
    if config.num_speakers <= 1:
        if wanted:
            raise OptionsError("option speaker: the voice has one speaker")
        return {}, ""
    named = {str(name).lower(): int(number) for name, number in config.speaker_id_map.items()}
    named = named or {str(number): number for number in range(config.num_speakers)}
    own = next((name for name, number in named.items() if number == config.default_speaker_id), min(named))
    default = wanted.lower() or own
    if default not in named:
        some = ", ".join(list(named)[:20])
        raise OptionsError(f"option speaker: the voice has no {wanted!r}; it has {some}")
    return named, default


def _revision(path: Path, described: dict[str, Any], scales: tuple[float, ...]) -> str:
    version = metadata.version("piper-tts")
    sound = json.dumps(
        [_RENDERING, version, metadata.version("onnxruntime"), described, scales], sort_keys=True
    )
    digest = hashlib.blake2b(sound.encode(), digest_size=6)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return f"piper-{version}-{digest.hexdigest()}"


def _check_options(options: dict[str, Any]) -> Options:
    if unknown := sorted(options.keys() - set(Options._fields)):
        near = did_you_mean(unknown[0], Options._fields)
        raise OptionsError(f"option {unknown[0]}: piper has the options {', '.join(Options._fields)}{near}")
    checked = Options(**options)
    for name in ("model", "config", "speaker"):
        if not isinstance(getattr(checked, name), str):
            raise OptionsError(f"option {name}: must be a text")
    if not Path(checked.model).is_file():
        raise OptionsError(
            f"option model: must be the path of a voice (….onnx); there is no file {checked.model!r}"
        )
    limits: dict[str, tuple[float, float, bool]] = {
        "length_scale": (0.1, 10, False),
        "noise_scale": (0, 2, False),
        "noise_w": (0, 2, False),
        "threads": (0, 256, True),
        "slots": (1, 64, True),
    }
    for name, (low, high, whole) in limits.items():
        value = getattr(checked, name)
        if value is None and Options._field_defaults[name] is None:
            continue
        number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not low <= value <= high:
            raise OptionsError(
                f"option {name}: must be a {'whole ' if whole else ''}number from {low:g} to {high:g}"
            )
    return checked
