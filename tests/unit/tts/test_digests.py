"""A model that is not the one that was declared is not loaded."""

import hashlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.tts.engines.base import OptionsError
from services.tts.engines.digests import check_digests
from services.tts.engines.model_json import MOST_BYTES, beside, read_object
from services.tts.settings import TtsSettings
from voicemesh.cli.app import app
from voicemesh.digests import MOST_FILES, digest_of, files_in
from voicemesh.runtime.errors import SettingsError
from voicemesh.runtime.settings import load


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "speakers").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.pth").write_bytes(b"weights")
    (folder / "speakers" / "a.pth").write_bytes(b"a")
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {name: digest_of(file) for name, file in files_in(folder)}


def test_a_digest_is_the_sha256_of_the_file(model: Path) -> None:
    assert digests(model) == {
        name: f"sha256:{hashlib.sha256(content).hexdigest()}"
        for name, content in (("config.json", b"{}"), ("model.pth", b"weights"), ("speakers/a.pth", b"a"))
    }


def test_a_model_as_declared_is_taken(model: Path) -> None:
    check_digests("coqui", {"model": str(model)}, digests(model), required=True)
    check_digests("coqui", {"model": str(model)}, {"model.pth": digests(model)["model.pth"]}, required=False)
    check_digests("coqui", {"model": str(model)}, {}, required=False)


@pytest.mark.parametrize("name", ["config.json", "model.pth", "speakers/a.pth"])
def test_a_file_that_changed_is_refused_with_both_digests(model: Path, name: str) -> None:
    declared = digests(model)
    (model / name).write_bytes(b"another")
    with pytest.raises(OptionsError) as refused:
        check_digests("coqui", {"model": str(model)}, declared, required=False)
    for part in (str(model / name), declared[name], digest_of(model / name)):
        assert part in str(refused.value)


def test_a_file_that_is_gone_is_refused(model: Path) -> None:
    declared = digests(model)
    (model / "model.pth").unlink()
    with pytest.raises(OptionsError, match=r"model\.pth: .* cannot be read: No such file"):
        check_digests("coqui", {"model": str(model)}, declared, required=False)


def test_a_link_counts_as_what_it_leads_to(model: Path, tmp_path: Path) -> None:
    declared = digests(model)
    (tmp_path / "elsewhere").write_bytes(b"weights of somebody")
    (model / "model.pth").unlink()
    (model / "model.pth").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OptionsError, match="is not the file that was declared"):
        check_digests("coqui", {"model": str(model)}, declared, required=False)


def test_where_each_file_must_have_one_a_new_file_is_refused(model: Path) -> None:
    declared = digests(model)
    (model / "vocab.json").write_text("[]")
    check_digests("coqui", {"model": str(model)}, declared, required=False)
    with pytest.raises(OptionsError, match=r"vocab\.json has none, and VOICEMESH_TTS_REQUIRE_DIGESTS"):
        check_digests("coqui", {"model": str(model)}, declared, required=True)


def test_files_elsewhere_have_one_by_their_path(model: Path, tmp_path: Path) -> None:
    clip = tmp_path / "clip.wav"
    clip.write_bytes(b"sound")
    options = {"model": str(model), "speaker_wav": [str(clip)]}
    with pytest.raises(OptionsError, match=r"clip\.wav has none"):
        check_digests("coqui", options, digests(model), required=True)
    check_digests("coqui", options, {**digests(model), str(clip): digest_of(clip)}, required=True)


def test_a_file_of_piper_has_its_config_beside_it(tmp_path: Path) -> None:
    model = tmp_path / "voice.onnx"
    model.write_bytes(b"onnx")
    (tmp_path / "voice.onnx.json").write_text("{}")
    (tmp_path / "other.onnx").write_bytes(b"another voice")
    assert digests(model).keys() == {"voice.onnx", "voice.onnx.json"}
    check_digests("piper", {"model": str(model)}, digests(model), required=True)
    with pytest.raises(OptionsError, match=r"voice\.onnx\.json has none"):
        check_digests("piper", {"model": str(model)}, {"voice.onnx": digest_of(model)}, required=True)


def test_a_name_does_not_lead_out_of_the_folder(model: Path) -> None:
    with pytest.raises(OptionsError, match="within the model's folder"):
        check_digests("coqui", {"model": str(model)}, {"../x": "sha256:" + "0" * 64}, required=False)


def test_a_model_that_is_still_to_be_fetched_cannot_have_digests_for_all() -> None:
    options = {"model": "tts_models/en/ljspeech/vits"}
    with pytest.raises(OptionsError, match="not on this machine yet"):
        check_digests("coqui", options, {}, required=True)
    check_digests("coqui", options, {}, required=False)


def test_an_engine_without_files_needs_none() -> None:
    check_digests("espeak", {"pitch": 40}, {}, required=True)
    check_digests("openai", {"model": "gpt-4o-mini-tts", "instructions": "x" * 5000}, {}, required=True)


def test_too_many_files_are_no_model(tmp_path: Path) -> None:
    for number in range(MOST_FILES + 1):
        (tmp_path / str(number)).touch()
    with pytest.raises(OSError, match="more than"):
        list(files_in(tmp_path))


def test_the_command_prints_what_a_declaration_has(model: Path) -> None:
    told = CliRunner().invoke(app, ["digest", str(model)])
    assert told.exit_code == 0
    assert json.loads(told.stdout) == {"digests": digests(model)}


@pytest.mark.parametrize("digest", ["", "sha256:abc", "md5:" + "0" * 32, "sha256:" + "G" * 64])
def test_a_digest_that_is_none_is_refused_at_the_start(digest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    voices = [{"name": "v", "engine": "piper", "options": {"model": "m"}, "digests": {"m": digest}}]
    monkeypatch.setenv("VOICEMESH_TTS_VOICES", json.dumps(voices))
    with pytest.raises(SettingsError, match="64 digits"):
        load(TtsSettings)


def test_what_is_declared_reaches_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    digest = "sha256:" + "0" * 64
    voices = [{"name": "v", "engine": "piper", "options": {"model": "m"}, "digests": {"m": digest}}]
    monkeypatch.setenv("VOICEMESH_TTS_VOICES", json.dumps(voices))
    monkeypatch.setenv("VOICEMESH_TTS_REQUIRE_DIGESTS", "true")
    settings = load(TtsSettings)
    (spec,) = settings.specs(settings.tts_voices)
    assert (spec.digests, spec.require_digests) == ({"m": digest}, True)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "is no JSON"),
        (b"[1]", "holds no object"),
        (b"\xff", "is no JSON"),
        (b"[" * 200_000, "too deep"),
        (b'{"a":' * 200_000, "too deep"),
        (b" " * (MOST_BYTES + 1), "more than"),
        (b'{"a": ' + b"1" * 10_000 + b"}", "is no JSON"),
    ],
)
def test_a_config_is_read_with_a_bound(tmp_path: Path, content: bytes, why: str) -> None:
    config = tmp_path / "config.json"
    config.write_bytes(content)
    with pytest.raises(OptionsError, match=why):
        read_object(config, "model")


@pytest.mark.parametrize(
    "name",
    [
        "speakers.json",
        "/etc/speakers.json",
        "../../speakers.json",
        "C:\\models\\speakers.json",
        "x/speakers.json",
    ],
)
def test_what_a_config_names_is_in_its_folder(name: str) -> None:
    assert beside(Path("/models/m"), name) == Path("/models/m/speakers.json")
