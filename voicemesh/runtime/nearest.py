"""The name that somebody meant. Workers import this module: standard library only."""

from collections.abc import Iterable


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return "; did you mean X?" where one of `names` is near, else ""."""
    import difflib  # noqa: PLC0415 - a worker needs it for a mistake alone

    found = difflib.get_close_matches(name.lower(), list(names), n=1)
    return f"; did you mean {found[0]}?" if found else ""
