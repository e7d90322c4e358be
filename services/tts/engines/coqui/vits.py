"""VITS in steps: text, flow, and windows of the decoder, each for as many utterances as share its shape.

Options beside those of every kind (see the package): `speaker` (who speaks when no variant is named),
`precision` (`fp32`, or `bf16` for the decoder alone), `first_frames` (26: frames of the first window, of
11.6 ms each with the usual model), `window_frames` (86: of a window once they have grown), `max_batch` (1 on
a CPU, where a batch gains nothing, and 64 on a GPU), `slots` (utterances at work at once: 8 on a CPU, 256 on
a GPU), `noise_scale`, `noise_scale_dp` and `length_scale` (in place of the model's own).

Variants are the model's speakers; of a model of several languages "speaker-language". The same request gives
the same samples, bit for bit, where steps are taken alone (`max_batch` 1). In a batch the device adds in
another order: samples differ by 1e-5 of full scale at most, in bf16 by what `docs/coqui.md` says.
"""

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import torch
from torch.nn import functional

from services.tts.engines.base import (
    CannotSpeakError,
    Capabilities,
    OutOfMemoryError,
    SpeakRequest,
    Step,
    SteppedEngine,
    Utterance,
)
from services.tts.engines.coqui.graphs import Graphs
from services.tts.engines.coqui.library import take_device
from services.tts.engines.coqui.model_files import ModelFiles
from services.tts.engines.coqui.options import Options
from services.tts.engines.coqui.reading import MAX_TOKENS, Reader
from services.tts.engines.coqui.utterance import FIRST, FLOW, TEXT, WINDOW, Sizes, Spoken
from services.tts.engines.coqui.variants import listed, wanted
from services.tts.engines.coqui.versions import LIBRARIES
from services.tts.engines.coqui.vits_model import VitsModel
from services.tts.engines.coqui.windows import FIRST_FRAMES, WINDOW_FRAMES, Grid
from services.tts.engines.espeak import bcp47

_WARM_UP: Final = "At 5:30 on the 1st, Dr. Smith paid $12,345.60."
_RENDERING: Final = 1
"""Raised whenever this path makes other samples of the same model."""

_TOKENS: Final = (32, 64, 96, 128, 192, 256, 384, MAX_TOKENS)
_MOST_FRAMES: Final = 200_000
_FRAMES: Final = (64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)


