"""`voicemesh doctor`: what is missing on this machine, and how to get it."""

import asyncio
import importlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from importlib import metadata
from typing import Final
from urllib.parse import urlsplit

from rich.table import Table
from rich.text import Text

from voicemesh.cli import mesh_tls
from voicemesh.cli.checkout import candidates, missing_servers
from voicemesh.cli.console import console_for
from voicemesh.cli.doctor_coqui import coqui_checks
from voicemesh.cli.doctor_model import REACH_TIMEOUT_S, model_checks, without_secret
from voicemesh.cli.doctor_prompts import prompt_check
from voicemesh.cli.exits import DONE, FAILED, Failure
from voicemesh.cli.findings import MISSING, NOTE, OK, Check, is_declared
from voicemesh.cli.health import SERVING, UNREACHABLE, HealthClient
from voicemesh.cli.plan import MeshPlan, is_free, plan
from voicemesh.cli.play import find_player
from voicemesh.client.diagnosis import SPEAKS_TLS, why_not_reached

_SERVER_PACKAGES: Final = (
    "grpcio-health-checking",
    "grpcio-reflection",
    "grpcio-status",
    "numpy",
    "openai",
    "opentelemetry-sdk",
    "pydantic-settings",
    "redis",
    "soxr",
    "starlette",
    "structlog",
    "uvicorn",
)


def run_doctor(*, as_json: bool) -> int:
    """Look at everything, print what was found; return 1 where something required is missing."""
    checks = asyncio.run(_look())
    missing = any(check.state == MISSING for check in checks)
    if as_json:
        print(json.dumps({"ok": not missing, "checks": [asdict(check) for check in checks]}))
    else:
        _show(checks)
    return FAILED if missing else DONE


async def _look() -> list[Check]:
    # In a thread: torch loads for seconds, in a process of its own.
    coqui = await asyncio.to_thread(lambda: list(coqui_checks()))
    checks = [
        *_python(),
        *_packages(),
        _speech(),
        _codecs(),
        _piper(),
        *coqui,
        _servers(),
        *model_checks(),
        *await asyncio.to_thread(_prompts),
        *await _redis(),
        _player(),
    ]
    try:
        mesh = plan(candidates()[0])
    except Failure as failure:
        return [*checks, Check("addresses", MISSING, failure.message, failure.hint)]
    return [*checks, *await _mesh(mesh)]


def _python() -> Iterator[Check]:
    version = platform.python_version()
    # An older one cannot even import this module.
    yield Check("python", OK, f"{version} at {sys.executable}")


def _packages() -> Iterator[Check]:
    absent = [name for name in _SERVER_PACKAGES if not _version(name)]
    yield Check("grpcio", OK, _version("grpcio"))
    if absent:
        yield Check(
            "server packages",
            MISSING,
            f"not installed: {', '.join(absent)}",
            "make setup (in a checkout), or pip install 'voicemesh[server]'",
        )
    else:
        yield Check("server packages", OK, f"{len(_SERVER_PACKAGES)} installed")


def _speech() -> Check:
    """Load libespeak-ng as the engine does: a wheel for another machine is found by loading only."""
    fix = "make setup (in a checkout), or pip install 'voicemesh[espeak]'"
    try:
        loader = importlib.import_module("espeakng_loader")
        loader.load_library()
    except ImportError:
        return Check("speech (espeak-ng)", MISSING, "the package espeakng-loader is not installed", fix)
    except OSError as error:
        return Check("speech (espeak-ng)", MISSING, f"the library does not load: {error}", fix)
    return Check("speech (espeak-ng)", OK, f"espeakng-loader {_version('espeakng-loader')} loads")


def _codecs() -> Check:
    if version := _version("av"):
        return Check("codecs", OK, f"av {version}: Opus, FLAC, MP3 and AAC")
    fix = "make setup (in a checkout), or pip install 'voicemesh[codecs]'"
    return Check("codecs", NOTE, "the package av is not installed: PCM and mu-law only", fix)


def _piper() -> Check:
    if absent := [name for name in ("piper-tts", "onnxruntime") if not _version(name)]:
        state, what = (MISSING, "needed by VOICEMESH_TTS_VOICES and ") if is_declared("piper") else (NOTE, "")
        fix = "pip install piper-tts (in a checkout, into its .venv), or pip install 'voicemesh[piper]'"
        return Check("piper voices", state, f"{what}not installed: {', '.join(absent)}", fix)
    return Check(
        "piper voices", OK, f"piper-tts {_version('piper-tts')}, onnxruntime {_version('onnxruntime')}"
    )


