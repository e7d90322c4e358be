"""Looks into the root of an image, and runs its process in it as Kubernetes would.

unshare: own mounts and processes ─ root read-only, /tmp a tmpfs ─ chroot ─ 10001 ─ Python, process 1
"""

import contextlib
import os
import pathlib
import re
import signal
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from image_builds import PLANTED
from image_targets import FOLDER, Target, read_lock, read_pins

UID: Final = 10001
_TOOLS: Final = re.compile(r"(.*-)?(gcc|g\+\+|cc|c\+\+|clang|ld|as|make|cmake|pip3?|rustc|nvcc)(-?[\d.]+)?")
_PYC_UNCHECKED: Final = b"\x01\x00\x00\x00"
_STOP_S: Final = 60.0

# $ROOT, and behind it the program and its arguments. A device of its own for each that programs expect.
_ENTER: Final = """
mount --bind "$ROOT" "$ROOT"
mount -t tmpfs -o mode=755 tmpfs "$ROOT/dev"
for each in null zero full random urandom; do
    : >"$ROOT/dev/$each"
    mount --bind "/dev/$each" "$ROOT/dev/$each"
done
if [ -n "$MODELS" ]; then
    mkdir -p "$ROOT/models"
    mount --bind "$MODELS" "$ROOT/models"
    mount -o remount,bind,ro "$ROOT/models"
fi
mount -t proc proc "$ROOT/proc"
mount -o remount,bind,ro,nosuid,nodev "$ROOT"
mount -t tmpfs -o size=64m,mode=1777,nosuid,nodev tmpfs "$ROOT/tmp"
exec chroot "$ROOT" /usr/bin/setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs \\
    --bounding-set=-all --inh-caps=-all /usr/bin/env -i "$@"
"""


def look_into(root: pathlib.Path, target: Target) -> list[str]:
    """Return what is wrong with the files of an image."""
    wrong = [f"{name}: left beside the code, and in the image" for name in planted_in(root)]
    programs: list[str] = []
    stale = 0
    for folder, _, names in os.walk(root):
        for name in names:
            path = pathlib.Path(folder, name)
            if path.is_symlink():
                continue
            mode = path.stat().st_mode
            if mode & (stat.S_ISUID | stat.S_ISGID):
                wrong.append(f"{path.relative_to(root)}: runs as its owner")
            if mode & stat.S_IWOTH and stat.S_ISREG(mode):
                wrong.append(f"{path.relative_to(root)}: anybody may write to it")
            if mode & 0o111 and _TOOLS.fullmatch(name) and "bin" in path.parent.name:
                programs.append(str(path.relative_to(root)))
            if name.endswith(".pyc"):
                with path.open("rb") as file:
                    stale += file.read(8)[4:] != _PYC_UNCHECKED
    wrong += [f"{name}: builds or installs" for name in programs]
    if stale:
        wrong.append(
            f"{stale} files of bytecode hold a time or are checked: each start would read their sources"
        )
    locked = {pin.name: pin.version for pin in read_lock(target.lock).values()}
    if different := sorted(set(packages_of(root).items()) ^ set(locked.items())):
        wrong.append(f"packages are not those of {target.lock.name}: {different}")
    debian = read_pins(FOLDER / "debian-python.lock")
    there = debian_of(root)
    wrong += [
        f"{name} {there.get(name)} is there, not {version}"
        for name, version in debian.items()
        if there.get(name) != version
    ]
    others = {"services.llm", "services.chunker", "services.tts", "services.cache", "gateway"} - {
        target.package
    }
    wrong += [
        f"{name}: is another image's"
        for name in sorted(others)
        if (root / "opt/mesh" / name.replace(".", "/")).exists()
    ]
    return wrong


def planted_in(root: pathlib.Path) -> list[str]:
    """Return which of the planted files reached the image, wherever they lie."""
    names = {pathlib.Path(name).name for name in PLANTED}
    return [
        str(path.relative_to(root))
        for folder in ("opt", "tmp", "source")
        for path in (root / folder).rglob("*")
        if path.name in names and path.is_file() and path.read_bytes() == b"planted\n"
    ]


