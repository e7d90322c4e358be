"""`voicemesh doctor`: what it says of extras."""

import pytest

from voicemesh.cli import doctor
from voicemesh.cli.findings import MISSING, NOTE, OK

PIPER = '[{"name": "a", "engine": "piper"}]'


@pytest.mark.parametrize(("voices", "state"), [("", NOTE), (PIPER, MISSING), ('[{"engine": "coqui"}]', NOTE)])
def test_piper_matters_where_a_voice_needs_it(monkeypatch, voices, state):
    monkeypatch.setenv("VOICEMESH_TTS_VOICES", voices)
    monkeypatch.setattr(doctor, "_version", lambda name: "1.26" if name == "onnxruntime" else "")
    check = doctor._piper()
    assert check.state == state
    assert check.detail.endswith("not installed: piper-tts")
    assert "voicemesh[piper]" in check.fix


def test_piper_is_told_with_its_versions(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda name: {"piper-tts": "1.8", "onnxruntime": "1.26"}[name])
    check = doctor._piper()
    assert (check.state, check.detail) == (OK, "piper-tts 1.8, onnxruntime 1.26")
