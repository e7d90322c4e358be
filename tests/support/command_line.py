"""The command line, run in a process of its own."""

import asyncio
import os
import pathlib
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping
from dataclasses import dataclass

from tests.support.warm import COMMAND_LINE, ROOT, Running, warm

_GUARD_S = 120.0


@dataclass
class Result:
    """What a command has left."""

    status: int
    out: str
    err: str


async def started(
    *arguments: str | bytes,
    environment: Mapping[str, str] | None = None,
    folder: pathlib.Path = ROOT,
    stdin: int = DEVNULL,
    stdout: int = PIPE,
    stderr: int = PIPE,
) -> Running:
    """Start `voicemesh ARGUMENTS…` in `folder`; `environment` is added to this process's own."""
    return await warm.start(
        COMMAND_LINE, "voicemesh.cli", *arguments,
        environment={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        folder=folder, stdin=stdin, stdout=stdout, stderr=stderr,
    )  # fmt: skip


async def voicemesh(
    *arguments: str | bytes,
    environment: Mapping[str, str] | None = None,
    folder: pathlib.Path = ROOT,
    stdin: bytes | None = None,
) -> Result:
    """Run `voicemesh ARGUMENTS…` to its end, with `stdin` as its standard input."""
    process = await started(
        *arguments, environment=environment, folder=folder, stdin=DEVNULL if stdin is None else PIPE
    )
    try:
        async with asyncio.timeout(_GUARD_S):
            out, err = await process.communicate(stdin)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Result(process.returncode, out.decode(), err.decode())
