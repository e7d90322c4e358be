"""What an engine says of itself, on its way through JSON."""

import json

from services.tts.engines.base import Capabilities, Variant


def test_capabilities_survive_json() -> None:
    told = Capabilities(
        sample_rate_hz=24000,
        slots=2,
        word_timings=False,
        deterministic=True,
        revision="r",
        variants=(Variant("en", "en", ("english", "us"), 250), Variant("ja", "ja")),
        default_variant="en",
        language="en",
        max_chars=250,
    )
    assert Capabilities.from_json(json.loads(json.dumps(told.to_json()))) == told
