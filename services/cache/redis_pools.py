"""Connections to Redis: those that requests use, and those that listen.

Over TLS redis-py makes a context for each connection: it reads every authority of the machine, which holds
the event loop up for 20 to 150 ms, longer than a request may wait for Redis. Here all connections of a
process share one, which is made at the start.
"""

import ssl
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.connection import RedisSSLContext, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

CONNECTIONS: Final = 50


def open_pools(url: str, *, longest_s: float, listens_s: float) -> tuple[Redis, Redis]:
    """Return a client for requests and one for what listens; nothing is connected yet.

    Args:
        url: redis://, rediss:// or unix://, maybe with a password.
        longest_s: Seconds after which redis-py gives a connection, or an answer, up.
        listens_s: The same for an answer to who listens.

    Raises:
        ValueError: The URL is none of these, or names files of TLS that cannot be used; the text does not
            hold the URL.

    """
    options: dict[str, Any] = {
        "socket_connect_timeout": longest_s,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        # It would tell Redis the name of the library, and wait for the answer, with every connection.
        "driver_info": None,
    }
    try:
        pool: BlockingConnectionPool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=None,  # every use is under a timeout of its own
            socket_timeout=longest_s,
            **options,
        )
        listening: ConnectionPool = ConnectionPool.from_url(url, socket_timeout=listens_s, **options)
    except ValueError:
        raise ValueError("is not an address of a Redis") from None
    if issubclass(pool.connection_class, SSLConnection):
        pool.connection_class = listening.connection_class = _sharing(pool)
    return Redis.from_pool(pool), Redis.from_pool(listening)


def _sharing(pool: BlockingConnectionPool) -> type[SSLConnection]:
    """Return a class of connections with one context."""
    try:
        context: RedisSSLContext = SSLConnection(**pool.connection_kwargs).ssl_context
        context.get()
    except (OSError, ssl.SSLError, TypeError) as error:
        # OpenSSL names no file.
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ValueError(
            f"names files of TLS (ssl_ca_certs, ssl_certfile, ssl_keyfile) that cannot be used: {why}"
        ) from None

    class Sharing(SSLConnection):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.ssl_context = context

    return Sharing
