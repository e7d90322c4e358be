import pytest

from services.tts.settings import TtsSettings
from voicemesh.runtime.errors import SettingsError
from voicemesh.runtime.settings import describe, load


def test_one_voice_with_two_replicas_is_declared_by_default():
    (voice,) = load(TtsSettings).tts_voices
    assert (voice.name, voice.engine, voice.replicas, voice.language) == ("espeak", "espeak", 2, "en-us")


def test_voices_come_from_json_and_can_be_printed(monkeypatch):
    monkeypatch.setenv(
        "VOICEMESH_TTS_VOICES", '[{"name": "sim", "engine": "simulated", "options": {"rtf": 0.1}}]'
    )
    monkeypatch.setenv("VOICEMESH_TTS_BUFFER_S", "12")
    settings = load(TtsSettings)
    assert settings.tts_voices[0].spec().options == {"rtf": 0.1}
    assert settings.limits().buffer_s == 12
    assert describe(settings)["VOICEMESH_TTS_VOICES"][0]["name"] == "sim"


def test_an_engine_may_be_named_by_its_class(monkeypatch):
    monkeypatch.setenv("VOICEMESH_TTS_VOICES", '[{"name": "own", "engine": "my_voices.neural:Engine2"}]')
    assert load(TtsSettings).tts_voices[0].spec().engine == "my_voices.neural:Engine2"


def test_a_voice_sets_its_pauses(monkeypatch):
    declared = '[{"name": "a", "engine": "espeak", "pauses_ms": {"clause": 90}, "trim_silence": true}]'
    monkeypatch.setenv("VOICEMESH_TTS_VOICES", declared)
    spec = load(TtsSettings).tts_voices[0].spec()
    assert (spec.pauses_ms, spec.trim_silence) == ({"clause": 90}, True)


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("VOICEMESH_TTS_VOICES", '[{"name": "a/b", "engine": "espeak"}]', "must be 1 to 64 of a-z"),
        ("VOICEMESH_TTS_VOICES", '[{"name": "a", "engine": "none"}]', "or a class as package.module:Class"),
        ("VOICEMESH_TTS_VOICES", '[{"name": "a", "engine": "my-engine:It"}]', "package.module:Class"),
        (
            "VOICEMESH_TTS_VOICES",
            '[{"name": "a", "engine": "espeak", "replica": 2}]',
            "voice 'a': replica: there is no such field; did you mean replicas?",
        ),
        (
            "VOICEMESH_TTS_VOICES",
            '[{"name": "a", "engine": "espeak", "breaker": {"failure": 2}}]',
            "voice 'a': breaker.failure: there is no such field; did you mean failures?",
        ),
        (
            "VOICEMESH_TTS_VOICES",
            '[{"name": "a", "engine": "espeak", "zzz": 2}]',
            "zzz: there is no such field",
        ),
        ("VOICEMESH_TTS_VOICES", '[{"engine": "espeak"}]', "voice number 1: name: Field required"),
        (
            "VOICEMESH_TTS_VOICES",
            '[{"name": "a", "engine": "espeak", "pauses_ms": {"comma": 9}}]',
            "there are paragraph, exclamation, sentence",
        ),
        (
            "VOICEMESH_TTS_VOICES",
            '[{"name": "a", "engine": "espeak", "pauses_ms": {"clause": 9000}}]',
            "less than or equal to 5000",
        ),
        ("VOICEMESH_TTS_VOICES", "[]", "at least 1 item"),
        ("VOICEMESH_TTS_VOICES", "[{", "not valid JSON"),
        (
            "VOICEMESH_TTS_VOICES",
            '[{"name": "a", "engine": "espeak"}, {"name": "a", "engine": "espeak"}]',
            "same name",
        ),
        ("VOICEMESH_TTS_DEFAULT_VOICE", "nobody", "must be one of espeak"),
        ("VOICEMESH_TTS_STALL_TIMEOUT_S", "0", "greater than 0"),
    ],
)
def test_wrong_values_are_named(monkeypatch, variable, value, says):
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load(TtsSettings)
    assert variable in str(caught.value)
    assert says in str(caught.value)


def test_what_follows_from_a_wrong_voice_is_not_said(monkeypatch):
    monkeypatch.setenv("VOICEMESH_TTS_VOICES", '[{"name": "a", "engine": "espeak", "replica": 2}]')
    with pytest.raises(SettingsError) as caught:
        load(TtsSettings)
    assert "at least" not in str(caught.value)
