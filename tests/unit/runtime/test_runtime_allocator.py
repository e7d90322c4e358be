"""The heaps of a process, counted by the C library itself."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc's")

_COUNT = """
import ctypes, tempfile, threading
from voicemesh.runtime.allocator import keep_few_heaps

libc = ctypes.CDLL(None)
if {few}:
    keep_few_heaps()
libc.malloc.restype = ctypes.c_void_p
at_once = threading.Barrier(12)

def allocate():
    at_once.wait()  # all of them live: glibc gives each the heap of none that does
    assert libc.malloc(5_000)
    at_once.wait()

threads = [threading.Thread(target=allocate) for _ in range(12)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.fopen.restype = ctypes.c_void_p
with tempfile.NamedTemporaryFile() as told:
    file = ctypes.c_void_p(libc.fopen(told.name.encode(), b"w"))
    libc.malloc_info(0, file)
    libc.fclose(file)
    print(told.read().count(b"<heap nr="))
"""


def heaps(*, few: bool, **environment: str) -> int:
    """Return how many heaps a process has in which twelve threads have allocated."""
    told = subprocess.run(
        [sys.executable, "-c", _COUNT.format(few=few)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(told.stdout)


def test_a_process_has_few_heaps_however_many_threads() -> None:
    if heaps(few=False) <= 2:
        pytest.skip("this C library makes few heaps by itself")
    assert heaps(few=True) <= 2


def test_what_the_environment_says_stays() -> None:
    assert heaps(few=True, MALLOC_ARENA_MAX="1") == 1
