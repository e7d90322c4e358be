"""A tracing UI on this machine: Phoenix, in a virtual environment of its own, takes what a mesh exports.

    make trace-ui                      serve until Ctrl-C
    make trace-ui ARGS="--port 7006"
    make trace-ui-demo                 one turn through a mesh of its own; print its trace as the UI has it

Run by the Python of that environment; standard library only. Traces are kept in its folder.
"""

import argparse
import contextlib
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

ROOT: Final = pathlib.Path(__file__).resolve().parent.parent
HOST: Final = "127.0.0.1"
PROJECT: Final = "voicemesh"
SERVICES: Final = {
    "gateway": "turn",
    "llm": "voicemesh.llm.v1.LlmService/Generate",
    "chunker": "voicemesh.chunker.v1.ChunkerService/Chunk",
    "tts": "voicemesh.tts.v1.TtsService/Synthesize",
    "cache": "voicemesh.cache.v1.CacheService/Exchange",
}
"""A span of each process. All but the gateway's are there twice: of the call, and of its answer."""
_START_S: Final = 180.0
_INGEST_S: Final = 30.0
_STOP_S: Final = 10.0
_LOOK_S: Final = 0.25


def main() -> int:
    """Serve, or show a turn; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--port", type=int, default=6006, help="of the UI")
    parser.add_argument("--grpc-port", type=int, default=4317, help="that spans are sent to")
    parser.add_argument("--demo", action="store_true", help="run one turn, print its trace, and end")
    parser.add_argument("--keep", action="store_true", help="with --demo: serve on until Ctrl-C")
    parser.add_argument("--prompt", default="Why is the sky blue?", help="of the demo")
    chosen = parser.parse_args()
    for option, port in (("--port", chosen.port), ("--grpc-port", chosen.grpc_port)):
        if taken := why_taken(port):
            print(f"{option} {port}: {taken}; choose another one (make trace-ui ARGS='{option} …')")
            return 3
    status = 0  # also of Ctrl-C before it is up
    with serving(chosen.port, chosen.grpc_port) as server:
        if not wait_until_up(server, chosen.port):
            print("the UI did not start; what it said is above")
            return 1
        told = environment(chosen.grpc_port)
        print(f"traces are shown at http://{HOST}:{chosen.port}\n")
        print("start the mesh with these, and ask it something:")
        print("  " + " ".join(f"{name}={value}" for name, value in told.items()) + " make up")
        print("  .venv/bin/voicemesh ask 'Why is the sky blue?'\n", flush=True)
        if chosen.demo:
            status = demo(chosen.port, chosen.prompt, told)
        if not chosen.demo or chosen.keep:
            print("Ctrl-C ends it", flush=True)
            server.wait()
    return status


def why_taken(port: int) -> str:
    """Return why nothing can listen on a port; "" where it can."""
    if not 1 <= port <= 65535:
        return "a port is 1 to 65535"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return error.strerror or str(error)
    return ""


def environment(grpc_port: int) -> dict[str, str]:
    """Return the variables that a mesh is to be started with: of traces alone, the UI takes no metrics."""
    return {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://{HOST}:{grpc_port}",
        "OTEL_RESOURCE_ATTRIBUTES": f"openinference.project.name={PROJECT}",
    }


@contextlib.contextmanager
def serving(port: int, grpc_port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run the server of the UI."""
    bin_folder = pathlib.Path(sys.executable).parent
    kept = bin_folder.parent / "traces"
    kept.mkdir(exist_ok=True)
    # It is to tell nobody of its use, and to need no internet.
    own = {
        "PHOENIX_HOST": HOST,
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(grpc_port),
        "PHOENIX_WORKING_DIR": str(kept),
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
        "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",
        "PHOENIX_ENABLE_MCP_SERVER": "false",
        "PHOENIX_LOGGING_LEVEL": "warning",
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    server = subprocess.Popen(
        [str(bin_folder / "phoenix"), "serve"],
        env=inherited | own,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for this process, which ends it in order
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        yield server
    except KeyboardInterrupt:
        print("\nended")
    finally:
        server.terminate()
        try:
            server.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def wait_until_up(server: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until the UI answers; return whether it does."""
    print("starting the UI; the first time it makes its database …", flush=True)
    ends_s = time.monotonic() + _START_S
    while server.poll() is None and time.monotonic() < ends_s:
        with contextlib.suppress(OSError, http.client.HTTPException):
            get(port, "/healthz")
            return True
        time.sleep(_LOOK_S)
    return False


def get(port: int, path: str) -> bytes:
    """Return what the UI answers with. Raises OSError where that is no success."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise OSError(f"HTTP {response.status}")
    return body


def demo(port: int, prompt: str, told: dict[str, str]) -> int:
    """Run one turn through a mesh of its own, and print its trace; return the exit status."""
    before = {root["context"]["trace_id"] for root in roots(port)}
    voicemesh = ROOT / ".venv" / "bin" / "voicemesh"
    spoken = subprocess.run([str(voicemesh), "demo", "--", prompt], env=os.environ | told, check=False)
    if spoken.returncode:
        return spoken.returncode
    ends_s = time.monotonic() + _INGEST_S
    missing = list(SERVICES)
    while time.monotonic() < ends_s:
        for root in roots(port):
            trace_id = root["context"]["trace_id"]
            if trace_id in before or root["name"] != "turn":
                continue
            spans = spans_of(port, trace_id)
            missing = absent(spans)
            if not missing:
                print(f"\ntrace {trace_id}, as the UI has it:")
                print("\n".join(tree(spans)))
                return 0
        time.sleep(_LOOK_S)
    print(f"the trace is not whole after {_INGEST_S:.0f} s: nothing came of {', '.join(missing)}")
    return 1


def roots(port: int) -> list[dict[str, Any]]:
    """Return the spans that begin a trace, as far as the UI has any."""
    try:
        return spans_by(port, "parent_id=null")
    except OSError:
        return []  # there is no such project before the first span


def spans_of(port: int, trace_id: str) -> list[dict[str, Any]]:
    """Return the spans of a trace."""
    return spans_by(port, f"trace_id={trace_id}")


def spans_by(port: int, query: str) -> list[dict[str, Any]]:
    """Return the spans that a query finds."""
    found: list[dict[str, Any]] = json.loads(get(port, f"/v1/projects/{PROJECT}/spans?limit=1000&{query}"))[
        "data"
    ]
    return found


def absent(spans: Sequence[dict[str, Any]]) -> list[str]:
    """Return the services of which a trace has nothing yet."""
    names = [span["name"] for span in spans]
    return [
        service
        for service, span in SERVICES.items()
        if names.count(span) < (1 if service == "gateway" else 2)
    ]


def tree(spans: Sequence[dict[str, Any]]) -> list[str]:
    """Return the lines of a trace: spans below their parents, in order of time."""
    below: dict[str | None, list[dict[str, Any]]] = {}
    known = {span["context"]["span_id"] for span in spans}
    for span in sorted(spans, key=lambda span: str(span["start_time"])):
        parent = span["parent_id"] if span["parent_id"] in known else None
        below.setdefault(parent, []).append(span)
    lines: list[str] = []

    def add(parent: str | None, depth: int) -> None:
        for span in below.get(parent, ()):
            lines.append(f"{'  ' * depth}{span['name']}")
            add(span["context"]["span_id"], depth + 1)

    add(None, 1)
    return lines


if __name__ == "__main__":
    sys.exit(main())
