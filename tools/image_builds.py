"""Builds images with buildah, without a daemon and without a registry, and looks into what it built.

A base image is made by debootstrap under the name that the Dockerfile asks for; wheels are downloaded first,
so that the build itself fetches nothing but Debian's packages.
"""

import gzip
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from image_targets import BUILD_LOCK, Target, read_lock
from project import ROOT

BASE: Final = "docker.io/library/debian:bookworm-slim"
PROGRAMS: Final = {"buildah": "buildah", "debootstrap": "debootstrap", "unshare": "util-linux"}
"""Program → the package of Debian that has it."""
PLANTED: Final = ("voicemesh/tls.key", "services/.env", "gateway/callers.pem", "deploy/production.env")
"""Files beside the code that must reach no image."""
_STAGE: Final = re.compile(r"FROM (\S+)(?: AS (\S+))?$")


class CannotBuildError(Exception):
    """What is needed is not there, or a step failed; the text says which."""


def check_machine() -> None:
    """Look for what is needed.

    Raises:
        CannotBuildError: With what to install.

    """
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        raise CannotBuildError(
            "needs root on Linux: roots are mounted read-only, and entered by another user"
        )
    if missing := sorted({package for name, package in PROGRAMS.items() if shutil.which(name) is None}):
        raise CannotBuildError(f"needs Debian's {', '.join(missing)}: apt-get install {' '.join(missing)}")


def run(command: Sequence[str], *, quiet: bool = True, **options: Any) -> str:
    """Run a command; return what it prints.

    Raises:
        CannotBuildError: It failed; with the end of what it said.

    """
    done = subprocess.run(command, check=False, text=True, capture_output=True, **options)
    if not quiet:
        sys.stderr.write(done.stderr)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-25:])
        raise CannotBuildError(f"{' '.join(command[:4])} … ended with {done.returncode}:\n{said}")
    return str(done.stdout)


def stages_for(dockerfile: str, target: str) -> str:
    """Return the Dockerfile with the stages that `target` stands on: older buildahs build all the others."""
    blocks = re.split(r"^(?=FROM )", dockerfile, flags=re.MULTILINE)
    stages: dict[str, tuple[str, set[str]]] = {}
    for block in blocks[1:]:
        found = _STAGE.match(block.splitlines()[0])
        if found is None or found[2] is None:
            raise CannotBuildError(f"a stage without a name: {block.splitlines()[0]}")
        stages[found[2]] = block, {found[1], *re.findall(r"--from=(\S+)", block)}
    wanted, waiting = set(), [target]
    while waiting:
        name = waiting.pop()
        if name in stages and name not in wanted:
            wanted.add(name)
            waiting += stages[name][1]
    return blocks[0] + "".join(block for name, (block, _) in stages.items() if name in wanted)


def make_context(folder: pathlib.Path) -> None:
    """Copy what git knows to `folder`, and plant what must not get into an image."""
    shutil.rmtree(folder, ignore_errors=True)
    names = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT).split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for name in PLANTED:
        (folder / name).write_text("planted\n")


def make_base(archive: pathlib.Path, scratch: pathlib.Path) -> None:
    """Make a Debian bookworm as small as debian:bookworm-slim, as an archive; keep one that is there."""
    if archive.exists():
        return
    shutil.rmtree(scratch, ignore_errors=True)
    run(["debootstrap", "--variant=minbase", "bookworm", str(scratch)])
    # Where this machine takes Debian's packages from, updates and security with them.
    sources = pathlib.Path("/etc/apt/sources.list.d/debian.sources")
    if sources.exists():
        shutil.copy(sources, scratch / "etc/apt/sources.list.d/")
        (scratch / "etc/apt/sources.list").write_text("")
    for name in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
        shutil.rmtree(scratch / name, ignore_errors=True)
        (scratch / name).mkdir(parents=True)
    run(
        ["tar", "--create", "--file", str(archive), "--sort=name", "--numeric-owner", "-C", str(scratch), "."]
    )
    shutil.rmtree(scratch)


