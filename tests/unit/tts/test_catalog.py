"""What makes another revision of a voice."""

from dataclasses import replace
from types import ModuleType

import pytest

from services.tts import edges, loudness, resampling, text
from services.tts.core import catalog
from services.tts.core.model import VoiceSpec
from tests.unit.tts.scripted import CAPABILITIES

SPEC = VoiceSpec("voice", "scripted", 1, "en", {})


def revision(spec: VoiceSpec = SPEC, engine: str = "r1", variant: str = "") -> str:
    return catalog.revision(spec, CAPABILITIES._replace(revision=engine), variant)


@pytest.mark.parametrize(
    "other",
    [
        revision(engine="r2"),
        revision(variant="en-gb"),
        revision(replace(SPEC, engine="another")),
        revision(replace(SPEC, loudness=-20.0)),
        revision(replace(SPEC, gain_db=1.0)),
        revision(replace(SPEC, trim_silence=False)),
        revision(replace(SPEC, pauses_ms={"sentence": 400.0})),
    ],
)
def test_what_is_heard_changes_the_revision(other: str) -> None:
    assert other != revision()


@pytest.mark.parametrize("module", [edges, loudness, resampling, text])
def test_another_rendering_of_a_step_changes_it(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    before = revision()
    monkeypatch.setattr(module, "RENDERING", module.RENDERING + 1)
    assert revision() != before


def test_another_resampler_changes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = revision()
    monkeypatch.setattr(catalog, "version_of", lambda package: f"another {package}")
    assert revision() != before


@pytest.mark.parametrize(
    "other",
    [
        revision(replace(SPEC, name="renamed", replicas=4, memory_mb=9, max_resident_mb=9)),
        revision(replace(SPEC, preload=False, fallback=("spare",), hedge=False)),
        # As they are without being said.
        revision(replace(SPEC, pauses_ms={"sentence": 300})),
    ],
)
def test_what_is_not_heard_does_not(other: str) -> None:
    assert other == revision()
