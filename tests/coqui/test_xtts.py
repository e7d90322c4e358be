"""XTTS held against the library's own loops, on random weights."""

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from services.tts.engines.base import CannotSpeakError, OptionsError, SpeakRequest, Step
from services.tts.engines.coqui import load
from services.tts.engines.coqui.library import load_library
from services.tts.engines.coqui.model_files import find_model
from services.tts.engines.coqui.xtts import XttsEngine
from services.tts.engines.coqui.xtts_decoder import Windows, XttsDecoder
from services.tts.engines.coqui.xtts_gpt import XttsGpt
from services.tts.engines.coqui.xtts_model import LoadedXtts, load_xtts
from tests.coqui.random_xtts import make_xtts, write_clip

TEXT = "The quick brown fox, and then the lazy dog."
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_xtts(tmp_path_factory.mktemp("xtts"), speakers=2)
    write_clip(made / "clip.wav")
    return made


@pytest.fixture
def loaded(folder: Path) -> LoadedXtts:
    load_library()
    return load_xtts(folder, folder / "config.json", None)


@pytest.fixture(scope="module")
def engine(folder: Path) -> XttsEngine:
    return open_engine(folder, speaker_wav=str(folder / "clip.wav"), slots=4)


def open_engine(folder: Path, language: str = "en-us", **options: Any) -> XttsEngine:
    found = load(language, {"model": str(folder), "device": "cpu", "threads": 1, **options})
    assert isinstance(found, XttsEngine)
    return found


def speak(engine: XttsEngine, text: str, **values: Any) -> bytes:
    utterance = engine.open(SpeakRequest(text, values.pop("variant", "en"), **values))
    parts = []
    while utterance.step is not None:
        engine.run([utterance])
        parts.append(utterance.take()[0])
    return b"".join(parts)


def own_gpt(loaded: LoadedXtts, *, together: bool = False, dtype: torch.dtype = torch.float32) -> XttsGpt:
    return XttsGpt(loaded.model.gpt, speaker_length=32, slots=5, dtype=dtype, device=CPU, together=together)


def greedy(gpt: XttsGpt, slot: int, speaker: torch.Tensor, text: list[int]) -> tuple[list[int], torch.Tensor]:
    tokens, latents = [], []
    scores = gpt.begin(slot, speaker, text, 50, 10.0)
    while True:
        latents.append(scores.latent)
        tokens.append(scores.tokens[0])
        if tokens[-1] == gpt.stop_token or len(tokens) == gpt.most_tokens:
            return tokens, torch.stack(latents)
        scores = gpt.advance({slot: tokens[-1]}, 50, 10.0)[slot]


# ---- the GPT --------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["one", TEXT, "a longer text " * 15])
def test_tokens_and_latents_are_those_of_the_library(loaded: LoadedXtts, text: str) -> None:
    model = loaded.model
    ids = model.tokenizer.encode(text, lang="en")
    speaker = torch.randn(1, 32, 64)
    tokens, latents = greedy(own_gpt(loaded), 1, speaker[0], ids)
    model.gpt.init_gpt_for_inference()
    with torch.inference_mode():
        theirs = model.gpt.generate(speaker, torch.tensor([ids]), do_sample=False, repetition_penalty=10.0)
        assert tokens == theirs[0].tolist()
        generator = model.gpt.get_generator(
            fake_inputs=model.gpt.compute_embeddings(speaker, torch.tensor([ids])),
            top_k=1,  # the library's stream always draws
            do_sample=True,
            num_beams=1,
            num_return_sequences=1,
            repetition_penalty=10.0,
            output_hidden_states=True,
            return_dict_in_generate=True,
        )
        streamed = list(generator)
    assert tokens == [int(token) for token, _ in streamed]
    assert tokens[-1] == model.gpt.stop_audio_token
    error = (torch.cat([latent for _, latent in streamed]) - latents).abs().max()
    assert float(error) <= 1e-5


