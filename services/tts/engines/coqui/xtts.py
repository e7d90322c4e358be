"""XTTS v2: voices of reference clips, in 17 languages, heard while they are made.

    text ──> pieces ──> GPT: a token a step ──> latents ──> windows ──> 24,000 Hz PCM
              (xtts_words)   (xtts_gpt, sampling)              (xtts_decoder)

Each step of the GPT makes 46 ms of audio; the first window is decoded as soon as 0.17 s and the context
behind them are there. Tokens are drawn with a generator of the request's own, on the CPU. A text beyond
the language's limit is spoken piece by piece.

Options beside those of every Coqui model: `speaker_wav` (a clip or several of one speaker, 1 to 60 s each),
`speaker` (one or several of the model's own; all where neither is given), `latents_cache` (a folder that
keeps the latents of clips), `precision` (`fp32`; `fp16`, `bf16`: the GPT part, on CUDA), `slots` (utterances
at once), `temperature`, `top_k`, `top_p`, `repetition_penalty`.
"""

import gc
import hashlib
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch

from services.tts.engines.base import (
    Capabilities,
    OptionsError,
    OutOfMemoryError,
    SpeakRequest,
    Step,
    SteppedEngine,
    Utterance,
    Variant,
    Word,
)
from services.tts.engines.coqui.library import take_device
from services.tts.engines.coqui.model_files import ModelFiles
from services.tts.engines.coqui.options import Options
from services.tts.engines.coqui.sampling import Sampler, Sampling
from services.tts.engines.coqui.versions import LIBRARIES
from services.tts.engines.coqui.xtts_decoder import WINDOWS, Windows, XttsDecoder
from services.tts.engines.coqui.xtts_gpt import Scores, XttsGpt
from services.tts.engines.coqui.xtts_model import load_xtts, missing_package
from services.tts.engines.coqui.xtts_speakers import Speaker, own_speakers, slug, speaker_of_clips
from services.tts.engines.coqui.xtts_words import XttsWords
from services.tts.engines.loading import loading
from services.tts.text_limits import xtts_max_chars
from voicemesh.runtime.frames import BYTES_PER_SAMPLE

