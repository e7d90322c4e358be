"""How the loading of an engine gets on: told by engines whose loading takes seconds or minutes.

The worker passes it on to the service, which counts the time for a start anew from each call. Behind the
start it is what was needed first by a request: that request may be silent for as long as a start then. A
process loads one engine, so there is one listener. Standard library only.
"""

from collections.abc import Callable

_listeners: list[Callable[[str], None]] = []


def listen(listener: Callable[[str], None]) -> None:
    """Hear what is loaded in this process from now on."""
    _listeners[:] = [listener]


def loading(what: str) -> None:
    """Say what is loaded next, for people. Engines call it before each part that takes long."""
    for listener in _listeners:
        listener(what)
