"""What is said about a Redis in logs: no user, no password, no more than the first words of an error."""

from urllib.parse import urlsplit


def address_of(url: str) -> str:
    """Return `url` without user, password and options, for logs.

    Raises:
        ValueError: It is not a redis://, rediss:// or unix:// URL; the text does not hold it.

    """
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        raise ValueError("is not a URL") from None
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError("must begin with redis://, rediss:// or unix://")
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def reason_of(error: BaseException) -> str:
    """Return the sort of an error and its first words: Redis's own code, such as OOM or NOAUTH."""
    return f"{type(error).__name__}: {str(error)[:120]}".rstrip(": ")
