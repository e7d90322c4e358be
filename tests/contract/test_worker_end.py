"""A worker ends with its service, however that one ends, and has nothing to say about it."""

import socket
import subprocess
import sys


def test_a_worker_whose_service_was_killed_ends_in_silence() -> None:
    ours, its = socket.socketpair()
    command = [sys.executable, "-m", "services.tts.worker", str(its.fileno())]
    with its, subprocess.Popen(command, pass_fds=[its.fileno()], stderr=subprocess.PIPE) as worker:
        its.close()
        # Its first heartbeat has come. Nobody reads it: so the end of this side is a reset for the other.
        assert ours.recv(1, socket.MSG_PEEK)
        ours.close()
        _, said = worker.communicate(timeout=60)
        assert (worker.returncode, said) == (0, b"")
