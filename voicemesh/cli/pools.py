"""`voicemesh voices --pools`: how the TTS service's pools are doing."""

import asyncio
import json
from typing import Any, Final

import grpc
from google.protobuf.json_format import MessageToDict
from rich.console import Console
from rich.table import Table

from voicemesh.cli.connection import open_channel, tls
from voicemesh.cli.console import console_for, print_table, table_of
from voicemesh.cli.exits import DONE, FAILED, UNREACHABLE, Failure
from voicemesh.cli.failures import TLS_HINT
from voicemesh.client.diagnosis import why_not_reached
from voicemesh.common.v1 import common_pb2
from voicemesh.tts.v1 import tts_pb2, tts_pb2_grpc

_TIMEOUT_S: Final = 5.0
_REFUSAL_TIMEOUT_S: Final = 1.0
_MB: Final = 2**20


def run_pools(addr: str, *, as_json: bool) -> int:
    """Print the figures of every pool. Raises Failure."""
    stats = asyncio.run(_ask(addr))
    if as_json:
        # Numbers as numbers: 64-bit ones would be strings in protobuf's own JSON.
        print(json.dumps(_numbers(MessageToDict(stats, preserving_proto_field_name=True))))
        return DONE
    show(console_for(), stats)
    return DONE


def show(console: Console, stats: tts_pb2.GetPoolStatsResponse) -> None:
    """Print the figures for people: what is, what has been since the start, each replica."""
    for table in (_now(stats), _since(stats), _replicas(stats)):
        print_table(console, table)
        console.print()
    for pool in stats.pools:
        if pool.fault:
            console.print(f"{pool.voice}: {pool.fault}", markup=False, soft_wrap=True)
    if stats.refusal:
        console.print(said_refused(stats.refusal), markup=False, soft_wrap=True)


def said_refused(reason: str) -> str:
    """Return the line about a change of the voices file that was refused."""
    return f"the last change of the voices file was refused: {reason}"


async def refusal(addr: str) -> str:
    """Return why the last change of the voices file was refused; "" where it was not, or nobody knows."""
    try:
        return (await _stats(addr, _REFUSAL_TIMEOUT_S)).refusal
    except grpc.aio.AioRpcError:
        return ""


async def _stats(addr: str, timeout_s: float) -> tts_pb2.GetPoolStatsResponse:
    async with open_channel(addr) as channel:
        stub = tts_pb2_grpc.TtsServiceStub(channel)
        return await stub.GetPoolStats(tts_pb2.GetPoolStatsRequest(), timeout=timeout_s)


async def _ask(addr: str) -> tts_pb2.GetPoolStatsResponse:
    try:
        return await _stats(addr, _TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            raise Failure(
                FAILED, error.code().name, f"the TTS service at {addr}: {error.details()}"
            ) from None
        why = await why_not_reached(addr, tls())
        raise Failure(
            UNREACHABLE,
            "SERVICE_UNAVAILABLE",
            f"the TTS service does not answer at {addr}" + (f": {why}" if why else ""),
            TLS_HINT
            if why
            else "is `voicemesh up` running? --tts-addr or VOICEMESH_TTS_ADDR name another address",
        ) from None


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return int(value) if isinstance(value, str) and value.isdigit() else value


def _now(stats: tts_pb2.GetPoolStatsResponse) -> Table:
    table = table_of("voice", "state", "warm", "queue", "leases", "RTF", left=2)
    for pool in stats.pools:
        table.add_row(
            pool.voice,
            common_pb2.VoiceState.Name(pool.state).removeprefix("VOICE_STATE_").lower(),
            f"{pool.ready_replicas}/{pool.declared_replicas}",
            str(pool.queued_chunks),
            f"{pool.active_leases}/{pool.slots}",
            f"{pool.rtf:.3f}",
        )
    return table


def _since(stats: tts_pb2.GetPoolStatsResponse) -> Table:
    table = table_of("voice", "spoken", "failed", "wasted", "replaced", "stalled", "recycled", left=1)
    for pool in stats.pools:
        table.add_row(
            pool.voice,
            str(pool.completed_chunks),
            str(pool.failed_chunks),
            f"{pool.wasted_us / 1e6:.1f} s",
            str(pool.replaced_replicas),
            str(pool.stalled_replicas),
            str(pool.recycled_replicas),
        )
    return table


def _replicas(stats: tts_pb2.GetPoolStatsResponse) -> Table:
    table = table_of("replica", "state", "pid", "leases", "memory", "device", "batches", "mean", left=2)
    for pool in stats.pools:
        for replica in pool.replicas:
            batches = replica.batches
            table.add_row(
                replica.name,
                _state(replica),
                str(replica.pid or "-"),
                f"{replica.active_leases}/{replica.slots}",
                f"{replica.resident_bytes // _MB} MB",
                f"{replica.device_bytes // _MB} MB",
                str(batches) if batches else "-",
                f"{replica.batched_steps / batches:.1f}" if batches else "-",
            )
    return table


def _state(replica: tts_pb2.ReplicaStats) -> str:
    state = tts_pb2.ReplicaState.Name(replica.state).removeprefix("REPLICA_STATE_").lower()
    if replica.state == tts_pb2.REPLICA_STATE_STARTING and replica.steps_total:
        return f"{state} {replica.steps_done}/{replica.steps_total}"
    return state