def download_wheels(targets: Iterable[Target], folder: pathlib.Path, more: str = "") -> None:
    """Download what the lock files pin, each checked by its digest; `more` is another place to look in."""
    for lock in (BUILD_LOCK, *(target.lock for target in targets)):
        here = {f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" for path in folder.glob("*")}
        if all(here.intersection(pin.hashes) for pin in read_lock(lock).values()):
            continue
        # What comes as source is built in the image; pip would try here, too, to learn its needs.
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        command += ["--no-build-isolation", "--dest", str(folder), "--requirement", str(lock)]
        run([*command, *(("--find-links", more) if more else ())], cwd=ROOT)


@dataclass(frozen=True)
class Builder:
    """buildah with a storage of its own.

    Attributes:
        folder: Of everything that it keeps.
        context: The build context.
        wheels: What pip installs from.
        base: The archive of the base image.
        epoch: The time of every file, in seconds since 1970.

    """

    folder: pathlib.Path
    context: pathlib.Path
    wheels: pathlib.Path
    base: pathlib.Path
    epoch: int

    def buildah(self, *arguments: str) -> str:
        """Run buildah."""
        own = ["--root", str(self.folder / "storage"), "--runroot", str(self.folder / "run")]
        return run(["buildah", *own, "--storage-driver", "overlay", *arguments]).strip()

    def load_base(self) -> str:
        """Take in the base image; return its name with its digest."""
        container = self.buildah("from", "scratch")
        self.buildah("add", "--quiet", container, str(self.base), "/")
        self.buildah("config", "--cmd", "bash", container)
        self.buildah("commit", "--quiet", "--rm", "--timestamp", str(self.epoch), container, BASE)
        digest = self.buildah("inspect", "--type", "image", "--format", "{{.FromImageDigest}}", BASE)
        return f"{BASE}@{digest}"

    def build(self, target: str, base: str) -> str:
        """Build a target; return the name of the image."""
        pip = self.folder / "pip.conf"
        pip.write_text("[global]\nno-index = true\nfind-links = /wheels\n")
        dockerfile = self.folder / f"Dockerfile.{target}"
        dockerfile.write_text(stages_for((self.context / "Dockerfile").read_text(), target))
        name = f"localhost/voicemesh/{target}:proof"
        self.buildah(
            *("build", "--quiet", "--isolation", "chroot", "--layers", "--format", "oci", "--pull-never"),
            *("--timestamp", str(self.epoch), "--volume", f"{self.wheels}:/wheels:ro"),
            *("--secret", f"id=pip.conf,src={pip}", "--build-arg", f"BASE={base}"),
            *("--build-arg", f"SOURCE_DATE_EPOCH={self.epoch}", "--target", target, "--tag", name),
            *("--file", str(dockerfile), str(self.context)),
        )
        return name

    def inspect(self, image: str) -> dict[str, Any]:
        """Return the configuration of an image, as OCI has it."""
        found: dict[str, Any] = json.loads(self.buildah("inspect", "--type", "image", image))["OCIv1"]
        return found

    def mount(self, image: str) -> pathlib.Path:
        """Return the root of a container of the image, on this machine."""
        container = self.buildah("from", "--pull-never", image)
        return pathlib.Path(self.buildah("mount", container))

    def compressed_bytes(self, image: str) -> int:
        """Return what a registry would hold of the image: its layers, compressed."""
        folder = self.folder / "pushed"
        shutil.rmtree(folder, ignore_errors=True)
        self.buildah("push", "--quiet", image, f"dir:{folder}")
        manifest = json.loads((folder / "manifest.json").read_text())
        total = 0
        for layer in manifest["layers"]:
            blob = folder / layer["digest"].partition(":")[2]
            head = blob.open("rb").read(2)
            total += blob.stat().st_size if head == b"\x1f\x8b" else _gzipped(blob)
        shutil.rmtree(folder)
        return total

    def remove(self) -> None:
        """Remove everything."""
        self.buildah("umount", "--all")
        self.buildah("rm", "--all")
        self.buildah("rmi", "--all", "--force")
        shutil.rmtree(self.folder)


def _gzipped(path: pathlib.Path) -> int:
    counted = _Counter()
    with path.open("rb") as source, gzip.GzipFile(fileobj=counted, mode="wb", compresslevel=6) as packed:
        shutil.copyfileobj(source, packed, 1 << 20)
    return counted.bytes


class _Counter:
    """A file that keeps nothing but its length."""

    def __init__(self) -> None:
        self.bytes = 0

    def write(self, data: bytes) -> int:
        """Count."""
        self.bytes += len(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held."""
