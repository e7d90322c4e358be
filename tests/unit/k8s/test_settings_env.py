"""settings.env has every setting, keeps what is set, and has nothing that kustomize reads otherwise."""

import os
from pathlib import Path

import pytest
from k8s.environments import refusals
from k8s.settings_env import SERVICES, read, settings_of, settings_type, write

from k8s import settings_env
from voicemesh.runtime.settings import load, variable_of


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"PATH": "/usr/bin"})


@pytest.mark.parametrize("service", SERVICES)
def test_a_default_is_written_as_the_process_reads_it(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = settings_type(service)
    default = load(owner)
    fields = {variable_of(owner, name): name for name in owner.model_fields}
    for setting in settings_of(service):
        if setting.secret:
            continue
        monkeypatch.setattr(os, "environ", {setting.variable: setting.default})
        field = fields[setting.variable]
        assert getattr(load(owner), field) == getattr(default, field), setting


@pytest.mark.parametrize("service", SERVICES)
def test_a_file_has_every_setting_once_and_no_other(service: str) -> None:
    lines = write(service, read("")).splitlines()
    listed = [
        line.removeprefix("# ").partition("=")[0]
        for line in lines
        if line.startswith(("# VOICE", "# OPENAI"))
    ]
    assert sorted(listed) == sorted(setting.variable for setting in settings_of(service))
    assert not read("\n".join(lines)).values


def test_what_is_set_stays_with_the_notes_above_it() -> None:
    text = (
        "## The longest turn.\n## Measured.\nVOICEMESH_DRAIN_GRACE_S=180\n# gone\nVOICEMESH_LOG_FORMAT=json\n"
    )
    once = write("tts", read(text))
    assert "## Measured.\nVOICEMESH_DRAIN_GRACE_S=180\n" in once
    assert "\nVOICEMESH_LOG_FORMAT=json\n" in once
    assert "# gone" not in once
    assert write("tts", read(once)) == once


def test_a_value_is_all_behind_the_first_equals_sign() -> None:
    found = read('VOICEMESH_TTS_VOICES=[{"name": "a=b"}]\nVOICEMESH_TTS_DEFAULT_VOICE=\n')
    assert found.values == {"VOICEMESH_TTS_VOICES": '[{"name": "a=b"}]', "VOICEMESH_TTS_DEFAULT_VOICE": ""}
    assert not found.problems


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("VOICEMESH_LOG_LEVEL", "has no `=`"),
        (" VOICEMESH_LOG_LEVEL=info", "is no name"),
        ("export VOICEMESH_LOG_LEVEL=info", "is no name"),
        ("voicemesh_log_level=info", "is no name"),
        ("VOICEMESH_LOG_LEVEL=info ", "spaces"),
        ("VOICEMESH_LOG_LEVEL= info", "spaces"),
        ("VOICEMESH_LOG_LEVEL=info\r", "spaces"),
        ('VOICEMESH_LOG_LEVEL="info"', "in quotes"),
        ("VOICEMESH_LOG_LEVEL='info'", "in quotes"),
        ("\ufeffVOICEMESH_LOG_LEVEL=info", "is no name"),
        (f"VOICEMESH_LOG_LEVEL={'x' * 70_000}", "longer than"),
        ("VOICEMESH_LOG_LEVEL=info\nVOICEMESH_LOG_LEVEL=info", "line 2: VOICEMESH_LOG_LEVEL is set twice"),
    ],
)
def test_what_kustomize_reads_otherwise_than_people_is_refused(line: str, said: str) -> None:
    (problem,) = read(line).problems
    assert said in problem
    assert len(problem) < 200 or "longer" in said


def test_what_is_no_setting_or_a_secret_is_refused() -> None:
    text = "VOICEMESH_TTS_BUFFER_S=3\nVOICEMESH_REDIS_URL=redis://x\n"
    assert list(settings_env.problems_of("cache", text)) == [
        "VOICEMESH_TTS_BUFFER_S is no setting of the cache service",
        "VOICEMESH_REDIS_URL is a secret: it comes from a Secret, by secretKeyRef",
    ]


def test_settings_are_read_as_by_the_process(tmp_path: Path) -> None:
    before = dict(os.environ)
    voices = {"/etc/voices": {"voices.json": '[{"name": "a", "engine": "espeak"}]'}}
    values = {"VOICEMESH_TTS_VOICES_FILE": "/etc/voices/voices.json"}
    assert list(refusals("tts", values, voices, tmp_path)) == []
    voices["/etc/voices"]["voices.json"] = '[{"name": "a", "engine": "none"}]'
    (said,) = refusals("tts", values, voices, tmp_path)
    assert "VOICEMESH_TTS_VOICES_FILE" in said
    assert "engine" in said
    (said,) = refusals("tts", {"VOICEMESH_TTS_BUFFER_S": "long"}, {}, tmp_path)
    assert said.startswith("VOICEMESH_TTS_BUFFER_S: ")
    assert dict(os.environ) == before