def test_a_row_does_not_depend_on_what_is_beside_it(loaded: LoadedXtts) -> None:
    model = loaded.model
    speaker = torch.randn(3, 32, 64)
    texts = [model.tokenizer.encode(text, lang="en") for text in ("one", TEXT, "two words")]
    alone = [greedy(own_gpt(loaded, together=True), 0, speaker[n], texts[n]) for n in range(3)]
    gpt = own_gpt(loaded, together=True)
    slots = {4: 0, 1: 1, 2: 2}  # where each is, in an order of its own
    found: dict[int, list[Any]] = {}
    tokens: dict[int, list[int]] = {}
    for slot, number in slots.items():
        scores = gpt.begin(slot, speaker[number], texts[number], 50, 10.0)
        found[number], tokens[number] = [scores.latent], [scores.tokens[0]]
    while going := {s: tokens[n][-1] for s, n in slots.items() if tokens[n][-1] != gpt.stop_token}:
        for slot, scores in gpt.advance(going, 50, 10.0).items():
            found[slots[slot]].append(scores.latent)
            tokens[slots[slot]].append(scores.tokens[0])
    for number in range(3):
        assert tokens[number] == alone[number][0]
        assert torch.equal(torch.stack(found[number]), alone[number][1])


# ---- the decoder ----------------------------------------------------------------------------------


@pytest.mark.parametrize("speed", [1.0, 1.37, 0.25, 4.0])
def test_windows_are_what_decoding_the_whole_gives(loaded: LoadedXtts, speed: float) -> None:
    latents, speaker = torch.randn(300, 64), torch.randn(1, 512, 1)
    decoder = XttsDecoder(loaded.model.hifigan_decoder, 602)
    with torch.inference_mode():
        stretched = latents[None].transpose(1, 2)
        if speed != 1:
            stretched = torch.nn.functional.interpolate(stretched, scale_factor=1 / speed, mode="linear")
        whole = loaded.model.hifigan_decoder(stretched.transpose(1, 2), g=speaker)[0, 0]
    stretches = decoder.stretches(speed)
    windows, parts = Windows(stretches, decoder.context), []
    for count in range(1, len(latents) + 1):
        while bounds := windows.ready(count, complete=count == len(latents)):
            # Only what is there by then goes in.
            parts.append(decoder.window(stretches, latents[:count], bounds, speaker))
            windows.passed(bounds)
    joined = torch.cat(parts)
    assert joined.shape == whole.shape
    assert float((joined - whole).abs().max()) <= 1e-5


