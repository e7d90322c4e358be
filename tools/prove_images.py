"""Build the images without Docker, twice; look into each; run all of them, and speak turns through them.

    tools/prove_images.py [TARGET …] [--work FOLDER] [--once] [--keep] [--cpu-wheels PLACE]

Without targets: the five of the mesh and the command line. Needs root on Linux, buildah, debootstrap, and a
mirror of Debian; what an image holds of Python is downloaded first, and checked by its digest. Writes
`FOLDER/proof.json`; ends with 1 where something is not as docs/images.md says.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import socket
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from image_builds import Builder, CannotBuildError, check_machine, download_wheels, make_base, make_context
from image_roots import UID, Running, look_into
from image_targets import TARGETS, Target
from project import ROOT

MESH: Final = ("chunker", "llm", "cache", "tts", "gateway")
USUAL: Final = (*MESH, "cli")
EPOCH: Final = 1_700_000_000
TURNS: Final = 20
PROMPT: Final = "Why is the sky blue? Tell me more about it, please."
_READY_S: Final = 120.0
_TURN_S: Final = 120.0
_MB: Final = 1_000_000


def main() -> int:
    """Prove; print a table and what is wrong."""
    parser = argparse.ArgumentParser(description="Build the images without Docker, look into them, run them.")
    parser.add_argument("targets", nargs="*", default=list(USUAL))
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "build" / "images")
    parser.add_argument("--once", action="store_true", help="do not build a second time to compare")
    parser.add_argument("--keep", action="store_true", help="keep what was built")
    parser.add_argument("--cpu-wheels", default="", help="where PyTorch's builds for CPUs are")
    arguments = parser.parse_args()
    known = {target.name: target for target in TARGETS}
    if strangers := sorted(set(arguments.targets) - set(known)):
        print(f"no target: {', '.join(strangers)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    try:
        return _prove([known[name] for name in arguments.targets], arguments)
    except CannotBuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _prove(targets: list[Target], arguments: argparse.Namespace) -> int:
    check_machine()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    _say("base image")
    make_base(work / "base.tar", work / "scratch")
    _say("wheels")
    download_wheels(targets, work / "wheels", arguments.cpu_wheels)
    make_context(work / "context")
    builders = [
        Builder(work / folder, work / "context", work / "wheels", work / "base.tar", EPOCH)
        for folder in (("one",) if arguments.once else ("one", "two"))
    ]
    wrong: list[str] = []
    rows: dict[str, dict[str, Any]] = {}
    try:
        layers: list[dict[str, Any]] = []
        for builder in builders:
            builder.folder.mkdir(exist_ok=True)
            base = builder.load_base()
            layers.append({})
            for target in targets:
                _say(f"{target.name}: build {len(layers)}")
                image = builder.build(target.name, base)
                layers[-1][target.name] = builder.inspect(image)["rootfs"]["diff_ids"]
        first = builders[0]
        roots: dict[str, tuple[pathlib.Path, Mapping[str, Any]]] = {}
        for target in targets:
            _say(f"{target.name}: what is in it")
            image = _name(target.name)
            root, config = first.mount(image), first.inspect(image)["config"]
            roots[target.name] = root, config
            wrong += [f"{target.name}: {fault}" for fault in look_into(root, target)]
            if config["User"] != f"{UID}:{UID}":
                wrong.append(f"{target.name}: runs as {config['User']}")
            same = (
                ""
                if arguments.once
                else ("yes" if layers[0][target.name] == layers[1][target.name] else "no")
            )
            if same == "no":
                wrong.append(f"{target.name}: two builds differ")
            rows[target.name] = {
                "unpacked_mb": _tree_bytes(root) / _MB,
                "compressed_mb": first.compressed_bytes(image) / _MB,
                "same_twice": same,
                "layers": layers[0][target.name],
            }
        if all(name in roots for name in USUAL):
            _Mesh(roots, rows, wrong, work).prove()
    finally:
        (work / "proof.json").write_text(json.dumps({"images": rows, "wrong": wrong}, indent=2) + "\n")
        if not arguments.keep:
            for builder in builders:
                builder.remove()
            shutil.rmtree(work / "context", ignore_errors=True)
    _table(rows)
    for fault in wrong:
        print(f"wrong: {fault}")
    return 1 if wrong else 0


class _Mesh:
    """Five processes in the roots of their images, and the command line in its own."""

    def __init__(
        self,
        roots: Mapping[str, tuple[pathlib.Path, Mapping[str, Any]]],
        rows: dict[str, dict[str, Any]],
        wrong: list[str],
        work: pathlib.Path,
    ) -> None:
        self._roots, self._rows, self._wrong, self._work = roots, rows, wrong, work
        self._ports = dict(
            zip((*MESH, "http", *(f"{name} health" for name in MESH)), _free_ports(11), strict=True)
        )
        self._running: dict[str, Running] = {}

    def prove(self) -> None:
        """Start, probe, speak, measure, drain."""
        try:
            for name in MESH:
                _say(f"{name}: start")
                self._start(name)
            for name in MESH:
                self._probe(name)
            _say("turns")
            spoken = [self._ask("--json") for _ in range(TURNS)]
            for report in map(json.loads, spoken):
                # A cache that is asked on a busy machine may answer later than a turn waits for it.
                given_up = set(report["degraded"]) - {"cache", "history"}
                if report["outcome"] != "completed" or report["audio_ms"] < 500 or given_up:
                    self._wrong.append(f"a turn ended {report['outcome']}, without {sorted(given_up)}")
            for name in MESH:
                self._rows[name]["memory_mb"] = self._running[name].memory_bytes() / _MB
            _say("drain")
            self._drain()
        finally:
            for process in self._running.values():
                process.kill()

    def _start(self, name: str) -> None:
        port = self._ports
        environment = {
            f"VOICEMESH_{name.upper()}_LISTEN": f"127.0.0.1:{port[name]}",
            "VOICEMESH_HEALTH_LISTEN": f"127.0.0.1:{port[f'{name} health']}",
            "VOICEMESH_DRAIN_GRACE_S": "60",
        }
        if name == "gateway":
            environment["VOICEMESH_HTTP_LISTEN"] = f"127.0.0.1:{port['http']}"
            environment |= {f"VOICEMESH_{each.upper()}_ADDR": f"127.0.0.1:{port[each]}" for each in MESH[:-1]}
        root, config = self._roots[name]
        begun = time.monotonic()
        process = Running(root, config, environment=environment, log=self._work / f"{name}.log")
        self._running[name] = process
        self._until(name, lambda: self._health(name, "voicemesh.accepts") == "SERVING")
        self._rows[name]["ready_s"] = time.monotonic() - begun

    def _until(self, name: str, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _READY_S
        while not reached():
            if self._running[name].gone or time.monotonic() > deadline:
                log = (self._work / f"{name}.log").read_text(errors="replace")
                raise CannotBuildError(f"{name} does not become SERVING:\n{log[-3000:]}")
            time.sleep(0.05)

    def _health(self, name: str, service: str) -> str:
        with grpc.insecure_channel(f"127.0.0.1:{self._ports[f'{name} health']}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            try:
                answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=2.0)
            except grpc.RpcError as error:
                return str(error.code().name)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

    def _probe(self, name: str) -> None:
        """Ask as kubelet does, and what the kernel says of the process."""
        for service in ("voicemesh.alive", "voicemesh.accepts"):
            if (found := self._health(name, service)) != "SERVING":
                self._wrong.append(f"{name}: {service} is {found}")
        status = self._running[name].status()
        expected = {
            "Uid": str(UID),
            "Gid": str(UID),
            "NoNewPrivs": "1",
            "CapEff": "0" * 16,
            "CapBnd": "0" * 16,
        }
        for field, value in expected.items():
            if set(status[field].split()) != {value}:
                self._wrong.append(f"{name}: {field} is {status[field]}")
        if status["NSpid"].split()[-1] != "1" or status["Name"] != "python":
            self._wrong.append(f"{name}: process 1 is {status['Name']} ({status['NSpid']})")
        root, config = self._roots[name]
        program = (
            "import os, sys, tempfile\n"
            "tempfile.TemporaryFile().write(b'here')\n"
            "for folder in ('/', '/opt/voicemesh', '/opt/mesh', '/var', '/etc', '/usr/lib/python3.11'):\n"
            "    try: open(os.path.join(folder, 'written'), 'w')\n"
            "    except OSError: continue\n"
            "    sys.exit(folder)\n"
        )
        tried = Running(root, config, ("-c", program), entrypoint=("/opt/voicemesh/bin/python",))
        code, _, said = tried.finish(_TURN_S)
        if code:
            self._wrong.append(f"{name}: writes to {said.strip()[-200:]}")

    def _ask(self, *options: str) -> str:
        code, out, err = self._command("ask", PROMPT, *options).finish(_TURN_S)
        if code:
            raise CannotBuildError(f"a turn failed ({code}): {err[-2000:]}")
        return out

    def _command(self, *arguments: str) -> Running:
        root, config = self._roots["cli"]
        return Running(root, config, (*arguments, "--addr", f"127.0.0.1:{self._ports['gateway']}"))

    def _drain(self) -> None:
        """End each process as kubelet does: the gateway within a turn, which is to be spoken to its end."""
        asking = self._command("ask", PROMPT)
        if not asking.output.read(1):
            raise CannotBuildError("a turn said nothing")
        status, seconds = self._running["gateway"].terminate()
        code, _, said = asking.finish(_TURN_S)
        if code:
            self._wrong.append(
                f"a turn that ran when the gateway was told to stop ended with {code}: {said[-500:]}"
            )
        ends = {"gateway": (status, seconds)}
        for name in MESH[:-1]:
            ends[name] = self._running[name].terminate()
        for name, (status, seconds) in ends.items():
            self._rows[name]["stopped_s"] = seconds
            if status:
                self._wrong.append(f"{name}: ended with {status} behind SIGTERM")


def _name(target: str) -> str:
    return f"localhost/voicemesh/{target}:proof"


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _tree_bytes(root: pathlib.Path) -> int:
    return sum(
        pathlib.Path(folder, name).lstat().st_size for folder, _, names in os.walk(root) for name in names
    )


def _table(rows: Mapping[str, Mapping[str, Any]]) -> None:
    columns = ("unpacked_mb", "compressed_mb", "same_twice", "ready_s", "memory_mb", "stopped_s")
    print(f"{'image':<16}" + "".join(f"{column:>15}" for column in columns))
    for name, row in rows.items():
        cells = (row.get(column, "") for column in columns)
        print(
            f"{name:<16}"
            + "".join(f"{cell:>15.1f}" if isinstance(cell, float) else f"{cell:>15}" for cell in cells)
        )


def _say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