class VitsEngine(SteppedEngine):
    """A VITS of the library's, spoken by a path of its own.

    Args:
        files: Of the model.
        language: Of the declaration: the default one of a model of several languages, else its tag.
        options: See the module.

    Raises:
        OptionsError: The language or an option is not one that there is.

    """

    def __init__(self, files: ModelFiles, language: str, options: dict[str, Any]) -> None:
        taken = Options(options)
        taken.text("model")
        self._device = take_device(taken)
        on_gpu = self._device.type == "cuda"
        precision = taken.choice("precision", ("fp32", "bf16"))
        first = taken.whole("first_frames", 4, 4096, FIRST_FRAMES)
        grid = Grid(first, taken.whole("window_frames", first, 4096, max(first, WINDOW_FRAMES)))
        self._max_batch = taken.whole("max_batch", 1, 1024, 64 if on_gpu else 1)
        slots = taken.whole("slots", 1, 4096, 256 if on_gpu else 8)
        speaker = taken.text("speaker")
        model = self._model = VitsModel(files, self._device, precision)
        self._noise_scale = taken.number("noise_scale", 0, 10, model.args.inference_noise_scale)
        self._noise_scale_dp = taken.number("noise_scale_dp", 0, 10, model.args.inference_noise_scale_dp)
        self._length_scale = taken.number("length_scale", 0.05, 20, model.args.length_scale)
        taken.finish("a VITS")
        self.frame_samples = model.hop
        self._sizes = Sizes(grid, _TOKENS, _FRAMES, model.hop, model.args.max_inference_len)
        self._plans = {
            Step(FIRST, first): model.decoder.plan(first, first=True),
            **{Step(WINDOW, size): model.decoder.plan(size, first=False) for size in grid.sizes},
        }
        self._decoders = {step: partial(model.window, plan=plan) for step, plan in self._plans.items()}
        self._graphs = Graphs(self._device)
        self._host: dict[tuple[int, ...], Any] = {}
        several = len({one.language for one in model.speakers}) > 1
        variants = listed([(one.name, one.language) for one in model.speakers], language, several=several)
        self._speakers = dict(
            zip([variant.name for variant in variants] or [""], model.speakers, strict=True)
        )
        self._readers = {one.language: Reader(model.tokenizer, one.language) for one in model.speakers}
        for reader in self._readers.values():
            # What spells numbers is loaded at the first one, and takes seconds.
            with contextlib.suppress(CannotSpeakError):
                reader.read(_WARM_UP)
        default = wanted(variants, [one.name for one in model.speakers], speaker, language, several=several)
        sound = (precision, first, grid.sizes, self._noise_scale, self._noise_scale_dp, self._length_scale)
        self.capabilities = Capabilities(
            sample_rate_hz=model.sample_rate_hz,
            slots=slots,
            word_timings=True,
            deterministic=self._max_batch == 1,
            revision=f"vits-{_digest(files, self._device.type, sound)}",
            variants=variants,
            default_variant=default.name if default else "",
            language=default.language if default else bcp47(language),
        )

    def open(self, request: SpeakRequest) -> Utterance:
        """See `SteppedEngine`."""
        variant = request.variant if request.variant in self._speakers else self.capabilities.default_variant
        speaker = self._speakers[variant]
        parts = self._readers[speaker.language].read(request.text)
        return Spoken(parts, speaker, self._length_scale / request.speed, request.seed, self._sizes)

    def run(self, utterances: Sequence[Utterance]) -> None:
        """See `SteppedEngine`."""
        spoken = [utterance for utterance in utterances if isinstance(utterance, Spoken)]
        step = spoken[0].step
        assert step is not None
        stages: dict[str, Callable[[Step, list[Spoken]], None]] = {TEXT: self._text, FLOW: self._flow}
        try:
            with torch.inference_mode():
                stages.get(step.stage, self._window)(step, spoken)
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise OutOfMemoryError(str(error)) from None

    def batch_limit(self, step: Step) -> int:
        """See `SteppedEngine`."""
        # Text and flow are short beside the windows behind them, and their memory grows with the length.
        return self._max_batch if step in self._plans else max(1, self._max_batch // 4)

    def steps(self) -> Sequence[Step]:
        """See `SteppedEngine`."""
        return [
            *(Step(TEXT, size) for size in _TOKENS),
            *(Step(FLOW, size) for size in _FRAMES),
            *self._plans,
        ]

    def prepare(self, step: Step, batch: int) -> None:
        """See `SteppedEngine`."""
        try:
            with torch.inference_mode():
                self._graphs.record(step, batch, *self._blank(step, batch))
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise OutOfMemoryError(str(error)) from None

    def _text(self, step: Step, utterances: list[Spoken]) -> None:
        tokens = [torch.tensor(utterance.part.ids) for utterance in utterances]
        noise = [one.noise(2, len(one.part.ids)) * self._noise_scale_dp for one in utterances]
        inputs = self._text_inputs(step, utterances, tokens, noise)
        batch = len(inputs[1])
        statistics, lengths = self._graphs.run(step, batch, self._model.text, inputs)
        found = lengths.cpu()  # the one wait: nobody knows the lengths before
        if not torch.isfinite(found).all() or found.sum(1).max() > _MOST_FRAMES:
            raise RuntimeError("the model gave durations that cannot be: its weights are broken")
        made = []
        for number, ids in enumerate(tokens):
            own = found[number, : len(ids)].long()
            own[0] += int(not own.any())
            # Each token's statistics as often as it has frames. The sum is known: nothing waits for it.
            frames = torch.repeat_interleave(
                statistics[number, :, :, : len(ids)], self._put(own), dim=-1, output_size=int(own.sum())
            )
            made.append((frames, own.tolist()))
        # All or none: nothing has advanced where memory ends above.
        for utterance, (frames, durations) in zip(utterances, made, strict=True):
            utterance.encoded(frames, durations)

    def _text_inputs(
        self, step: Step, utterances: list[Spoken], tokens: list[Any], noise: list[Any]
    ) -> tuple[Any, ...]:
        batch = self._graphs.batch(step, len(utterances))
        room = step.size if self._graphs.recording else max(map(len, tokens))
        more = batch - len(utterances)
        return (
            self._stack(tokens, room, batch),
            self._put(torch.tensor([len(ids) for ids in tokens] + [1] * more)),
            self._stack(noise, room, batch),
            self._put(torch.tensor([one.scale for one in utterances] + [1.0] * more)),
            *self._conditions(utterances, batch),
        )

    def _flow(self, step: Step, utterances: list[Spoken]) -> None:
        noise = [one.noise(self._model.channels, one.flowing) * self._noise_scale for one in utterances]
        inputs = self._flow_inputs(step, utterances, noise)
        latent = self._graphs.run(step, len(inputs[1]), self._model.flow, inputs)
        # Copies: the batch's memory, or a graph's, is not for keeping. All or none, as above.
        own = [latent[number, :, : one.flowing].clone() for number, one in enumerate(utterances)]
        for utterance, frames in zip(utterances, own, strict=True):
            utterance.flowed(frames)

    def _flow_inputs(self, step: Step, utterances: list[Spoken], noise: list[Any]) -> tuple[Any, ...]:
        batch = self._graphs.batch(step, len(utterances))
        lengths = [one.flowing for one in utterances] + [1] * (batch - len(utterances))
        room = step.size if self._graphs.recording else max(lengths)
        return (
            self._stack([one.statistics for one in utterances], room, batch),
            self._put(torch.tensor(lengths)),
            self._stack(noise, room, batch),
            self._conditions(utterances, batch)[0],
        )

    def _window(self, step: Step, utterances: list[Spoken]) -> None:
        inputs = self._window_inputs(step, utterances)
        samples = self._graphs.run(step, len(inputs[0]), self._decoders[step], inputs)
        if self._graphs.recording:
            samples = self._to_host(samples)
        heard = samples.numpy()
        for number, utterance in enumerate(utterances):
            utterance.decoded(heard[number])

    def _window_inputs(self, step: Step, utterances: list[Spoken]) -> tuple[Any, ...]:
        batch = self._graphs.batch(step, len(utterances))
        span = self._plans[step].frames
        windows, rooms, whole = [], [], True
        for utterance in utterances:
            start, total = utterance.frame, utterance.frames
            begin, end = start + span.start, start + span.end
            taken = utterance.latent[:, max(0, begin) : min(end, total)]
            windows.append(functional.pad(taken, (max(0, -begin), max(0, end - total))))
            rooms.append((start, total - start))
            whole = whole and begin >= 0 and end <= total
        room = None
        # A mask of ones changes no bit: it is left out where it can be.
        if self._graphs.recording or not whole:
            room = self._put(torch.tensor(rooms + [(0, 1)] * (batch - len(rooms))))
        return (
            self._stack(windows, span.end - span.start, batch),
            room,
            self._conditions(utterances, batch)[0],
        )

    def _blank(self, step: Step, batch: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return the function of a step, and inputs for it in which nothing is said."""
        model, size = self._model, step.size
        blanks = [Spoken((), next(iter(self._speakers.values())), 1.0, 0, self._sizes) for _ in range(batch)]
        if step.stage == TEXT:
            tokens = [torch.zeros(size, dtype=torch.long)] * batch
            return model.text, self._text_inputs(step, blanks, tokens, [torch.zeros(2, size)] * batch)
        for blank in blanks:
            blank.prepare(torch.zeros(2, model.channels, size, device=self._device), size)
        if step.stage == FLOW:
            return model.flow, self._flow_inputs(step, blanks, [torch.zeros(model.channels, size)] * batch)
        return self._decoders[step], self._window_inputs(step, blanks)

    def _conditions(self, utterances: list[Spoken], batch: int) -> tuple[Any, Any]:
        """Return the conditions of speakers and of languages, each [B, N, 1] or None."""
        speakers = [one.speaker for one in utterances]
        found = []
        for parts in ([one.condition for one in speakers], [one.language_condition for one in speakers]):
            stack = None if parts[0] is None else torch.stack(parts + parts[:1] * (batch - len(parts)))
            found.append(stack)
        return found[0], found[1]

    def _stack(self, items: list[Any], room: int, batch: int) -> Any:
        """Return `items` as one tensor on the device, with zeros behind each and for more of them."""
        shape = (batch, *items[0].shape[:-1], room)
        pinned = self._graphs.recording and items[0].device.type == "cpu"
        stack = torch.zeros(shape, dtype=items[0].dtype, device=items[0].device, pin_memory=pinned)
        for number, item in enumerate(items):
            stack[number, ..., : item.shape[-1]] = item
        return stack.to(self._device, non_blocking=True)

    def _put(self, tensor: Any) -> Any:
        return tensor.to(self._device)

    def _to_host(self, samples: Any) -> Any:
        """Return a batch's samples in memory of the host that the device writes by itself."""
        key = tuple(samples.shape)
        if key not in self._host:
            self._host[key] = torch.empty(key, dtype=samples.dtype, pin_memory=True)
        self._host[key].copy_(samples, non_blocking=True)
        torch.cuda.current_stream(self._device).synchronize()
        return self._host[key]


def _digest(files: ModelFiles, device: str, sound: tuple[Any, ...]) -> str:
    """Return what changes with the weights, the configuration and what else is heard."""
    digest = hashlib.blake2b(repr((_RENDERING, LIBRARIES, device, sound)).encode(), digest_size=8)
    for path in sorted({files.config, *files.folder.glob("*.json"), *files.folder.glob("speakers*")}):
        digest.update(path.read_bytes())
    assert files.checkpoint is not None
    with files.checkpoint.open("rb") as file:
        digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()
