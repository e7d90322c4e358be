"""`voicemesh demo`: a whole mesh, one turn, a WAV file, and everything stopped again."""

import asyncio
from pathlib import Path
from typing import Final

from voicemesh.cli.checkout import find_checkout
from voicemesh.cli.plan import plan_on_free_ports
from voicemesh.cli.up import Relay, running_mesh

DEFAULT_PROMPT: Final = "What is a service mesh, and why does it matter for speech?"

_READY_TIMEOUT_S: Final = 20.0


def run_demo(prompt: str, out: Path, *, verbose: bool) -> int:
    """Start a mesh on free ports, ask `prompt`, write `out`, print the waterfall, stop; return the status."""
    return asyncio.run(_demo(prompt, out, verbose=verbose))


async def _demo(prompt: str, out: Path, *, verbose: bool) -> int:
    mesh = plan_on_free_ports(find_checkout())
    relay = Relay(verbose=verbose)
    async with running_mesh(mesh, relay, override=True) as supervisor:
        print(f"starting {', '.join(child.spec.name for child in supervisor.children)} …", flush=True)
        from voicemesh.cli.speak import SpeakOptions, run_turn  # noqa: PLC0415 - while they start

        await supervisor.ready(_READY_TIMEOUT_S, lambda _: None)
        relay.starting = False
        print(f"> {prompt}\n", flush=True)
        options = SpeakOptions(addr=mesh.address("gateway"), out=out)
        speech = options.speech()
        status = await run_turn(options, lambda client: client.ask(prompt, speech=speech))
    print("every process has stopped; `voicemesh up` starts a mesh that stays")
    return status
