"""Our path against the library's own `inference`, with the same noise: 1e-5 of full scale at most."""

import random
from typing import Any

import pytest
import torch
import TTS.tts.layers.vits.stochastic_duration_predictor as durations_module
import TTS.tts.models.vits as vits_module
from TTS.tts.configs.shared_configs import CharactersConfig

from services.tts.engines.base import SpeakRequest, Step
from services.tts.engines.coqui.decoder import WindowedDecoder
from services.tts.engines.coqui.utterance import FIRST, WINDOW
from services.tts.engines.coqui.windows import Grid
from tests.coqui.speaking import SENTENCE, begin, load, speak, together

BOUND = 1e-5
ROUNDED = 32767 * BOUND + 0.5
"""The bound in steps of s16, and half a step for the rounding."""
BF16_BOUND = 0.05
BF16_SNR_DB = 25

MARKED = CharactersConfig(
    characters_class="TTS.tts.utils.text.characters.Graphemes",
    pad="_",
    eos="~",
    bos="^",
    blank="<BLNK>",
    characters="ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
    punctuations="!'(),-.:;? ",
)
MODELS: dict[str, dict[str, Any]] = {
    "letters": {},
    "drawn durations": {"stochastic": True},
    "speakers": {"speakers": 3},
    "speakers and languages": {"speakers": 2, "languages": ("en", "fr-fr"), "stochastic": True},
    "speaker decides durations": {"speakers": 2, "stochastic": True, "condition_dp_on_speaker": True},
    "usual decoder": {
        "resblock_type_decoder": "1",
        "resblock_kernel_sizes_decoder": [3, 7, 11],
        "resblock_dilation_sizes_decoder": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
        "upsample_rates_decoder": [8, 8, 2, 2],
        "upsample_kernel_sizes_decoder": [16, 16, 4, 4],
    },
    "odd upsampling": {
        "upsample_rates_decoder": [5, 5, 3, 2],
        "upsample_kernel_sizes_decoder": [11, 9, 7, 4],
    },
    "vectors": {"vectors": 3, "stochastic": True, "condition_dp_on_speaker": True},
    "no blanks": {"config": {"add_blank": False}},
    "begin and end": {"config": {"enable_eos_bos_chars": True, "characters": MARKED}},
    "cut off": {"max_inference_len": 40},
    "phonemes": {"phonemes": "en-us"},
    "German phonemes": {"phonemes": "de", "stochastic": True},
    "French phonemes": {"phonemes": "fr-fr", "config": {"text_cleaner": "multilingual_cleaners"}},
}
TEXTS = [
    "a",
    "One",
    "Two, and three.",
    SENTENCE,
    f"{SENTENCE} And then it went on for as long again, or so it seemed.",
]


