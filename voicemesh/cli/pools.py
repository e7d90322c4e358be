"""`voicemesh voices --pools`: how the TTS service's pools are doing."""

import asyncio
import json
from typing import Any, Final

import grpc
from google.protobuf.json_format import MessageToDict
from rich import box
from rich.table import Table

from voicemesh.cli.console import console_for
from voicemesh.cli.exits import DONE, FAILED, UNREACHABLE, Failure
from voicemesh.common.v1 import common_pb2
from voicemesh.tts.v1 import tts_pb2, tts_pb2_grpc

_TIMEOUT_S: Final = 5.0
_MB: Final = 2**20


def run_pools(addr: str, *, as_json: bool) -> int:
    """Print the figures of every pool. Raises Failure."""
    stats = asyncio.run(_ask(addr))
    if as_json:
        # Numbers as numbers: 64-bit ones would be strings in protobuf's own JSON.
        print(json.dumps(_numbers(MessageToDict(stats, preserving_proto_field_name=True))))
        return DONE
    console = console_for()
    console.print(_pools(stats))
    console.print(_replicas(stats))
    for pool in stats.pools:
        if pool.fault:
            console.print(f"{pool.voice}: {pool.fault}", markup=False)
    if stats.refusal:
        console.print(f"the last change was refused: {stats.refusal}", markup=False)
    return DONE


async def _ask(addr: str) -> tts_pb2.GetPoolStatsResponse:
    async with grpc.aio.insecure_channel(addr) as channel:
        stub = tts_pb2_grpc.TtsServiceStub(channel)
        try:
            return await stub.GetPoolStats(tts_pb2.GetPoolStatsRequest(), timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            unreachable = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            raise Failure(
                UNREACHABLE if unreachable else FAILED,
                "SERVICE_UNAVAILABLE" if unreachable else error.code().name,
                f"the TTS service does not answer at {addr}",
                "is `voicemesh up` running? --tts-addr or VOICEMESH_TTS_ADDR name another address",
            ) from None


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return int(value) if isinstance(value, str) and value.isdigit() else value


def _table(*columns: str, left: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for place, name in enumerate(columns):
        table.add_column(name, justify="left" if place < left else "right")
    return table


def _pools(stats: tts_pb2.GetPoolStatsResponse) -> Table:
    table = _table(
        "voice", "state", "warm", "queue", "leases", "RTF", "spoken", "failed", "wasted", "replaced",
        "stalled", "recycled", left=2,
    )  # fmt: skip
    for pool in stats.pools:
        table.add_row(
            pool.voice,
            common_pb2.VoiceState.Name(pool.state).removeprefix("VOICE_STATE_").lower(),
            f"{pool.ready_replicas}/{pool.declared_replicas}",
            str(pool.queued_chunks),
            f"{pool.active_leases}/{pool.slots}",
            f"{pool.rtf:.3f}",
            str(pool.completed_chunks),
            str(pool.failed_chunks),
            f"{pool.wasted_us / 1e6:.1f} s",
            str(pool.replaced_replicas),
            str(pool.stalled_replicas),
            str(pool.recycled_replicas),
        )
    return table


def _replicas(stats: tts_pb2.GetPoolStatsResponse) -> Table:
    table = _table(
        "replica", "state", "pid", "leases", "memory", "device", "loaded", "batches", "mean batch", left=2
    )
    for pool in stats.pools:
        for replica in pool.replicas:
            batches = replica.batches
            table.add_row(
                replica.name,
                tts_pb2.ReplicaState.Name(replica.state).removeprefix("REPLICA_STATE_").lower(),
                str(replica.pid or "-"),
                f"{replica.active_leases}/{replica.slots}",
                f"{replica.resident_bytes // _MB} MB",
                f"{replica.device_bytes // _MB} MB",
                f"{replica.steps_done}/{replica.steps_total}" if replica.steps_total else "-",
                str(batches) if batches else "-",
                f"{replica.batched_steps / batches:.1f}" if batches else "-",
            )
    return table
