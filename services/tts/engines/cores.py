"""How many cores are for one replica: those of the machine, divided by the replicas of its voice.

Threads beyond the cores cost more than they give: those of one replica wait for each other while another
replica's hold their cores. Workers import this module: standard library only.
"""

import os

_replicas = [1]


def share_cores(replicas: int) -> None:
    """Say how many replicas the voice of this process has."""
    _replicas[:] = [max(1, replicas)]


def own_cores() -> int:
    """Return the cores for this process, 1 at least."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, there // _replicas[0])