class SameNoise:
    """Stands for torch in the library's modules: noise comes from the utterance's generator."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def randn(self, *shape: int) -> Any:
        return torch.randn(*shape[1:], generator=self._generator)[None]

    def randn_like(self, like: Any) -> Any:
        return self.randn(*like.shape)


@pytest.fixture
def original(load_original, monkeypatch):
    """Return what the library makes of a request, as s16 that is not rounded."""

    def infer(folder, engine, text, seed, speaker=None, language=None, length_scale=1.0):
        model = load_original(folder)
        names = model.language_manager.language_names
        ids = model.tokenizer.text_to_ids(text, language=language or names[0])
        noise = SameNoise(seed)
        if not model.args.use_sdp:
            noise.randn(1, 2, len(ids))  # drawn by us in any case
        monkeypatch.setattr(vits_module, "torch", noise)
        monkeypatch.setattr(durations_module, "torch", noise)
        model.length_scale = length_scale
        number = None if speaker is None else torch.tensor([speaker])
        tongue = None if language is None else torch.tensor([model.language_manager.name_to_id[language]])
        aux = {"x_lengths": torch.tensor([len(ids)]), "speaker_ids": number, "language_ids": tongue}
        if model.args.use_d_vector_file:
            aux["d_vectors"] = torch.tensor(model.speaker_manager.get_mean_embedding("Vector 1"))[
                None
            ].float()
        made = model.inference(torch.tensor(ids)[None], aux)["model_outputs"][0, 0]
        return (made * 32767).numpy()

    return infer


def furthest(mine: Any, theirs: Any) -> float:
    assert len(mine) == len(theirs)
    return float(abs(mine - theirs).max())


@pytest.mark.parametrize("kind", MODELS)
def test_every_kind_of_model_speaks_as_the_library_has_it(make_model, original, kind):
    folder = make_model(**MODELS[kind])
    engine = load(folder, "en")
    for seed, text in enumerate(TEXTS):
        speaker = 1 if MODELS[kind].get("speakers") else None
        vector = "vector_1" if MODELS[kind].get("vectors") else ""
        language = "en" if MODELS[kind].get("languages") else None
        variant = "-".join(([f"speaker_{speaker}"] if speaker else []) + ([language] if language else []))
        mine, _ = speak(engine, text, seed=seed, variant=vector or variant)
        theirs = original(folder, engine, text, seed, speaker, language)
        assert furthest(mine, theirs) <= ROUNDED, text


@pytest.mark.parametrize(
    "options", [{"first_frames": 4, "window_frames": 4}, {"first_frames": 7}, {"first_frames": 200}]
)
def test_any_window_gives_the_same(make_model, original, options):
    folder = make_model(**MODELS["usual decoder"])
    engine = load(folder, **options)
    mine, _ = speak(engine, SENTENCE, seed=3)
    assert furthest(mine, original(folder, engine, SENTENCE, 3)) <= ROUNDED


@pytest.mark.parametrize("kind", ["drawn durations", "speakers and languages", "usual decoder"])
def test_any_batch_gives_the_same(make_model, kind):
    engine = load(make_model(**MODELS[kind]), "en", max_batch=16)
    draw = random.Random(5)
    variants = [variant.name for variant in engine.capabilities.variants] or [""]
    requests = [
        {
            "text": SENTENCE[: draw.randint(1, len(SENTENCE))].strip(),
            "seed": number,
            "variant": draw.choice(variants),
            "speed": draw.choice((0.7, 1.0, 1.9)),
        }
        for number in range(13)
    ]
    alone = [speak(engine, **request) for request in requests]
    batch = together(engine, [begin(engine, **request) for request in requests])
    for (one, words), (other, other_words) in zip(alone, batch, strict=True):
        assert words == other_words
        # Rounding may fall to either side, so a whole step of s16 is what the bound comes to.
        assert furthest(one.astype(int), other.astype(int)) <= 1


def test_padding_in_a_batch_stays_within_the_bound(make_model):
    """The stages by themselves, in fp32: no rounding hides anything."""
    engine = load(make_model(**MODELS["usual decoder"]))
    decoder = engine._model.decoder
    draw = torch.Generator().manual_seed(0)
    lengths = [3, 60, 31, 1, 54]
    latent = [torch.randn(engine._model.channels, length, generator=draw) for length in lengths]
    with torch.inference_mode():
        whole = [decoder._decoder(frames[None])[0, 0] for frames in latent]
        for first, size in ((True, 9), (False, 9), (False, 26)):
            plan = decoder.plan(size, first=first)
            start = 0 if first else 26
            taking = [number for number, length in enumerate(lengths) if length > start]
            stack = torch.full(
                (len(taking), engine._model.channels, plan.frames.end - plan.frames.start), 7.0
            )
            for row, number in enumerate(taking):
                for place, frame in enumerate(range(start + plan.frames.start, start + plan.frames.end)):
                    if 0 <= frame < lengths[number]:
                        stack[row, :, place] = latent[number][:, frame]
            room = torch.tensor([(start, lengths[number] - start) for number in taking])
            made = decoder.decode(stack, room, None, plan)
            for row, number in enumerate(taking):
                count = min(size, lengths[number] - start) * decoder.hop
                theirs = whole[number][start * decoder.hop :][:count]
                assert (made[row, :count] - theirs).abs().max() <= BOUND


def test_the_context_is_all_that_a_window_needs_and_no_more(make_model):
    """What is not a number shows how far it reaches."""
    decoder = load(make_model(**MODELS["usual decoder"]))._model.decoder
    assert decoder.context == 13
    for at, reaches in ((26, False), (27, True), (62, True), (63, False)):
        frames = torch.zeros(1, 32, 80)
        frames[:, :, at] = torch.nan
        with torch.inference_mode():
            middle = decoder._decoder(frames)[0, 0, 40 * 256 : 50 * 256]
        assert bool(middle.isnan().any()) == reaches, at


def test_lengths_that_do_not_fit_are_refused(make_model, load_original):
    decoder = load_original(make_model()).waveform_decoder
    decoder.ups[0].padding = (3,)
    with pytest.raises(ValueError, match="lengths do not fit"):
        WindowedDecoder(decoder)


def test_bf16_of_the_decoder_stays_within_its_bound(make_model):
    folder = make_model(**MODELS["usual decoder"])
    exact, words = speak(load(folder), SENTENCE, seed=3)
    half, half_words = speak(load(folder, precision="bf16"), SENTENCE, seed=3)
    assert half_words == words  # lengths are found in fp32
    distance = (half.astype(float) - exact) / 32767
    assert 0 < abs(distance).max() <= BF16_BOUND
    signal = (exact.astype(float) / 32767).std()
    assert signal / distance.std() >= 10 ** (BF16_SNR_DB / 20)


def test_speed_is_each_request_s_own(make_model, original):
    folder = make_model(stochastic=True)
    engine = load(folder)
    slow, fast = together(
        engine, [begin(engine, SENTENCE, seed=1, speed=0.5), begin(engine, SENTENCE, seed=1, speed=2)]
    )
    assert len(slow[0]) > 2 * len(fast[0])
    for (mine, _), scale in ((slow, 2.0), (fast, 0.5)):
        assert furthest(mine, original(folder, engine, SENTENCE, 1, length_scale=scale)) <= ROUNDED
    assert furthest(speak(engine, SENTENCE, seed=1)[0], original(folder, engine, SENTENCE, 1)) <= ROUNDED


def test_every_step_can_be_prepared(make_model):
    engine = load(make_model(speakers=2), max_batch=4)
    steps = engine.steps()
    assert Step(FIRST, 26) in steps
    assert [step.size for step in steps if step.stage == WINDOW] == list(Grid().sizes)
    for step in steps:
        assert engine.batch_limit(step) in (1, 4)
        for batch in {1, engine.batch_limit(step)}:
            engine.prepare(step, batch)
    assert engine.open(SpeakRequest("Hello", "speaker_0")).step in steps
