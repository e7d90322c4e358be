"""Addresses of this machine for one process of the tests alone: many of them use the same ports."""

import random
import socket

_CHANCE = random.SystemRandom()


def free_block() -> str:
    """Return the first three numbers of addresses that no other process has asked for here: "127.B.C".

    They are this process's until it ends: the name of an abstract socket, which needs no file, stands for
    them. Linux has all addresses of 127.0.0.0/8; elsewhere they must be made first.
    """
    while True:
        block = f"127.{_CHANCE.randrange(64, 254)}.{_CHANCE.randrange(256)}"
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0voicemesh of {block}")
        except OSError:
            claim.close()
            continue
        claim.detach()  # stays open
        return block