_RENDERING: Final = 1
"""Raised whenever these modules give other samples for the same request."""
_DTYPES: Final = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class XttsEngine(SteppedEngine):
    """See the module.

    Args:
        files: Where the model is.
        language: Tag of the language that speaks by default.
        options: See the module.

    Raises:
        OptionsError: The declaration is wrong.

    """

    def __init__(self, files: ModelFiles, language: str, options: dict[str, Any]) -> None:
        taken = Options(options)
        taken.text("model")
        device = self._device = take_device(taken)
        precision = taken.choice("precision", tuple(_DTYPES))
        if precision != "fp32" and device.type != "cuda":
            raise OptionsError(f"option precision: {precision} is for CUDA; on a CPU the voice has fp32")
        self._sampling = Sampling(
            taken.number("temperature", 0, 10, Sampling().temperature),
            taken.whole("top_k", 1, 1000, Sampling().top_k),
            taken.number("top_p", 0.01, 1, Sampling().top_p),
            taken.number("repetition_penalty", 1, 100, Sampling().repetition_penalty),
        )
        slots = taken.whole("slots", 1, 64, 8 if device.type == "cuda" else 2)
        clips, names = taken.texts("speaker_wav"), taken.texts("speaker")
        cache = taken.text("latents_cache")
        taken.finish("a model of XTTS")
        if clips and names:
            raise OptionsError("option speaker: a voice has speaker_wav or speaker, not both")

        loaded = load_xtts(files.folder, files.config, files.checkpoint)
        model = loaded.model
        own = _language(language, loaded.languages, tuple(model.config.languages))
        model.to(device)
        if clips:
            loading("the reference clips")
            folder = Path(cache).expanduser() if cache else None
            paths = [Path(clip).expanduser() for clip in clips]
            self.speakers = [speaker_of_clips(model, paths, folder, loaded.digest)]
        else:
            self.speakers = own_speakers(files.folder / "speakers_xtts.pth", names)
        _check_shapes(self.speakers, model)
        self._longest = max(len(speaker.latents) for speaker in self.speakers)
        together = device.type == "cuda"
        self._gpt = XttsGpt(
            model.gpt,
            speaker_length=self._longest,
            slots=slots + 1,  # one for `prepare`
            dtype=_DTYPES[precision],
            device=device,
            together=together,
        )
        self._decoder = XttsDecoder(model.hifigan_decoder, self._gpt.most_tokens)
        self._words = XttsWords(model.tokenizer, self._gpt.most_text_tokens)
        self._scratch = slots
        self._free = list(range(slots))
        self._limit = slots if together else 1
        variants, self._said_by = _variants(self.speakers, loaded.languages, own)
        self.capabilities = Capabilities(
            sample_rate_hz=model.args.output_sample_rate,
            slots=slots,
            word_timings=False,
            deterministic=True,
            revision=self._revision(loaded.digest, precision),
            variants=variants,
            default_variant=variants[0].name,
            language=variants[0].language,
            max_chars=variants[0].max_chars,
        )

    def open(self, request: SpeakRequest) -> Utterance:
        """Begin a request: cut and tokenize its text."""
        speaker, language = self._said_by[request.variant]
        return XttsUtterance(self, speaker, self._words.of(request.text, language), request)

    def run(self, utterances: Sequence[Utterance]) -> None:
        """See `SteppedEngine`."""
        ours = [utterance for utterance in utterances if isinstance(utterance, XttsUtterance)]
        try:
            self._run(ours)
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise OutOfMemoryError(str(error)) from None

    def _run(self, utterances: Sequence["XttsUtterance"]) -> None:
        step = utterances[0].step
        assert step is not None
        if step.stage == "text":
            for utterance in utterances:
                utterance.settle()
                utterance.drew(self._begin(utterance.slot, utterance.speaker, utterance.text))
        elif step.stage == "tokens":
            drawn = {utterance.slot: utterance.token for utterance in utterances}
            found = self._gpt.advance(drawn, self._sampling.top_k, self._sampling.repetition_penalty)
            for utterance in utterances:
                utterance.drew(found[utterance.slot])
        else:
            for utterance in utterances:
                utterance.decode(self._decoder)

    def batch_limit(self, step: Step) -> int:
        """Tokens go together on a GPU; a text or a window fills it alone."""
        return self._limit if step.stage == "tokens" else 1

    def steps(self) -> Sequence[Step]:
        """See `SteppedEngine`."""
        longest = self._gpt.text_size(self._longest, self._gpt.most_text_tokens)
        first = self._gpt.text_size(0, 0)
        return [
            *(Step("text", size) for size in range(first, longest + 1, first)),
            Step("tokens", 1),
            *(Step("decode", frames) for frames in WINDOWS),
        ]

    def prepare(self, step: Step, batch: int) -> None:  # noqa: ARG002 - all slots are computed at once
        """Run a step in a slot that no request has."""
        speaker = self.speakers[0]
        if step.stage == "text":
            count = min(max(step.size - len(speaker.latents) - 3, 1), self._gpt.most_text_tokens)
            self._begin(self._scratch, speaker, [1] * count)
        elif step.stage == "tokens":
            self._begin(self._scratch, speaker, [1])
            self._gpt.advance({self._scratch: 1}, self._sampling.top_k, self._sampling.repetition_penalty)
        else:
            frames = torch.zeros(
                (speaker.latents.shape[1], step.size + 2 * self._decoder.context), device=self._device
            )
            self._decoder.decode(frames, speaker.embedding.to(self._device))

    def _begin(self, slot: int, speaker: Speaker, text: Sequence[int]) -> Scores:
        scores: Scores = self._gpt.begin(
            slot, speaker.latents, text, self._sampling.top_k, self._sampling.repetition_penalty
        )
        return scores

    # ---- for utterances -----------------------------------------------------------------------

    def take_slot(self, utterance: "XttsUtterance") -> tuple[int, Any]:
        """Give a slot to an utterance, until it ends or nobody has it any more."""
        if not self._free:
            gc.collect()  # an utterance that was dropped may be held by a traceback
        slot = self._free.pop(0)
        return slot, weakref.finalize(utterance, self._free.append, slot)

    def text_step(self, utterance: "XttsUtterance") -> Step:
        """Return the step that reads an utterance's text."""
        return Step("text", self._gpt.text_size(len(utterance.speaker.latents), len(utterance.text)))

    def sampler(self, seed: int) -> Sampler:
        """Return what draws the tokens of one request."""
        return Sampler(self._sampling, seed)

    def windows(self, speed: float) -> tuple[Any, Windows]:
        """Return how tokens become frames at a speed, and which of them go together."""
        stretches = self._decoder.stretches(speed)
        return stretches, Windows(stretches, self._decoder.context)

    def room(self) -> torch.Tensor:
        """Return a place for the latents of one piece."""
        width = self.speakers[0].latents.shape[1]
        return torch.empty((self._gpt.most_tokens, width), device=self._device)

    @property
    def hop(self) -> int:
        """Samples of a frame."""
        return self._decoder.hop

    @property
    def stop_token(self) -> int:
        """The token that ends a piece."""
        return self._gpt.stop_token

    def _revision(self, digest: str, precision: str) -> str:
        facts = f"{_RENDERING} {LIBRARIES} {digest} {precision} {self._device.type} {self._sampling}"
        found = hashlib.blake2b(facts.encode(), digest_size=6)
        for speaker in self.speakers:
            found.update(speaker.latents.cpu().numpy().tobytes() + speaker.embedding.cpu().numpy().tobytes())
        return f"xtts-{found.hexdigest()}"