def packages_of(root: pathlib.Path) -> dict[str, str]:
    """Return name → version of what pip installed."""
    found = {}
    for path in root.glob("opt/voicemesh/lib/python3.*/site-packages/*.dist-info/METADATA"):
        head = path.read_text(errors="replace")
        (name,) = re.findall(r"^Name: (\S+)", head, re.MULTILINE)[:1]
        (version,) = re.findall(r"^Version: (\S+)", head, re.MULTILINE)[:1]
        found[re.sub(r"[-_]+", "-", name).lower()] = version
    return found


def debian_of(root: pathlib.Path) -> dict[str, str]:
    """Return name → version of Debian's packages that are installed."""
    blocks = (root / "var/lib/dpkg/status").read_text().split("\n\n")
    fields = [dict(re.findall(r"^(Package|Version|Status): (.+)$", block, re.MULTILINE)) for block in blocks]
    return {
        each["Package"]: each["Version"] for each in fields if "installed" in each.get("Status", "").split()
    }


class Running:
    """The process of an image, entered as Kubernetes would."""

    def __init__(
        self,
        root: pathlib.Path,
        config: Mapping[str, Any],
        arguments: Sequence[str] = (),
        *,
        environment: Mapping[str, str] | None = None,
        models: pathlib.Path | None = None,
        entrypoint: Sequence[str] | None = None,
        log: pathlib.Path | None = None,
    ) -> None:
        words = [*config["Env"], *(f"{name}={value}" for name, value in (environment or {}).items())]
        command = [*(entrypoint or config["Entrypoint"]), *arguments]
        self._log = log.open("wb") if log else None
        self._outside = subprocess.Popen(
            [
                *(
                    "unshare",
                    "--mount",
                    "--propagation",
                    "private",
                    "--pid",
                    "--fork",
                    "--kill-child=SIGKILL",
                ),
                *("sh", "-euc", _ENTER, "sh", *words, *command),
            ],
            env={"PATH": os.environ["PATH"], "ROOT": str(root), "MODELS": str(models or "")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log or subprocess.PIPE,
            text=True,
        )

    @property
    def output(self) -> Any:
        """Its standard output."""
        return self._outside.stdout

    @property
    def pid(self) -> int:
        """Its number on this machine; 0 where it is not there yet, or no more."""
        with contextlib.suppress(OSError, ValueError):
            task = f"/proc/{self._outside.pid}/task/{self._outside.pid}/children"
            return int(pathlib.Path(task).read_text().split()[0])
        return 0

    @property
    def gone(self) -> bool:
        """Whether it has ended."""
        return self._outside.poll() is not None

    def status(self) -> dict[str, str]:
        """Return what the kernel says of it."""
        lines = pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def memory_bytes(self) -> int:
        """Return what it and its children hold, pages that are shared divided among those that share them."""
        total = 0
        for pid in tree_of(self.pid):
            with contextlib.suppress(OSError):
                rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
                total += (
                    sum(int(value) for value in re.findall(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)) * 1024
                )
        return total

    def finish(self, timeout_s: float) -> tuple[int, str, str]:
        """Wait for its end; return its exit status and what it said.

        Raises:
            subprocess.TimeoutExpired: It goes on. It is killed then.

        """
        try:
            out, err = self._outside.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        return self._outside.returncode, out, err or ""

    def terminate(self) -> tuple[int, float]:
        """Send SIGTERM to it, as kubelet does; return its exit status, and the seconds that it took."""
        begun = time.monotonic()
        os.kill(self.pid, signal.SIGTERM)
        status, _, _ = self.finish(_STOP_S)
        return status, time.monotonic() - begun

    def kill(self) -> None:
        """End it now, with all that it started."""
        if not self.gone:
            self._outside.kill()
            self._outside.wait()
        if self._log:
            self._log.close()


def tree_of(pid: int) -> Iterator[int]:
    """Yield a process and all that it started."""
    yield pid
    with contextlib.suppress(OSError):
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from tree_of(int(child))
