"""The turn engine: events in, actions out, no sockets. `turn.py` is the engine."""
