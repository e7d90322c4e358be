"""The connection to a gateway, or to all gateways behind a name."""

import os
from typing import Final

import grpc

from voicemesh.addresses import name_of
from voicemesh.following import OPTIONS, FollowingChannel, Options

_PROXIES: Final = ("grpc_proxy", "https_proxy", "http_proxy")
"""Variables in which gRPC finds a proxy."""


def channel_options(stall_s: float) -> Options:
    """Return the options of a connection on which a gateway may be silent for `stall_s` seconds."""
    stall_ms = round(stall_s * 1000)
    return (
        # While a call is open and nothing comes, pings ask whether anybody is there; gRPC answers them by
        # itself, also of a gateway that is busy. A third of the time until one is sent, and most of the rest
        # for its answer: this process may be the one that is held up. The second timeout is for a process
        # that is stopped, and would be a minute.
        ("grpc.keepalive_time_ms", stall_ms * 3 // 10),
        ("grpc.keepalive_timeout_ms", stall_ms * 13 // 20),
        ("grpc.http2.ping_timeout_ms", stall_ms * 13 // 20),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        # Also how long a connection may take: a process that is stopped takes connections and says nothing.
        ("grpc.min_reconnect_backoff_ms", max(1_000, stall_ms)),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        ("grpc.lb_policy_name", "round_robin"),
        ("grpc.max_receive_message_length", 4 * 1024 * 1024),
        *OPTIONS,
    )


def open_channel(
    address: str, options: Options, credentials: grpc.ChannelCredentials | None, lookup_s: float
) -> grpc.aio.Channel:
    """Open a channel, in plain text without `credentials`; a name is looked up every `lookup_s` seconds.

    With 0 it is looked up when a connection ends, as gRPC does; so it is over TLS through a proxy, which can
    be asked for a name and for no list of addresses.
    """

    def make(target: str = address, further: Options = ()) -> grpc.aio.Channel:
        if credentials is None:
            return grpc.aio.insecure_channel(target, options=(*options, *further))
        return grpc.aio.secure_channel(target, credentials, options=(*options, *further))

    proxied = credentials is not None and any(os.environ.get(variable) for variable in _PROXIES)
    if lookup_s and not proxied and (name := name_of(address)) is not None:
        return FollowingChannel(address, name, make, every_s=lookup_s, shares=credentials is None)
    return make()
