"""Pools at 80 columns, with nothing cut short; and the rates that can be asked for."""

import contextlib
import io

import pytest
from rich.console import Console

from gateway.encoding import heard_format
from voicemesh.cli.exits import Failure
from voicemesh.cli.pools import show
from voicemesh.cli.speak import MAX_RATE_HZ, MIN_RATE_HZ, RATES_HZ, check_rate
from voicemesh.client import SpeechOptions
from voicemesh.common.v1 import common_pb2
from voicemesh.runtime.errors import InvalidFieldError
from voicemesh.runtime.frames import SAMPLE_RATES_HZ
from voicemesh.tts.v1 import tts_pb2


def stats(name: str) -> tts_pb2.GetPoolStatsResponse:
    replicas = [
        tts_pb2.ReplicaStats(
            name=f"{name}-1", state=tts_pb2.REPLICA_STATE_READY, pid=4194304, active_leases=250, slots=256,
            resident_bytes=12345 * 2**20, device_bytes=54321 * 2**20, steps_done=21, steps_total=22,
            batches=100_000, batched_steps=6_400_000,
        ),
        tts_pb2.ReplicaStats(
            name=f"{name}-2", state=tts_pb2.REPLICA_STATE_STARTING, steps_done=11, steps_total=22
        ),
    ]  # fmt: skip
    pool = tts_pb2.PoolStats(
        voice=name, state=common_pb2.VOICE_STATE_DRAINING, ready_replicas=1, declared_replicas=2,
        queued_chunks=256, active_leases=250, slots=512, rtf=0.012, completed_chunks=1_000_000,
        failed_chunks=12, wasted_us=12_345_600_000, replaced_replicas=3, stalled_replicas=4,
        recycled_replicas=5, replicas=replicas,
    )  # fmt: skip
    return tts_pb2.GetPoolStatsResponse(pools=[pool])


def drawn(name: str, *, is_terminal: bool) -> str:
    stream = io.StringIO()
    show(Console(file=stream, width=80, force_terminal=is_terminal, color_system=None), stats(name))
    return stream.getvalue()


WHOLE = (
    "voice", "state", "warm", "queue", "leases", "RTF", "spoken", "failed", "wasted", "replaced", "stalled",
    "recycled", "replica", "pid", "memory", "device", "batches", "mean", "draining", "1/2", "256", "250/512",
    "0.012", "1000000", "12345.6", "4194304", "250/256", "12345", "54321", "100000", "64.0", "11/22",
)  # fmt: skip


@pytest.mark.parametrize("is_terminal", [True, False])
def test_it_fits_80_columns_with_every_heading_and_number(is_terminal: bool) -> None:
    lines = drawn("espeak-en", is_terminal=is_terminal).splitlines()
    assert max(map(len, lines)) <= 80
    assert set(WHOLE) <= set(" ".join(lines).split())


def test_a_replica_that_is_ready_shows_no_progress() -> None:
    assert "21/22" not in drawn("espeak", is_terminal=False)


def test_a_long_name_is_whole_where_it_is_no_terminal() -> None:
    name = "a" * 64
    assert f"{name}-1" in drawn(name, is_terminal=False).split()


def test_a_long_name_costs_no_number_on_a_terminal() -> None:
    name = "a" * 64
    shown = drawn(name, is_terminal=True)
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown
    assert {"250/512", "1000000", "12345.6", "54321", "100000"} <= set(shown.split())


@pytest.mark.parametrize(
    ("encoding", "rates_hz"),
    [("mulaw", SAMPLE_RATES_HZ), ("flac", SAMPLE_RATES_HZ), *RATES_HZ.items()],
)
def test_rates_are_those_of_the_gateway(encoding: str, rates_hz: tuple[int, ...]) -> None:
    options = SpeechOptions(encoding=encoding)
    for rate_hz in sorted({*SAMPLE_RATES_HZ, 9000, MIN_RATE_HZ - 1, MAX_RATE_HZ + 1}):
        wanted = options.to_proto().format
        wanted.sample_rate_hz = rate_hz
        refused = contextlib.nullcontext() if rate_hz in rates_hz else pytest.raises(InvalidFieldError)
        with refused:
            heard_format(wanted, 22050, "espeak", "speech.format")
        if rate_hz in rates_hz:
            check_rate(rate_hz, encoding)
        elif encoding in RATES_HZ:
            with pytest.raises(Failure, match="--rate"):
                check_rate(rate_hz, encoding)
