"""Client channels with the options that the whole mesh uses, and the deadlines of calls over them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import grpc

from voicemesh import following
from voicemesh.addresses import name_of
from voicemesh.following import FollowingChannel, News, Options
from voicemesh.rotating import RotatingChannel
from voicemesh.runtime.health import ACCEPTS
from voicemesh.runtime.logs import get_logger
from voicemesh.runtime.tls import PeerCredentials

_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A replica that comes back is found within a second, not after gRPC's two minutes of backoff.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.lb_policy_name", "round_robin"),
    # Proxies between processes of one machine only add latency.
    ("grpc.enable_http_proxy", 0),
    *following.OPTIONS,
)
_ONLY_WHO_ACCEPTS: Final = json.dumps(
    {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ACCEPTS}}
)
"""A process that starts or drains is left out by the channel, before anybody meets a closed door there."""

_log = get_logger(__name__)


@dataclass(frozen=True)
class Pings:
    """How a peer is found that died without a word, or hangs.

    A process that is killed closes its connections: that is known at once. One that is stopped, or whose
    machine is gone, does not; what it is sent just stays there.

        … data ── nothing for `after_ms` ── ping ── no answer for `timeout_ms` ── its streams end

    gRPC's own threads answer: a process whose Python is busy, or whose event loop is blocked, is not taken
    for one that hangs. Where nothing came since the last ping gRPC waits a second before the next one,
    whatever `after_ms` says: a stream on which nothing comes is found to hang by a second later.
    """

    after_ms: int = 20_000
    timeout_ms: int = 5_000


IDLE: Final = Pings()
"""For who can wait."""


def options_of(pings: Pings) -> tuple[tuple[str, int | str], ...]:
    """Return the options of a channel that finds by `pings` who is gone."""
    return (
        *_OPTIONS,
        ("grpc.keepalive_time_ms", pings.after_ms),
        # The first is for a machine that is gone, by TCP; the second for a process that hangs, and would be
        # a minute.
        ("grpc.keepalive_timeout_ms", pings.timeout_ms),
        ("grpc.http2.ping_timeout_ms", pings.timeout_ms),
    )


def open_channel(
    target: str,
    *,
    max_message_bytes: int = 4 * 1024 * 1024,
    credentials: PeerCredentials | None = None,
    watched: bool = False,
    pings: Pings = IDLE,
    lookup_s: float = 0.0,
    tell: Callable[[News], None] | None = None,
) -> grpc.aio.Channel:
    """Open a channel to a service of the mesh.

    `target` is anything that gRPC resolves: `HOST:PORT`, `dns:///name:port`, `unix:PATH`. Several
    processes are `dns:///NAME:PORT` with an address for each, `ipv4:HOST:PORT,HOST:PORT` or
    `unix:PATH,PATH`: each further stream goes to the next one that can be reached. The connections are
    made in the background; close the channel when done. With `credentials` they are made over
    TLS, and follow the files that these are from. A `watched` one has a stream to each process behind it,
    and sends calls only to those that say that they accept any. A name is looked up every `lookup_s`
    seconds, and `tell` told what came of it; 0: as gRPC does, when a connection ends.
    """
    options = (*options_of(pings), ("grpc.max_receive_message_length", max_message_bytes))
    if watched:
        options += (("grpc.service_config", _ONLY_WHO_ACCEPTS),)
    if credentials is not None:
        options += credentials.options(target)

    def make(reached: str = target, further: Options = ()) -> grpc.aio.Channel:
        if credentials is None:
            return grpc.aio.insecure_channel(reached, options=(*options, *further))
        return grpc.aio.secure_channel(reached, credentials.now(), options=(*options, *further))

    channel: RotatingChannel
    if lookup_s and (name := name_of(target)) is not None:
        plain = credentials is None
        channel = FollowingChannel(
            target, name, make, every_s=lookup_s, shares=plain, tell=tell, held_up=_say_held_up
        )
    elif credentials is not None:
        channel = RotatingChannel(make, _say_held_up)
    else:
        return make()
    if credentials is not None:
        credentials.certificates.subscribe(channel.rotate)
    return channel


def _say_held_up() -> None:
    _log.warning("cannot connect with what is new yet", hint="the old connection is used")


def remaining_s(context: Any, at_most_s: float | None = None) -> float | None:
    """Return the seconds that the call of `context` has left, to pass on as the timeout of further calls.

    gRPC for Python does not pass deadlines on by itself. None means without end: the caller set no
    deadline, and `at_most_s` is None.
    """
    left: float | None = context.time_remaining()
    if left is None:
        return at_most_s
    left = max(0.0, left)
    return left if at_most_s is None else min(left, at_most_s)