class XttsUtterance:
    """One request at work: its pieces, one behind the other."""

    def __init__(
        self, engine: XttsEngine, speaker: Speaker, texts: list[list[int]], request: SpeakRequest
    ) -> None:
        self.speaker = speaker
        self.step: Step | None = None
        self.text: list[int] = []
        """Tokens of the piece at work."""
        self.token = 0
        """The last one that was drawn."""
        self.slot = -1
        self._engine = engine
        self._texts = texts
        self._speed = request.speed
        self._sampler = engine.sampler(request.seed & (2**63 - 1))
        self._release: Any = None
        self._pcm: list[bytes] = []
        self._at = 0
        """Samples made or left out."""
        self._embedding = speaker.embedding
        self._latents = torch.empty(0)
        self._count = 0
        self._complete = True
        self._stretches, self._windows = engine.windows(self._speed)
        self._bounds: tuple[int, int] | None = None
        self._next_piece()

    def take(self) -> tuple[bytes, list[Word]]:
        """See `Utterance`."""
        pcm = b"".join(self._pcm)
        self._pcm.clear()
        return pcm, []

    def skip_to(self, sample: int) -> int:
        """Leave out the decoding of a window that waits; which tokens come needs every token before them."""
        while self._bounds is not None and self.step is not None:
            end = self._at + (self._bounds[1] - self._bounds[0]) * self._engine.hop
            # The last window is made in any case: it may be the last of all.
            if end > sample or self._windows.last(self._bounds, self._count, complete=self._complete):
                break
            self._at = end
            self._windows.passed(self._bounds)
            self._plan()
        return self._at

    # ---- for the engine -----------------------------------------------------------------------

    def settle(self) -> None:
        """Take a slot, before the first step: an utterance that has just ended may hold its own till then."""
        if self._release is None:
            # The slot is last: where memory ends before it, the step is taken again from its beginning.
            self._latents = self._engine.room()
            self._embedding = self.speaker.embedding.to(self._latents.device)
            self.slot, self._release = self._engine.take_slot(self)

    def drew(self, scores: Scores) -> None:
        """Take the scores of the next token: draw it."""
        self._latents[self._count] = scores.latent
        self._count += 1
        self.token = self._sampler.draw(scores.scores, scores.tokens)
        self._complete = self.token == self._engine.stop_token or self._count == len(self._latents)
        self._plan()

    def decode(self, decoder: XttsDecoder) -> None:
        """Make the samples of the window that waits."""
        assert self._bounds is not None
        samples = decoder.window(self._stretches, self._latents[: self._count], self._bounds, self._embedding)
        pcm = to_pcm(samples)
        self._at += len(pcm) // BYTES_PER_SAMPLE
        self._pcm.append(pcm)
        self._windows.passed(self._bounds)
        self._plan()

    def _plan(self) -> None:
        """Say what is next: a window as soon as one can be decoded, else a token, else the next piece."""
        self._bounds = self._windows.ready(self._count, complete=self._complete)
        if self._bounds is not None:
            self.step = Step("decode", self._windows.size)
        elif not self._complete:
            self.step = Step("tokens", 1)
        else:
            self._next_piece()

    def _next_piece(self) -> None:
        if not self._texts:
            self.step = None
            if self._release is not None:
                self._release()
            return
        self.text = self._texts.pop(0)
        self._count = 0
        self._complete = False
        _, self._windows = self._engine.windows(self._speed)
        self.step = self._engine.text_step(self)


