"""`make fuzz`: sends the services what nobody would, for as long as is asked, and reports what came of it.

    make fuzz                                            every service, 20,000 messages each
    make fuzz ARGS="--service tts --messages 100000"     one of them
    make fuzz ARGS="--service tts --seed 7 --call 4711"  one call again, as the report names it

Ends with status 1 where something was wrong. docs/fuzzing.md says what is looked at.
"""

import argparse
import asyncio
import contextlib
import json
import secrets
import sys
import time
from typing import Any

from tests.fuzz.calls import Tally
from tests.fuzz.http import Requests
from tests.fuzz.lab import SERVICES, Lab, Round, process_of, running_lab
from tests.support.redis_server import redis_server
from tests.support.warm import warm
from voicemesh.runtime.channels import open_channel

MOST_BYTES_A_MESSAGE = 64.0
"""Memory that may be lost for a message: gRPC itself keeps some 100 bytes of a call that was cancelled."""


async def main(arguments: argparse.Namespace) -> int:
    """Fuzz; return the exit status."""
    seed = arguments.seed or secrets.token_hex(4)
    services = arguments.service or list(SERVICES)
    print(f"seed {seed}", flush=True)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(warm.allowed())
        redis = await stack.enter_async_context(redis_server())
        lab = await stack.enter_async_context(running_lab(VOICEMESH_REDIS_URL=redis.url))
        if arguments.call is not None:
            return await once(lab, services[0], seed, arguments.call)
        rounds = [await one(lab, service, seed, arguments) for service in services]
    if arguments.report:
        with open(arguments.report, "w", encoding="utf-8") as file:  # noqa: ASYNC230, PTH123 - all is over
            json.dump([account(found) for found in rounds], file, default=str)
    return 1 if any(faults_of(found) for found in rounds) else 0


async def once(lab: Lab, service: str, seed: str, number: int) -> int:
    """Make one call again."""
    tally, plan = Tally(), lab.plan(service, seed, number)
    print(plan)
    for message in plan.parts if isinstance(plan, Requests) else plan.messages:
        print(f"  {message!r}"[:2_000])
    async with open_channel(lab.mesh.address(process_of(service))) as channel:
        await lab.perform(channel, plan, tally, f"{service} {number}")
    print(dict(tally.ends), *tally.faults, *lab.mesh.processes[process_of(service)].lines, sep="\n")
    return 1 if tally.faults else 0


async def one(lab: Lab, service: str, seed: str, arguments: argparse.Namespace) -> Round:
    """Fuzz one service and print what came of it."""
    began_s, shown = time.monotonic(), set[str]()

    def show(faults: list[str]) -> None:
        for fault in faults:
            if fault not in shown and len(shown) < arguments.show:
                shown.add(fault)
                print(f"  WRONG: {fault}", flush=True)

    def told(found: Round) -> None:
        used = found.used[-1]
        print(
            f"  {service}: {found.tally.messages} messages, {found.tally.calls} calls, "
            f"{used.resident_bytes / 2**20:.1f} MiB, {used.descriptors} descriptors, "
            f"{len(found.all_faults)} faults",
            flush=True,
        )
        show(found.all_faults)  # at once: a run that takes long may be cut short

    found = await lab.fuzz(
        service, seed, arguments.messages, at_once=arguments.at_once, batch=arguments.batch, told=told
    )
    took_s = time.monotonic() - began_s
    print(
        f"{service}: {found.tally.messages} messages in {found.tally.calls} calls, "
        f"{found.tally.responses} responses, "
        f"{found.noises} connections of noise, {took_s:.0f} s; {found.bytes_a_message():.1f} bytes a message"
    )
    for end, count in found.tally.ends.most_common():
        print(f"  {count:8} {end}")
    faults = faults_of(found)
    show(faults)
    print(f"{service}: {len(faults)} faults", flush=True)
    return found


def account(found: Round) -> dict[str, Any]:
    """Return a round as JSON can have it."""
    told = {**found.__dict__, "tally": found.tally.__dict__, "used": [one.__dict__ for one in found.used]}
    return {**told, "bytes_a_message": found.bytes_a_message(), "faults": faults_of(found)}


def faults_of(found: Round) -> list[str]:
    """Return what was wrong in a round, growth included."""
    faults = list(found.all_faults)
    if len(found.used) > 8 and found.bytes_a_message() > MOST_BYTES_A_MESSAGE:
        faults.append(f"{found.service} grows by {found.bytes_a_message():.0f} bytes a message")
    first, last = found.used[min(1, len(found.used) - 1)], found.used[-1]
    if last.descriptors > first.descriptors + 4:
        faults.append(f"{found.service} holds {last.descriptors} descriptors, {first.descriptors} at first")
    return faults


def parsed(words: list[str] | None = None) -> Any:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Fuzz the services of a mesh.")
    parser.add_argument("--service", action="append", choices=list(SERVICES), help="may be given again; all")
    parser.add_argument("--messages", type=int, default=20_000, help="to each service (20000)")
    parser.add_argument("--seed", help="of the run that is to be repeated; else a new one")
    parser.add_argument("--call", type=int, help="make this call alone, and print it")
    parser.add_argument("--at-once", type=int, default=16, help="calls at the same time (16)")
    parser.add_argument("--batch", type=int, default=2_000, help="messages between two looks (2000)")
    parser.add_argument("--show", type=int, default=30, help="faults that are printed for a service (30)")
    parser.add_argument("--report", help="a file for the whole account, as JSON")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(parsed())))
