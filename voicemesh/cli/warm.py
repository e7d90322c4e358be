"""`voicemesh warm`: common phrases into the cache before they are asked for."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from rich.progress import Progress

from voicemesh.cli.characters import printable
from voicemesh.cli.console import console_for
from voicemesh.cli.exits import DONE, FAILED, usage
from voicemesh.cli.failures import failure_of
from voicemesh.cli.speak import mesh_at
from voicemesh.client import SpeechOptions, VoiceMeshError, WarmItem
from voicemesh.phrases import Phrase, parse_phrases

_BATCH: Final = 100
"""Phrases of one call: few enough that a mesh which is restarted loses little of a long list."""
_OUTCOMES: Final = ("spoken", "present", "not kept", "failed")


@dataclass(frozen=True, kw_only=True)
class WarmOptions:
    """What to warm.

    Attributes:
        addr: Where the mesh is.
        path: The list; "-" is standard input.
        voices: Who speaks what names no voice of its own; empty for the default voice.
        speed: Speed of what names none.
        rate_hz: Samples per second of what names none; 0 for the voice's own.
        policy: How texts are cut that name none; "" for the default.
        tenant: Whose turns are to find what names no tenant.
        as_json: True to print one JSON object.

    """

    addr: str
    path: Path
    voices: Sequence[str] = ()
    speed: float = 1.0
    rate_hz: int = 0
    policy: str = ""
    tenant: str = ""
    as_json: bool = False


def run_warm(options: WarmOptions) -> int:
    """Warm a list; return the exit status. Raises Failure."""
    return asyncio.run(_warm(list(_phrases(options)), options))


def _phrases(options: WarmOptions) -> Iterator[Phrase]:
    """Give the phrases of the list, each for every voice that is asked for."""
    from_stdin = str(options.path) == "-"
    try:
        data = sys.stdin.buffer.read() if from_stdin else options.path.read_bytes()
        name = "standard input" if from_stdin else str(options.path)
        listed = parse_phrases(data, name, as_json=options.path.suffix == ".jsonl")
    except OSError as error:
        raise usage(f"FILE: cannot read {options.path}: {error.strerror}") from None
    except ValueError as error:
        raise usage(f"FILE: {error}") from None
    seen: set[Phrase] = set()
    for phrase in listed:
        for voice in (phrase.voice,) if phrase.voice else options.voices or ("",):
            asked = replace(
                phrase,
                voice=voice,
                speed=options.speed if phrase.speed == 1 else phrase.speed,
                sample_rate_hz=phrase.sample_rate_hz or options.rate_hz,
                policy=phrase.policy or options.policy,
                tenant=phrase.tenant or options.tenant,
            )
            if asked not in seen:
                seen.add(asked)
                yield asked


def _batches(phrases: Sequence[Phrase]) -> Iterator[list[Phrase]]:
    """Cut the list into calls: alike in all but their text, and not too many of them."""
    alike: dict[Phrase, list[Phrase]] = {}
    for phrase in phrases:
        alike.setdefault(replace(phrase, text=""), []).append(phrase)
    for batch in alike.values():
        for begin in range(0, len(batch), _BATCH):
            yield batch[begin : begin + _BATCH]


async def _warm(phrases: Sequence[Phrase], options: WarmOptions) -> int:
    counts: Counter[str] = Counter()
    failures: list[dict[str, Any]] = []
    # On standard error, and only where somebody looks: standard output is the result's.
    with Progress(console=console_for(sys.stderr), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("warming", total=len(phrases))
        for batch in _batches(phrases):
            try:
                async with mesh_at(options.addr, batch[0].tenant) as mesh:
                    await mesh.connect()
                    async for item in mesh.warm([phrase.text for phrase in batch], speech=_speech(batch[0])):
                        phrase = batch[item.text_indexes[0]]
                        counts[item.outcome] += 1
                        progress.advance(task)
                        if item.outcome in ("failed", "not kept"):
                            failures.append(_failure(phrase, item))
            except VoiceMeshError as error:
                raise failure_of(error, options.addr) from None
    _show(len(phrases), counts, failures, as_json=options.as_json)
    return FAILED if failures else DONE


def _speech(phrase: Phrase) -> SpeechOptions:
    options = SpeechOptions(
        voice=phrase.voice, speed=phrase.speed, sample_rate_hz=phrase.sample_rate_hz, policy=phrase.policy
    )
    try:
        options.to_proto()
    except ValueError as error:
        raise usage(str(error)) from None
    return options


def _failure(phrase: Phrase, item: WarmItem) -> dict[str, Any]:
    if item.error is not None:
        reason, message = item.error.reason, item.error.message
    else:
        reason, message = (
            "NOT_KEPT",
            "it was spoken and not kept: the cache did not answer, or another voice spoke",
        )
    return {"text": phrase.text, "voice": phrase.voice, "reason": reason, "message": message}


def _show(phrases: int, counts: Counter[str], failures: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        names = {outcome.replace(" ", "_"): counts[outcome] for outcome in _OUTCOMES}
        print(json.dumps({"phrases": phrases, **names, "failures": failures}))
        return
    bad = "".join(f", {counts[outcome]} {outcome}" for outcome in ("not kept", "failed") if counts[outcome])
    print(f"{phrases} phrases: {counts['spoken']} spoken, {counts['present']} were there{bad}")
    for failure in failures:
        text = printable(failure["text"][:60])
        print(f"  {text!r}: {failure['reason']}: {printable(failure['message'])}", file=sys.stderr)