def to_pcm(samples: torch.Tensor) -> bytes:
    """Return samples from -1 to 1 as s16le.

    Raises:
        RuntimeError: They are no numbers: the model is broken.

    """
    if not bool(torch.isfinite(samples).all()):
        raise RuntimeError("the model made audio that is no number (NaN or infinity)")
    return bytes((samples.clamp(-1, 1) * 32767).round().to(torch.int16).cpu().numpy().tobytes())


def _language(wanted: str, spoken: Sequence[str], known: Sequence[str]) -> str:
    """Return a language as the model names it."""
    tag = wanted.lower().replace("_", "-")
    found = next((name for name in known if name == tag), None)
    found = found or next((name for name in known if name.partition("-")[0] == tag.partition("-")[0]), None)
    if found is None:
        raise OptionsError(f"language: the model has no {wanted!r}; it has {', '.join(known)}")
    if found not in spoken:
        raise OptionsError(f"language: {found} needs packages that are missing: {missing_package(found)}")
    return found


def _variants(
    speakers: Sequence[Speaker], languages: Sequence[str], own: str
) -> tuple[tuple[Variant, ...], dict[str, tuple[Speaker, str]]]:
    """Return the variants, the one that speaks by default first, and who speaks what for each name.

    One speaker: "de". Several: "ana-florence-de", and "ana-florence" in the voice's own language.
    """
    variants: list[Variant] = []
    said_by: dict[str, tuple[Speaker, str]] = {}
    ordered = [own, *(language for language in languages if language != own)]
    for speaker in speakers:
        part = slug(speaker.name) if len(speakers) > 1 else ""
        for language in ordered:
            name = f"{part}-{language}" if part else language
            aliases = []
            if part and language == own:
                aliases.append(part)
            if language == "zh-cn":
                aliases.append(name.removesuffix("-cn"))
            first, _, region = language.partition("-")
            tag = f"{first}-{region.upper()}" if region else first
            if name in said_by:
                raise OptionsError(f"option speaker: two speakers are called {part!r}")
            variants.append(Variant(name, tag, tuple(aliases), xtts_max_chars(language)))
            said_by[name] = (speaker, language)
    said_by[""] = said_by[variants[0].name]
    return tuple(variants), said_by


def _check_shapes(speakers: Sequence[Speaker], model: Any) -> None:
    for speaker in speakers:
        if speaker.latents.shape[1] != model.gpt.model_dim:
            raise OptionsError(
                f"option model: the speaker {speaker.name!r} is of another model: "
                f"{speaker.latents.shape[1]} channels instead of {model.gpt.model_dim}"
            )
