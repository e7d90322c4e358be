"""`voicemesh demo`: a whole mesh, one turn, a WAV file, and everything stopped again."""

import asyncio
from pathlib import Path
from typing import Final

from voicemesh.cli.checkout import find_checkout
from voicemesh.cli.plan import plan_on_free_ports
from voicemesh.cli.supervisor import Supervisor
from voicemesh.cli.up import Relay, running_mesh

DEFAULT_PROMPT: Final = "What is a service mesh, and why does it matter for speech?"

_READY_TIMEOUT_S: Final = 20.0
_COMPLAINT_S: Final = 3.0
"""How long a process may complain, as of a provider that is not there: nobody is going to start one now."""
_PATIENCE_S: Final = 1.0
"""After so long it says what it waits for."""


def run_demo(prompt: str, out: Path, *, verbose: bool) -> int:
    """Start a mesh on free ports, ask `prompt`, write `out`, print the waterfall, stop; return the status."""
    return asyncio.run(_demo(prompt, out, verbose=verbose))


async def _demo(prompt: str, out: Path, *, verbose: bool) -> int:
    mesh = plan_on_free_ports(find_checkout())
    relay = Relay(verbose=verbose)
    async with running_mesh(mesh, relay, override=True) as supervisor:
        print(f"starting {', '.join(child.spec.name for child in supervisor.children)} …", flush=True)
        from voicemesh.cli.speak import SpeakOptions, run_turn  # noqa: PLC0415 - while they start

        await _ready(supervisor)
        relay.starting = False
        print(f"> {prompt}\n", flush=True)
        options = SpeakOptions(addr=mesh.address("gateway"), out=out)
        speech = options.speech()
        status = await run_turn(options, lambda client: client.ask(prompt, speech=speech))
    print("every process has stopped; `voicemesh up` starts a mesh that stays")
    return status


async def _ready(supervisor: Supervisor) -> None:
    """Wait until the mesh is ready. Raises Failure."""
    missing = [child.spec.name for child in supervisor.children]

    def say() -> None:
        print(f"waiting for {', '.join(missing)} …", flush=True)

    patience = asyncio.get_running_loop().call_later(_PATIENCE_S, say)
    try:
        await supervisor.ready(
            _READY_TIMEOUT_S, lambda child: missing.remove(child.spec.name), complaint_s=_COMPLAINT_S
        )
    finally:
        patience.cancel()
