"""What `voicemesh cache` does: asks every cache service that an address stands for.

    --cache-addr cache:50054 ── DNS ──┬── 10.0.0.7:50054   memory ─┐
                                      ├── 10.0.0.8:50054   memory ─┼── Redis
                                      └── 10.0.0.9:50054   memory ─┘

Each has a memory of its own, so that all of them are asked, not one that a balancer picks.
"""

import asyncio
import json
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

from voicemesh import tenant as tenants
from voicemesh.cache.v1 import cache_pb2, cache_pb2_grpc
from voicemesh.cli.connection import open_channel, tls
from voicemesh.cli.console import console_for, print_table, table_of
from voicemesh.cli.exits import DONE, FAILED, UNREACHABLE, USAGE, Failure, usage
from voicemesh.cli.failures import TLS_HINT
from voicemesh.client.diagnosis import why_not_reached

_TIMEOUT_S: Final = 60.0
"""A scan of a large Redis takes its time."""
_STATS_TIMEOUT_S: Final = 5.0
_MB: Final = 2**20
_ELSEWHERE: Final = "is `voicemesh up` running? --cache-addr or VOICEMESH_CACHE_ADDR name another address"
_REFUSED: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


@dataclass(frozen=True)
class Answer:
    """What one cache service said: a message, or why there is none."""

    address: str
    message: Any = None
    error: grpc.aio.AioRpcError | None = None

    @property
    def why(self) -> str:
        """Why there is no message, for people."""
        return f"{self.error.code().name}: {self.error.details()}" if self.error is not None else ""


def request_of(target: str, value: str, tenant: str | None) -> cache_pb2.InvalidateRequest:
    """Return the request; `tenant` is the target itself where that is "tenant", else its limit.

    `value` is "" for "all".

    Raises:
        Failure: The key is no CacheKey, or the tenant cannot be.

    """
    if tenant not in (None, tenants.SHARED) and (wrong := tenants.problem(tenant)):
        raise usage(f"--tenant: {tenant[:80]!r} {wrong}")
    if target == "tenant":
        return cache_pb2.InvalidateRequest(tenant=tenant or "")
    request = cache_pb2.InvalidateRequest(only_tenant=tenant)
    if target != "key":
        setattr(request, target, value or True)
        return request
    try:
        ParseDict(json.loads(value), request.key)
    except (ValueError, ParseError) as error:
        raise usage(
            f"--key: is no CacheKey as JSON: {error}", '--key \'{"history": {"session_id": "s1"}}\''
        ) from None
    return request


def addresses(target: str) -> list[str]:
    """Return all that an address stands for: several parted by commas, each name all that it resolves to.

    A name that has addresses of both families stands for those of IPv4: they are the same services.

    Raises:
        Failure: It is no address, or nobody knows the name.

    """
    found: dict[str, None] = {}
    for part in target.split(","):
        given = part.strip().removeprefix("dns:///").removeprefix("dns:")
        if given.startswith(("unix:", "ipv4:", "ipv6:")):
            found[given] = None
            continue
        host, colon, port = given.rpartition(":")
        if not colon or not host or not port.isdigit():
            raise usage(f"--cache-addr: {part.strip()!r} is not HOST:PORT")
        try:
            known = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        except (OSError, OverflowError) as error:
            raise Failure(
                UNREACHABLE, "SERVICE_UNAVAILABLE", f"{host} cannot be resolved: {error}", _ELSEWHERE
            ) from None
        first = socket.AF_INET if any(family == socket.AF_INET for family, *_ in known) else socket.AF_INET6
        for family, *_, (ip, *_) in known:
            if family == first:
                found[f"[{ip}]:{port}" if family == socket.AF_INET6 else f"{ip}:{port}"] = None
    return list(found)


def run_invalidate(request: cache_pb2.InvalidateRequest, addr: str, *, as_json: bool) -> int:
    """Remove entries everywhere, and print how many; return the exit status. Raises Failure."""
    # Each tells the others: so named, whoever was told before it was asked still says what it removed.
    request.removal_id = secrets.token_hex(16)
    answers = asyncio.run(_ask_all(addr, lambda stub: stub.Invalidate(request, timeout=_TIMEOUT_S)))
    done = [answer for answer in answers if answer.error is None]
    memory = sum(answer.message.memory_entries for answer in done)
    redis = sum(answer.message.redis_entries for answer in done)
    if as_json:
        caches = [
            {
                "address": answer.address,
                "memory_entries": answer.message.memory_entries if answer.message is not None else 0,
                "redis_entries": answer.message.redis_entries if answer.message is not None else 0,
                "error": answer.why or None,
            }
            for answer in answers
        ]
        print(json.dumps({"memory_entries": memory, "redis_entries": redis, "caches": caches}))
    elif done:
        many = "1 cache service" if len(done) == 1 else f"{len(done)} cache services"
        print(f"removed {memory} entries from the memory of {many}, and {redis} from Redis")
        if len(done) == len(answers) and not memory + redis:
            print(
                "nothing matched; what is kept of a voice has the name that `voicemesh voices` prints for it"
            )
    failed = [answer for answer in answers if answer.error is not None]
    if failed:
        raise Failure(
            FAILED,
            "SERVICE_UNAVAILABLE",
            "not everything was reached: " + "; ".join(f"{one.address}: {one.why}" for one in failed),
            "try again: what is removed already does no harm",
        )
    return DONE


