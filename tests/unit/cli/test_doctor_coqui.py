"""What `voicemesh doctor` says of voices of Coqui TTS."""

import subprocess
from typing import Any

import pytest

from voicemesh.cli import doctor_coqui
from voicemesh.cli.findings import MISSING, NOTE, OK, Check

VOICES = '[{"name": "a", "engine": "coqui"}]'
FOUND: dict[str, Any] = {"torch": "2.13.0", "built_for": None, "devices": [], "torchaudio": ""}


def look(monkeypatch: pytest.MonkeyPatch, installed: list[str], found: Any = None) -> dict[str, Check]:
    def probe():
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(doctor_coqui, "_version", lambda name: "1.0" if name in installed else "")
    monkeypatch.setattr(doctor_coqui, "_probe", probe)
    return {check.name: check for check in doctor_coqui.coqui_checks()}


@pytest.mark.parametrize(("voices", "state"), [("", NOTE), (VOICES, MISSING), ("[", NOTE), ("[1]", NOTE)])
def test_an_extra_that_is_missing_matters_where_a_voice_needs_it(monkeypatch, voices, state):
    monkeypatch.setenv("VOICEMESH_TTS_VOICES", voices)
    (check,) = look(monkeypatch, ["torch", "six"]).values()
    assert check.state == state
    assert "not installed: coqui-tts, torchaudio" in check.detail
    assert "make setup-coqui" in check.fix


ALL = ["coqui-tts", "torch", "torchaudio", "six", "espeakng-loader"]


def test_a_gpu_is_named(monkeypatch):
    checks = look(monkeypatch, ALL, {**FOUND, "devices": ["NVIDIA H200"], "built_for": "13.0"})
    assert checks["coqui device"].detail == "NVIDIA H200"
    assert {check.state for check in checks.values()} == {OK}


def test_a_cpu_is_enough_and_what_is_left_out_is_said(monkeypatch):
    checks = look(monkeypatch, ALL[:-1], {**FOUND, "torchaudio": "libcudart.so.13: cannot open"})
    assert "run on the CPU" in checks["coqui device"].detail
    assert checks["coqui torchaudio"].state == OK
    assert "libcudart" in checks["coqui torchaudio"].detail
    assert checks["coqui phonemes"].state == NOTE
    no_driver = look(monkeypatch, ALL, {**FOUND, "built_for": "13.0"})["coqui device"]
    assert "finds no device" in no_driver.detail
    assert "nvidia-smi" in no_driver.fix


def test_a_torch_that_does_not_load_is_said(monkeypatch):
    error = subprocess.CalledProcessError(
        1, "python", stderr="Traceback …\nImportError: libc10.so: no such file\n"
    )
    check = look(monkeypatch, ALL, error)["coqui torch"]
    assert check.state == NOTE
    assert "ImportError: libc10.so" in check.detail