def test_the_context_is_as_long_as_it_must_be(loaded: LoadedXtts) -> None:
    decoder = XttsDecoder(loaded.model.hifigan_decoder, 602)
    draw = torch.Generator().manual_seed(0)
    frames, speaker = torch.randn(64, 200, generator=draw), torch.randn(1, 512, 1, generator=draw)
    whole = decoder.decode(frames, speaker)

    def error(context: int) -> float:
        part = decoder.decode(frames[:, 80 - context : 100 + context], speaker)
        hop = decoder.hop
        return float((part[context * hop : -context * hop] - whole[80 * hop : 100 * hop]).abs().max())

    assert error(decoder.context) <= 1e-5
    assert error(decoder.context // 2) > 2e-5


def test_the_work_of_decoding_grows_with_the_length_and_no_faster(loaded: LoadedXtts) -> None:
    decoder = XttsDecoder(loaded.model.hifigan_decoder, 602)

    def frames_decoded(tokens: int) -> int:
        windows = Windows(decoder.stretches(1.0), decoder.context)
        decoded = 0
        for count in range(1, tokens + 1):
            while bounds := windows.ready(count, complete=count == tokens):
                decoded += bounds[1] - bounds[0] + 2 * decoder.context
                windows.passed(bounds)
        return decoded

    assert frames_decoded(600) < 2.1 * frames_decoded(300) < 4.3 * frames_decoded(150)


# ---- the engine -----------------------------------------------------------------------------------


def test_a_request_has_the_same_samples_alone_and_among_others(engine: XttsEngine, folder: Path) -> None:
    requests = [
        SpeakRequest(f"Request number {n} says this.", "en", seed=n, speed=(1, 0.8, 1.5)[n % 3])
        for n in range(4)
    ]
    alone = [speak(engine, r.text, seed=r.seed, speed=r.speed) for r in requests]
    assert len(set(alone)) == len(alone)
    utterances = [engine.open(request) for request in requests]
    heard = [b""] * len(requests)
    torch.manual_seed(1)  # nobody looks at it
    for turn in itertools.count():
        going = [n for n, utterance in enumerate(utterances) if utterance.step is not None]
        if not going:
            break
        number = going[turn * 7 % len(going)]
        engine.run([utterances[number]])
        heard[number] += utterances[number].take()[0]
    assert heard == alone
    other = open_engine(folder, speaker_wav=str(folder / "clip.wav"))
    assert speak(other, requests[2].text, seed=2, speed=1.5) == alone[2]
    assert other.capabilities.revision == engine.capabilities.revision


def test_another_seed_says_it_otherwise(engine: XttsEngine) -> None:
    assert speak(engine, TEXT, seed=1) != speak(engine, TEXT, seed=2)


def test_windows_before_a_sample_are_left_out_and_the_rest_is_the_same(engine: XttsEngine) -> None:
    text = "First of all, a sentence that is not short. " * 12
    whole = speak(engine, text, seed=4)
    for sample in (0, 5000, len(whole) // 4, len(whole) // 2 - 10, len(whole) // 2, 10**9):
        utterance = engine.open(SpeakRequest(text, "en", seed=4))
        decoded, at, rest = 0, utterance.skip_to(sample), b""
        while utterance.step is not None:
            decoded += utterance.step.stage == "decode"
            engine.run([utterance])
            pcm = utterance.take()[0]
            if utterance.step is not None:
                gone = at + len(rest + pcm) // 2
                goes_on = utterance.skip_to(sample)
                assert goes_on >= gone
                if goes_on > gone:
                    rest, pcm, at = b"", b"", goes_on
            rest += pcm
        assert at <= max(sample, 0)
        assert rest == whole[2 * at :]
        assert rest
        if sample > len(whole) // 4:
            assert decoded <= 4


def test_slots_come_back_from_utterances_that_are_dropped(engine: XttsEngine) -> None:
    for _ in range(3 * engine.capabilities.slots):
        utterance = engine.open(SpeakRequest(TEXT, "en"))
        engine.run([utterance])
        assert utterance.step == Step("tokens", 1)
        del utterance
    assert speak(engine, TEXT, seed=1) == speak(engine, TEXT, seed=1)


def test_every_step_can_be_prepared_while_others_speak(engine: XttsEngine) -> None:
    before = speak(engine, TEXT, seed=3)
    utterance = engine.open(SpeakRequest(TEXT, "en", seed=3))
    heard = b""
    steps = [*engine.steps()]
    while utterance.step is not None:
        assert utterance.step in engine.steps()
        assert engine.batch_limit(utterance.step) == 1
        engine.run([utterance])
        heard += utterance.take()[0]
        if steps:
            engine.prepare(steps.pop(), 1)
    assert heard == before


def test_a_text_beyond_the_limit_is_spoken_piece_by_piece(engine: XttsEngine) -> None:
    short = engine.open(SpeakRequest("word " * 49, "en"))
    long = engine.open(SpeakRequest("word " * 201, "en"))
    texts = []
    for utterance in (short, long):
        count = 0
        while utterance.step is not None:
            count += utterance.step.stage == "text"
            engine.run([utterance])
        texts.append(count)
    assert texts == [1, 5]


@pytest.mark.parametrize(
    "text",
    [
        "9" * 300,
        "3." + "9" * 40,
        "$" + "1" * 30,
        "1" * 15,
        "[STOP] [START] [de] hello",
        "a" * 3000,
        "Dr. 12.5% & co.",
    ],
)
def test_numbers_marks_and_brackets_are_spoken_and_harm_nothing(engine: XttsEngine, text: str) -> None:
    assert len(speak(engine, text, seed=1, speed=4.0)) > 1000


def test_marks_of_the_tokenizer_in_a_text_are_not_obeyed(engine: XttsEngine) -> None:
    assert speak(engine, "hello [STOP] you", seed=1) == speak(engine, "hello  STOP  you", seed=1)


def test_letters_that_the_model_does_not_know_are_refused_and_nothing_is_nothing(engine: XttsEngine) -> None:
    with pytest.raises(CannotSpeakError, match="none of the letters"):
        engine.open(SpeakRequest("ᚠᚢᚦ ᐁᐂ", "en"))
    for text in ("", " ", "...", "\u200b", "?!"):
        assert engine.open(SpeakRequest(text, "en")).step is None


def test_languages_are_variants_with_their_limits(engine: XttsEngine) -> None:
    told = engine.capabilities
    assert (told.default_variant, told.language, told.max_chars) == ("en", "en", 250)
    by_name = {variant.name: variant for variant in told.variants}
    assert by_name["de"].max_chars == 253
    assert "ja" not in by_name  # its packages are not installed
    assert speak(engine, TEXT, seed=1, variant="de") != speak(engine, TEXT, seed=1, variant="en")


def test_speakers_of_the_model_are_variants(folder: Path) -> None:
    engine = open_engine(folder, "de")
    names = [variant.name for variant in engine.capabilities.variants]
    assert names[0] == engine.capabilities.default_variant == "speaker-number0-de"
    assert engine.capabilities.variants[0].aliases == ("speaker-number0",)
    assert "speaker-number1-en" in names
    first, second = (speak(engine, TEXT, seed=1, variant=f"speaker-number{n}-en") for n in (0, 1))
    assert first != second
    alone = open_engine(folder, "de", speaker="Speaker Number1")
    assert alone.capabilities.default_variant == "de"
    assert speak(alone, TEXT, seed=1, variant="en") == second


def test_audio_that_is_no_number_is_a_broken_engine(folder: Path) -> None:
    engine = open_engine(folder, speaker="Speaker Number0")
    weight = engine._decoder._generator.conv_post.weight
    weight.fill_(float("nan"))
    with pytest.raises(RuntimeError, match="NaN"):
        speak(engine, TEXT)


def test_half_precision_draws_mostly_the_same_tokens(loaded: LoadedXtts) -> None:
    """How often the likeliest token is another in bfloat16, given the same past. See docs/xtts.md."""
    ids = loaded.model.tokenizer.encode(TEXT, lang="en")
    speaker = torch.randn(32, 64)
    exact, half = own_gpt(loaded), own_gpt(loaded, dtype=torch.bfloat16)
    one, other = exact.begin(0, speaker, ids, 50, 10.0), half.begin(0, speaker, ids, 50, 10.0)
    same = []
    for _ in range(60):
        same.append(one.tokens[0] == other.tokens[0])
        assert float((one.latent - other.latent).abs().max()) < 0.2
        one, other = (gpt.advance({0: one.tokens[0]}, 50, 10.0)[0] for gpt in (exact, half))
    assert sum(same) >= 0.8 * len(same)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp16"}, "option precision: fp16 is for CUDA"),
        ({"precision": "int8"}, "option precision: must be one of fp32, fp16, bf16"),
        ({"temperature": -1}, "option temperature: must be a number from 0 to 10"),
        ({"top_k": 0}, "option top_k: must be a whole number from 1"),
        ({"slots": 0}, "option slots"),
        ({"speaker": "Nobody"}, "option speaker: 'Nobody' is not in the model; it has Speaker Number0"),
        ({"speaker": "a", "speaker_wav": "b"}, "not both"),
        ({"speaker_wav": 7}, "option speaker_wav: must be a text or a list of texts"),
        ({"speaker_wav": "/nowhere.wav"}, "option speaker_wav: there is no file /nowhere.wav"),
        ({"speeker": "x"}, "option speeker: a model of XTTS has the options"),
    ],
)
def test_wrong_options_are_named(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError, match=re.escape(message)):
        open_engine(folder, **options)


@pytest.mark.parametrize(
    ("language", "message"),
    [
        ("ja", "language: ja needs packages that are missing: pip install 'coqui-tts[ja]'"),
        ("zh", "language: zh-cn needs packages that are missing: pip install 'coqui-tts[zh]'"),
        ("xx", "language: the model has no 'xx'; it has en, es"),
    ],
)
def test_a_language_that_cannot_be_spoken_is_said_at_the_start(
    folder: Path, language: str, message: str
) -> None:
    with pytest.raises(OptionsError, match=re.escape(message)):
        open_engine(folder, language, speaker="Speaker Number0")


def test_a_model_is_found_by_its_config(folder: Path) -> None:
    assert find_model({"model": str(folder)}).kind == "xtts"
