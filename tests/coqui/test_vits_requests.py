"""Requests of a VITS: the same again, words, parts of long texts, variants, options, hostile texts."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.tts.engines import coqui
from services.tts.engines.base import CannotSpeakError, OptionsError, OutOfMemoryError, Word
from services.tts.engines.coqui.reading import MAX_TOKENS
from tests.coqui.speaking import SENTENCE, begin, load, samples, speak, together

LONG = " ".join(
    f"Sentence number {number} is about something, and then something else." for number in range(20)
)


@pytest.fixture(scope="module")
def engine(make_model):
    return load(make_model(stochastic=True))


def test_the_same_request_gives_the_same_samples_alone_and_between_others(engine, make_model):
    alone, words = speak(engine, SENTENCE, seed=5)
    assert len(alone) > 22050
    assert not np.array_equal(speak(engine, SENTENCE, seed=6)[0][:5000], alone[:5000])
    others = [begin(engine, f"Other text {seed}, and more of it.", seed=seed) for seed in range(4)]
    mine = begin(engine, SENTENCE, seed=5)
    between = together(engine, [*others[:2], mine, *others[2:]], most=1)[2]
    assert np.array_equal(between[0], alone)
    assert between[1] == words
    fresh = load(make_model(stochastic=True))
    assert fresh.capabilities == engine.capabilities
    assert fresh.capabilities.deterministic
    assert np.array_equal(speak(fresh, SENTENCE, seed=5)[0], alone)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.99, 1.0, 3.0])
@pytest.mark.parametrize("text", [SENTENCE, LONG])
def test_what_is_left_out_changes_nothing_behind_it(engine, text, share):
    whole, _ = speak(engine, text, seed=2)
    utterance = begin(engine, text, seed=2)
    wanted = round(len(whole) * share)
    assert utterance.skip_to(wanted) == 0  # no length is known yet
    at, heard, skipped = 0, [], 0
    while utterance.step is not None:
        goes_on = utterance.skip_to(wanted)
        assert at <= goes_on <= max(at, wanted)
        skipped += goes_on - at
        at = goes_on
        assert utterance.step is not None
        engine.run([utterance])
        pcm, _ = utterance.take()
        heard.append((at, samples(pcm)))
        at += len(pcm) // 2
    assert at == len(whole)
    for start, made in heard:
        assert np.array_equal(made, whole[start : start + len(made)])
    assert bool(skipped) == (wanted >= 26 * 256)


@pytest.mark.parametrize("stage", ["text", "flow", "window"])
@pytest.mark.parametrize("most", [1, 8])
def test_a_step_that_did_not_fit_is_taken_again_as_if_it_had_not_been(make_model, monkeypatch, stage, most):
    """Also where memory ends behind the computation, while results are handed out."""
    engine = load(make_model(stochastic=True), max_batch=8)
    texts = [SENTENCE, "And another one.", LONG]
    alone = [speak(engine, text, seed=7) for text in texts]
    utterances = [begin(engine, text, seed=7) for text in texts]
    calls = 0

    def does_not_fit(holder: Any, name: str) -> None:
        function = getattr(holder, name)

        def fail_every_other_time(*args, **values):
            nonlocal calls
            calls += 1
            if calls % 2:
                raise torch.OutOfMemoryError("there is no more")
            return function(*args, **values)

        monkeypatch.setattr(holder, name, fail_every_other_time)

    if stage == "text":
        does_not_fit(torch, "repeat_interleave")
    elif stage == "flow":
        does_not_fit(engine._model, "flow")
    else:
        does_not_fit(engine._model.decoder, "decode")
    run, failed = engine.run, 0

    def run_again(batch):
        nonlocal failed
        for _ in range(20):
            before = [one.step for one in batch]
            try:
                return run(batch)
            except OutOfMemoryError:
                failed += 1
                assert [one.step for one in batch] == before  # none has advanced
                batch[:] = batch[: max(1, len(batch) // 2)]
        raise AssertionError("it never fits")

    monkeypatch.setattr(engine, "run", run_again)
    made = together(engine, utterances, most)
    assert failed >= 2
    for (mine, words), (theirs, their_words) in zip(made, alone, strict=True):
        assert words == their_words
        assert len(mine) == len(theirs)
        assert abs(mine.astype(int) - theirs.astype(int)).max() <= (1 if most > 1 else 0)


def test_what_a_model_leaves_out_at_the_end_of_a_part_is_not_counted(make_model):
    """A part with more frames than the model is configured to speak, and one that goes on behind it."""
    engine = load(make_model(max_inference_len=40))
    whole, words = speak(engine, LONG, seed=2)
    parts = begin(engine, LONG, seed=2)._parts
    assert len(whole) == len(parts) * 40 * 256
    assert all(word.offset_samples < len(whole) for word in words)
    assert [word.offset_samples for word in words] == sorted(word.offset_samples for word in words)
    for wanted in (256 * 45, 256 * 80, 256 * 100):
        utterance = begin(engine, LONG, seed=2)
        at, timed = 0, list[Word]()
        while utterance.step is not None:
            at = utterance.skip_to(wanted)
            if utterance.step is None:
                break
            engine.run([utterance])
            pcm, more = utterance.take()
            made, timed = samples(pcm), timed + more
            assert np.array_equal(made, whole[at : at + len(made)])
            at += len(made)
        assert at == len(whole)
        assert timed == words


def test_words_are_those_of_the_text_in_order(engine):
    for text in (SENTENCE, LONG, "One", "It's “quoted” — and - dashed…"):
        made, words = speak(engine, text, seed=1)
        spans = [(word.text_offset, word.text_offset + word.text_length) for word in words]
        spoken = [text[start:end] for start, end in spans]
        assert spoken == [word for word in spoken if word.strip()]
        assert spans == sorted(spans)
        times = [word.offset_samples for word in words]
        assert times == sorted(times)
        assert times[-1] < len(made)
        assert len(words) >= len([word for word in text.split() if word.isalpha()])


def test_a_word_is_heard_where_its_tokens_are(engine):
    """The one word that differs moves no word in front of it, and begins where it did."""
    utterance = begin(engine, SENTENCE, seed=1)
    part = utterance.part
    assert all(part.ids[index] != part.ids[0] for index, _, _ in part.words)  # at a letter, no blank
    letters = [engine._model.tokenizer.decode([part.ids[index]]) for index, _, _ in part.words]
    assert letters == [SENTENCE[offset].lower() for _, offset, _ in part.words]


def test_a_long_text_is_read_in_parts_and_every_word_once(engine):
    parts = begin(engine, LONG, seed=1)._parts
    assert len(parts) > 3
    assert all(len(part.ids) <= MAX_TOKENS for part in parts)
    offsets = [offset for part in parts for _, offset, _ in part.words]
    assert offsets == sorted(set(offsets))
    assert [LONG[offset:].split()[0].strip(".,") for offset in offsets] == [
        word.strip(".,") for word in LONG.split() if not word.isdigit()
    ]
    # Cut where a sentence ends.
    assert all(LONG[part.words[0][1] :].startswith("Sentence") for part in parts)


@pytest.mark.parametrize("text", ["", " ", "\n\n", "...", "?!", "—", "“ ”", "<", "((", "\u200b", "\x00\x01"])
def test_nothing_to_say_has_no_step(engine, text):
    assert begin(engine, text).step is None
    assert begin(engine, text).take() == (b"", [])


@pytest.mark.parametrize("text", ["你好", "123", "привет"])
def test_letters_that_the_model_does_not_know_are_refused_and_not_passed_over(engine, text):
    with pytest.raises(CannotSpeakError, match="alphabet"):
        begin(engine, text)
    made, words = speak(engine, f"Hello {text} there", seed=1)
    assert [word.text_offset for word in words] == [0, len(f"Hello {text} ")]
    assert len(made)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=60), st.floats(0.25, 4.0), st.integers(0, 2**63 - 1))
def test_any_text_is_spoken_or_refused(engine, text, speed, seed):
    try:
        made, words = speak(engine, text, speed=speed, seed=seed)
    except CannotSpeakError:
        return
    assert len(made) % 256 == 0
    end = heard = 0
    for word in words:
        assert word.text_offset >= end
        assert heard <= word.offset_samples < len(made)
        end, heard = word.text_offset + word.text_length, word.offset_samples
        assert end <= len(text)


def test_a_text_that_the_cleaner_cannot_take_is_spelled(make_model):
    engine = load(make_model(phonemes="en-us"))
    made, words = speak(engine, f"It is {'9' * 300} or so", seed=1)
    assert [word.text_offset for word in words] == [0, 3, 6, 307, 310]
    assert len(made) > 22050 * 5


# ---- voices ---------------------------------------------------------------------------------------


def test_speakers_are_variants(make_model):
    engine = load(make_model(speakers=3), "en-us", speaker="Speaker 1")
    capabilities = engine.capabilities
    assert [variant.name for variant in capabilities.variants] == ["speaker_0", "speaker_1", "speaker_2"]
    assert capabilities.default_variant == "speaker_1"
    assert capabilities.language == "en-US"
    heard = [speak(engine, "Hello there", variant=name, seed=1)[0] for name in ("speaker_0", "speaker_1", "")]
    assert not np.array_equal(heard[0][:1000], heard[1][:1000])
    assert np.array_equal(heard[1], heard[2])


def test_speakers_of_several_languages_are_variants_of_each(make_model):
    engine = load(make_model(speakers=2, languages=("en", "fr-fr"), stochastic=True), "fr")
    names = {variant.name: variant for variant in engine.capabilities.variants}
    assert list(names) == ["speaker_0-en", "speaker_0-fr-fr", "speaker_1-en", "speaker_1-fr-fr"]
    assert engine.capabilities.default_variant == "speaker_0-fr-fr"
    assert names["speaker_1-fr-fr"].language == "fr-FR"
    assert names["speaker_1-fr-fr"].aliases == ("speaker_1",)
    assert names["speaker_1-en"].aliases == ()
    with pytest.raises(OptionsError, match="language: this model has no 'de'; it has en, fr-FR"):
        load(make_model(speakers=2, languages=("en", "fr-fr"), stochastic=True), "de")


def test_the_revision_changes_with_what_is_heard(make_model):
    folder = make_model()
    same = load(folder).capabilities.revision
    assert load(folder, slots=3).capabilities.revision == same
    others = [
        load(make_model(seed=1)),
        load(folder, noise_scale=0.1),
        load(folder, length_scale=1.5),
        load(folder, precision="bf16"),
        load(folder, first_frames=30),
    ]
    assert len({same, *(other.capabilities.revision for other in others)}) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": ""}, "option model: must be a folder"),
        ({"model": "/nowhere"}, "option model: there is no folder /nowhere"),
        ({"device": "tpu"}, "option device: must be cpu, cuda, cuda:N or auto, not 'tpu'"),
        ({"device": "cuda:99"}, "option device: cuda:99 is not there"),
        ({"threads": 0}, "option threads: must be a whole number from 1 to 256, not 0"),
        ({"precision": "fp16"}, "option precision: must be one of fp32, bf16, not 'fp16'"),
        ({"first_frames": 3}, "option first_frames: must be a whole number from 4"),
        ({"first_frames": 50, "window_frames": 40}, "option window_frames: must be a whole number from 50"),
        ({"max_batch": True}, "option max_batch: must be a whole number"),
        ({"noise_scale": -1}, "option noise_scale: must be a number from 0 to 10, not -1"),
        ({"length_scale": float("nan")}, "option length_scale: must be a number from 0.05"),
        ({"speaker": "Ada"}, "option speaker: this model has one speaker and no names, not 'Ada'"),
        ({"speaker": 3}, "option speaker: must be a text, not 3"),
        ({"pitch": 3}, "option pitch: a VITS has the options .*first_frames.*"),
    ],
)
def test_wrong_options_are_named(make_model, options, message):
    with pytest.raises(OptionsError, match=message):
        load(make_model(), **options)


def test_an_unknown_speaker_is_answered_with_those_there_are(make_model):
    with pytest.raises(OptionsError, match="no 'Ada'; it has Speaker 0, Speaker 1, Speaker 2"):
        load(make_model(speakers=3), speaker="Ada")


def test_what_is_wrong_with_a_folder_is_said(make_model, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(OptionsError, match="has no checkpoint"):
        coqui.load("en", {"model": str(tmp_path)})
    (tmp_path / "model.pth").write_bytes((make_model() / "model.pth").read_bytes())
    with pytest.raises(OptionsError, match="does not say which kind"):
        coqui.load("en", {"model": str(tmp_path)})
    other = make_model(speakers=2)
    (tmp_path / "config.json").write_bytes((other / "config.json").read_bytes())
    with pytest.raises(OptionsError, match=r"speaker_ids\.json is missing"):  # though the path leads to one
        load(tmp_path)
    (tmp_path / "speaker_ids.json").write_bytes((other / "speaker_ids.json").read_bytes())
    with pytest.raises(OptionsError, match=r"is not of this config\.json"):
        load(tmp_path)


def test_files_of_another_machine_mean_those_beside_the_configuration(make_model, tmp_path):
    model = make_model(speakers=2)
    config = (model / "config.json").read_text().replace(str(model), "/of/another/machine")
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "model.pth").write_bytes((model / "model.pth").read_bytes())
    with pytest.raises(
        OptionsError, match=r"speaker_ids.json is missing: config.json has it as speakers_file"
    ):
        load(tmp_path)
    (tmp_path / "speaker_ids.json").write_bytes((model / "speaker_ids.json").read_bytes())
    assert len(load(tmp_path).capabilities.variants) == 2


def test_a_checkpoint_that_runs_code_is_not_loaded(make_model, tmp_path):
    import pickle

    class Harm:
        def __reduce__(self):
            return (tmp_path.joinpath("harm").write_text, ("done",))

    (tmp_path / "config.json").write_bytes((make_model() / "config.json").read_bytes())
    (tmp_path / "model.pth").write_bytes(pickle.dumps({"model": Harm()}))
    with pytest.raises(Exception, match=r"weights_only|Weights only"):
        load(tmp_path)
    assert not (tmp_path / "harm").exists()