def _servers() -> Check:
    for root in candidates():
        if not missing_servers(root):
            return Check("servers", OK, f"in {root}")
    absent = min((missing_servers(root) for root in candidates()), key=len)
    return Check(
        "servers",
        MISSING,
        f"not here: {', '.join(absent)}",
        "servers run from a checkout or an image: clone the repository and run this inside it",
    )


def _prompts() -> list[Check]:
    root = next((root for root in candidates() if not missing_servers(root)), None)
    return [prompt_check(root)] if root is not None else []  # that there are no servers is said above


async def _redis() -> list[Check]:
    url = os.environ.get("VOICEMESH_REDIS_URL", "")
    if not url:
        return [Check("redis", NOTE, "not set: the cache keeps to its own memory", "set VOICEMESH_REDIS_URL")]
    shown = without_secret(url)
    try:
        parts = urlsplit(url)
        target = (
            (parts.path,) if parts.scheme == "unix" else (parts.hostname or "localhost", parts.port or 6379)
        )
        async with asyncio.timeout(REACH_TIMEOUT_S):
            if len(target) == 1:
                _, writer = await asyncio.open_unix_connection(target[0])
            else:
                _, writer = await asyncio.open_connection(*target)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    except (OSError, TimeoutError, ValueError) as error:
        reason = str(error) or "no answer in time"
        fix = "start it, or unset VOICEMESH_REDIS_URL; turns go on without it"
        return [Check("redis", NOTE, f"{shown} cannot be reached: {reason}", fix)]
    return [Check("redis", OK, f"{shown} answers")]


def _player() -> Check:
    try:
        return Check("player", OK, f"{shutil.which(find_player())} (for --play)")
    except Failure as failure:
        return Check("player", NOTE, "none, so --play does not work", failure.hint)


async def _mesh(mesh: MeshPlan) -> list[Check]:
    names = [name for name in mesh.listen if name != "http"]
    found = await asyncio.gather(*(_health(name, mesh.address(name)) for name in names))
    states = dict(zip(names, found, strict=True))
    running = [name for name, (state, why) in states.items() if state != UNREACHABLE or why]
    if not running:
        taken = [address for address in mesh.listen.values() if not is_free(address)]
        if taken:
            fix = "stop what uses them, or use `voicemesh up --free-ports`"
            return [Check("ports", MISSING, f"in use by something else: {', '.join(taken)}", fix)]
        return [
            Check("ports", OK, f"all {len(mesh.listen)} are free"),
            Check("mesh", NOTE, f"none runs at {mesh.address('gateway')}", "voicemesh up"),
        ]
    return [_service(name, mesh.address(name), *state) for name, state in states.items()]


def _service(name: str, address: str, state: str, why: str) -> Check:
    if state == SERVING:
        return Check(name, OK, f"SERVING at {address}")
    if why:
        fix = "export what `voicemesh up --tls` printed: VOICEMESH_CLIENT_TLS_CA and its like; docs/tls.md"
        return Check(name, NOTE, f"runs at {address}, and cannot be asked how it is: {why}", fix)
    return Check(name, MISSING, f"{state} at {address}", "look at its log: `voicemesh up --verbose`")


async def _health(name: str, address: str) -> tuple[str, str]:
    """Return the state of a process; where it speaks TLS and cannot be asked, what is wrong about that."""
    if not await why_not_reached(address, None):
        async with HealthClient(address) as client:
            return await client.state(REACH_TIMEOUT_S), ""
    why = SPEAKS_TLS
    for tls in mesh_tls.ways_to_ask(name, os.environ):
        async with HealthClient(address, tls) as client:
            if (state := await client.state(REACH_TIMEOUT_S)) != UNREACHABLE:
                return state, ""
        why = await why_not_reached(address, tls) or why
    return UNREACHABLE, why


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _show(checks: list[Check]) -> None:
    console = console_for()
    table = Table.grid(padding=(0, 2, 0, 0))
    marks = {OK: ("ok", "green"), MISSING: ("MISSING", "bold red"), NOTE: ("note", "yellow")}
    for check in checks:
        mark, style = marks[check.state]
        text = Text(check.detail)
        if check.fix and check.state != OK:
            text.append(f"\n→ {check.fix}", style="dim")
        table.add_row(Text(mark, style=style), check.name, text)
    console.print(table)
    missing = sum(check.state == MISSING for check in checks)
    console.print()
    console.print("everything that is required is here" if not missing else f"{missing} missing")