def run_stats(addr: str, *, as_json: bool) -> int:
    """Print the figures of every cache service; return the exit status. Raises Failure."""
    answers = asyncio.run(
        _ask_all(
            addr,
            lambda stub: stub.GetStats(cache_pb2.GetStatsRequest(), timeout=_STATS_TIMEOUT_S),
        )
    )
    if as_json:
        caches = [
            {"address": answer.address, "error": answer.why or None, **_figures(answer.message)}
            for answer in answers
        ]
        print(json.dumps({"caches": caches}))
    else:
        _show(answers)
    return FAILED if any(answer.error is not None for answer in answers) else DONE


async def _ask_all(target: str, call: Callable[[Any], Any]) -> list[Answer]:
    """Ask every cache service. Raises Failure where none answers, or the request cannot be."""
    targets = addresses(target)
    # Certificates have the name, and not what it resolves to.
    host = target.removeprefix("dns:///").removeprefix("dns:").rpartition(":")[0]

    async def ask(address: str) -> Answer:
        async with open_channel(address, host="" if "," in target or ":" in host else host) as channel:
            stub: Any = cache_pb2_grpc.CacheServiceStub(channel)
            try:
                return Answer(address, await call(stub))
            except grpc.aio.AioRpcError as error:
                return Answer(address, error=error)

    answers = await asyncio.gather(*map(ask, targets))
    for answer in answers:
        if answer.error is not None and answer.error.code() is grpc.StatusCode.INVALID_ARGUMENT:
            raise Failure(USAGE, "INVALID_FIELD", str(answer.error.details()))
    if all(answer.error is not None and _not_reached(answer.error) for answer in answers):
        why = await why_not_reached(targets[0], tls())
        raise Failure(
            UNREACHABLE,
            "SERVICE_UNAVAILABLE",
            f"no cache service answers at {', '.join(targets)}" + (f": {why}" if why else ""),
            TLS_HINT if why else _ELSEWHERE,
        )
    return answers


def _not_reached(error: grpc.aio.AioRpcError) -> bool:
    """Return whether nobody was there: what a service itself says comes with details of ours."""
    ours = "grpc-status-details-bin" in dict(error.trailing_metadata() or ())  # type: ignore[arg-type] # pairs
    return error.code() in _REFUSED and not ours


def _figures(stats: cache_pb2.GetStatsResponse | None) -> dict[str, Any]:
    """Return a message as JSON has it, with numbers as numbers."""
    if stats is None:
        return {}
    named = MessageToDict(stats, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return {name: _number(value) for name, value in named.items()}


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return [{name: _number(part) for name, part in one.items()} for one in value]
    if isinstance(value, dict):
        return {name: _number(part) for name, part in value.items()}
    return int(value) if isinstance(value, str) and value.isdigit() else value


def _show(answers: list[Answer]) -> None:
    console = console_for()
    for answer in answers:
        stats: cache_pb2.GetStatsResponse | None = answer.message
        if stats is None:
            console.print(f"{answer.address}: {answer.why}", markup=False, soft_wrap=True)
            continue
        redis = "no Redis"
        if stats.redis_configured:
            redis = "Redis answers" if stats.redis_available else "Redis does not answer"
        used = f"{stats.memory_bytes / _MB:.1f} of {stats.memory_limit_bytes / _MB:.0f} MB"
        console.print(f"{answer.address}: {used}, {redis}", markup=False, soft_wrap=True)
        table = table_of("kind", "entries", "MB", "memory hits", "Redis hits", "misses", "made room", left=1)
        for kind in stats.kinds:
            table.add_row(
                kind.kind,
                str(kind.entries),
                f"{kind.bytes / _MB:.1f}",
                str(kind.memory_hits),
                str(kind.redis_hits),
                str(kind.misses),
                str(kind.evictions),
            )
        print_table(console, table)
        if stats.HasField("similar"):
            found = stats.similar
            console.print(
                f"similar prompts: {found.hits} found, {found.misses} like no other, "
                f"{found.guarded} kept apart by their words, "
                f"{found.failures} without an embedding; {found.entries} are known",
                markup=False,
                soft_wrap=True,
            )
        console.print(
            f"invalidated {stats.invalidations} times: {stats.invalidated_memory_entries} entries of memory, "
            f"{stats.invalidated_redis_entries} of Redis; {stats.stale_writes} writes came too late\n",
            markup=False,
            soft_wrap=True,
        )
