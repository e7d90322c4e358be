"""Turns of the mesh beside those of other frameworks, all in one run of one harness.

    .venv/bin/python -m benchmarks.peers.run --peerbench DIR [--engines fast,slow] [--levels 1,40] [--reps 3]

The harness at DIR (or `VOICEMESH_PEERBENCH`) is copied to a work folder, where it gets our runner and a
virtual environment for each peer; the first run needs some minutes and a package registry for that. The
tables are the harness's; behind them comes our own report: every chunk with its reason, ratios to the peers,
and targets.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from typing import Final

from benchmarks.peers import report
from benchmarks.peers.replies import OWN

HERE: Final = pathlib.Path(__file__).resolve().parent
DEFAULT_WORK: Final = pathlib.Path(tempfile.gettempdir()) / "voicemesh-peerbench"
_MADE_THERE: Final = ("venvs", "raw", "results*", "notes*", "__pycache__")
_PROGRESS: Final = re.compile(r"\d\d:\d\d:\d\d rep ")


def main() -> None:
    options = parse()
    work = pathlib.Path(options.work)
    if not options.report_only:
        copy(harness_folder(options.peerbench), work, own_replies=options.replies == "own")
        set_up(work)
        measure(work, options)
    print(report.render(report.read(work, options.name, own_replies=options.replies == "own")))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peerbench", metavar="DIR", default=os.environ.get("VOICEMESH_PEERBENCH", ""))
    parser.add_argument("--work", metavar="DIR", default=str(DEFAULT_WORK), help="default: %(default)s")
    parser.add_argument("--runners", default="naive_stream,pipecat,livekit,realtimetts,voicemesh")
    parser.add_argument("--engines", default="fast,slow")
    parser.add_argument("--levels", default="1,40", help="turns at once; 1: each reply once, one by one")
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--spread", type=float, default=0.0, help="seconds over which a level's turns begin")
    parser.add_argument("--replies", choices=("harness", "own"), default="harness")
    parser.add_argument("--name", default="main", help="of the results, in the work folder")
    parser.add_argument("--report-only", action="store_true", help="of what was measured before as NAME")
    return parser.parse_args()


def harness_folder(path: str) -> pathlib.Path:
    folder = pathlib.Path(path)
    if not path or not (folder / "peerbench" / "runner.py").is_file():
        raise SystemExit(
            f"--peerbench: {path or 'nothing'} is not the harness's folder (the one with bench.py); "
            "give it, or set VOICEMESH_PEERBENCH"
        )
    return folder


def copy(harness: pathlib.Path, work: pathlib.Path, *, own_replies: bool) -> None:
    """Copy the harness over what is in the work folder, add our runner, and choose the replies."""
    shutil.copytree(harness, work, ignore=shutil.ignore_patterns(*_MADE_THERE), dirs_exist_ok=True)
    shutil.copy(HERE / "gateway_runner.py", work / "peerbench" / "runners")
    with (work / "peerbench" / "runner.py").open("a", encoding="utf-8") as file:
        place = '("voicemesh", "peerbench.runners.gateway_runner:GatewayRunner")'
        file.write(f'\nREGISTRY["voicemesh"] = {place}\n')
    if own_replies:
        choose_own_replies(work)


def choose_own_replies(work: pathlib.Path) -> None:
    """Have the harness's LLM server give our replies, cut into tokens as it cuts its own."""
    texts = work / "llm_server_texts.py"
    texts.rename(work / "llm_server_texts_of_harness.py")
    replies = json.dumps([reply.text for reply in OWN], ensure_ascii=True, indent=1)
    texts.write_text(
        '"""Made by benchmarks/peers/run.py."""\n'
        "from llm_server_texts_of_harness import bpe_like\n\n"
        f"REPLIES = {replies}\n\nTOKENS = [bpe_like(reply) for reply in REPLIES]\n",
        encoding="utf-8",
    )
    worker = work / "peerbench" / "worker.py"
    source, found = re.subn(
        r"^N_CASES = \d+$", f"N_CASES = {len(OWN)}", worker.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    if found != 1:
        raise SystemExit(
            f"{worker} does not say N_CASES = … in one line; this version of the harness is not known"
        )
    worker.write_text(source, encoding="utf-8")


def set_up(work: pathlib.Path) -> None:
    """Make an environment for each peer, as the harness does it; ours is the one that runs this."""
    subprocess.run(["nice", "-n", "19", "./setup.sh"], cwd=work, check=True)
    ours = work / "venvs" / "voicemesh"
    ours.unlink(missing_ok=True)
    ours.symlink_to(sys.prefix, target_is_directory=True)


def measure(work: pathlib.Path, options: argparse.Namespace) -> None:
    """Run the harness; keep its tables in the work folder, and print them where its headings fit."""
    notes = report.notes_path(work, options.name)
    notes.unlink(missing_ok=True)
    command = [str(work / "venvs/base/bin/python"), "bench.py", "--port", str(free_port())]
    for name in ("runners", "engines", "levels", "reps", "spread", "name"):
        command += [f"--{name}", str(getattr(options, name))]
    env = {
        **os.environ,
        "VOICEMESH_PEER_NOTES": str(notes),
        "VOICEMESH_PEER_CHECKOUT": str(HERE.parents[1]),
        "PYTHONUNBUFFERED": "1",
    }
    tables, failed = [], []
    with subprocess.Popen(command, cwd=work, env=env, stdout=subprocess.PIPE, text=True) as bench:
        assert bench.stdout is not None
        for line in bench.stdout:
            if _PROGRESS.match(line):
                print(line, end="", file=sys.stderr, flush=True)
                if "rc 0," not in line:
                    failed.append(line)
            else:
                tables.append(line)
    if bench.returncode:
        raise SystemExit(
            f"the harness ended with status {bench.returncode}; see {work / 'raw' / options.name}"
        )
    if options.replies == "harness":
        print("".join(tables))
    if failed:
        raw = work / "raw" / options.name
        print(f"{len(failed)} of these runs failed; what each said is in {raw}/*.err", file=sys.stderr)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
