"""`bench --compare A B`: what A and B may be.

run.json                            what `voicemesh bench --json` printed
policy=sentence,voice=espeak/de     what is asked for: addr, model, policy, prompt, voice
prompt=compact                      a prompt of the mesh, where the value could be the name of one
voicemesh.prompt=brief              a flag: its variant in VOICEMESH_FLAGS_FILE, or the value itself
10.0.0.7:50050                      another mesh
"""

import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from voicemesh.cli.bench_options import Arm, BenchOptions
from voicemesh.cli.bench_report import Recorded, read
from voicemesh.cli.exits import Failure, usage
from voicemesh.flags.definitions import CHECKS, CHUNK_POLICY, EMPTY, MODEL, PROMPT, VOICE, Definitions
from voicemesh.flags.errors import FlagsError
from voicemesh.flags.versions import FlagsFile

_FLAGS: Final = {"model": MODEL, "policy": CHUNK_POLICY, "prompt": PROMPT, "voice": VOICE}
_NAMES: Final = (*_FLAGS, "addr", *_FLAGS.values())
_NEXT: Final = re.compile(rf",(?=(?:{'|'.join(re.escape(name) for name in _NAMES)})=)")
"""A comma behind which another setting begins: prompts have commas too."""
_PROMPT_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""What the gateway takes for the name of a prompt."""
_ADDRESS: Final = re.compile(r"[^\s=,]+:\d{1,5}")


def recorded(a: str, b: str) -> tuple[Recorded, Recorded] | None:
    """Return two recorded runs; None where neither is a file. Raises Failure."""
    files = [_is_file(text) for text in (a, b)]
    if not any(files):
        return None
    if not all(files):
        other = b if files[0] else a
        raise usage(f"--compare: {other!r} is no file, and a recorded run is compared with another one")
    return _recorded(Path(a)), _recorded(Path(b))


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except OSError:
        return False  # a prompt can be longer than a name of a file


def _recorded(path: Path) -> Recorded:
    found = read(path, "--compare")
    if not found.turns:
        raise usage(f"--compare: {path} is a comparison itself: give two runs")
    return found


def arms(a: str, b: str, options: BenchOptions, environment: Mapping[str, str] | None = None) -> list[Arm]:
    """Return what two runs ask for: what the options say, and what A and B say in its place.

    Where no tenant is named, each gets one of its own, new for the run: it finds what it left in the cache
    itself, and nothing that the other did. Raises Failure for what cannot be.
    """
    environment = os.environ if environment is None else environment
    flags = _flags(environment.get("VOICEMESH_FLAGS_FILE", ""))
    run = uuid.uuid4().hex[:8]
    made = []
    for letter, text in (("a", a), ("b", b)):
        tenant = options.tenant or f"bench-{run}-{letter}"
        plain = Arm(
            label=text,
            addr=options.addr,
            tenant=tenant,
            speech=options.speech,
            reply_cache=options.reply_cache,
        )
        made.append(_arm(plain, text, flags))
    return made


def _arm(arm: Arm, text: str, flags: Definitions) -> Arm:
    if _ADDRESS.fullmatch(text):
        return replace(arm, addr=text)
    for part in _NEXT.split(text):
        name, found, value = part.partition("=")
        if not found or name not in _NAMES:
            raise usage(
                f"--compare: {part!r} is no file, no HOST:PORT and no NAME=VALUE with a NAME of "
                f"{', '.join(_NAMES)}",
                "for example --compare policy=sentence policy=adaptive",
            )
        arm = _with(arm, name, value, flags)
    return arm


def _with(arm: Arm, name: str, value: str, flags: Definitions) -> Arm:
    if name == "addr":
        return replace(arm, addr=value)
    key = _FLAGS.get(name, name)
    flag = flags.flags.get(key) if name == key else None
    if flag is not None and value in flag.variants:
        value = flag.variants[value]
    try:
        if value:
            CHECKS[key](value)
    except ValueError as error:
        known = f"; variants of {key} are {', '.join(flag.variants)}" if flag is not None else ""
        raise usage(f"--compare: {name}: {error}{known}") from None
    if key == PROMPT:
        # A mesh that has no prompt of that name says so: to take it for instructions would compare nothing.
        named = bool(_PROMPT_NAME.fullmatch(value))
        return replace(arm, system_prompt="" if named else value, prompt_variant=value if named else "")
    if key == MODEL:
        return replace(arm, model=value)
    if key == VOICE:
        return replace(arm, speech=replace(arm.speech, voice=value))
    return replace(arm, speech=replace(arm.speech, policy=value))


def _flags(path: str) -> Definitions:
    if not path:
        return EMPTY
    try:
        return FlagsFile(Path(path)).read()
    except FlagsError as error:
        raise Failure(2, "FLAGS_FILE", f"VOICEMESH_FLAGS_FILE: {path}: {error}") from None
