"""Fails where a file of the repository holds what looks like a secret: keys of known shapes, offline.

Detectors by shape alone: those by randomness call every digest of a lock file a secret. What tests need that
looks like one is in `ALLOWED`; a file in it that does not need it any more fails, too.
"""

import concurrent.futures
import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from detect_secrets.core.scan import scan_file
from detect_secrets.settings import get_plugins, transient_settings

ROOT: Final = Path(__file__).resolve().parents[1]
DETECTORS: Final = (
    "ArtifactoryDetector",
    "AWSKeyDetector",
    "AzureStorageKeyDetector",
    "BasicAuthDetector",
    "CloudantDetector",
    "DiscordBotTokenDetector",
    "GitHubTokenDetector",
    "GitLabTokenDetector",
    "IbmCloudIamDetector",
    "JwtTokenDetector",
    "MailchimpDetector",
    "NpmDetector",
    "OpenAIDetector",
    "PrivateKeyDetector",
    "PypiTokenDetector",
    "SendGridDetector",
    "SlackDetector",
    "SquareOAuthDetector",
    "StripeDetector",
    "TelegramBotTokenDetector",
    "TwilioKeyDetector",
)
ALLOWED: Final[dict[str, frozenset[str]]] = {
    # Addresses with a password, which must not get into logs; certificates are made when tests run.
    "tests/": frozenset({"Basic Auth Credentials"}),
    "tests/unit/runtime/test_runtime_tls.py": frozenset({"Private Key"}),
}
"""File, or folder with a slash behind it, to the kinds of secrets that it may seem to hold."""
_MADE: Final = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi", ".binpb", ".png")


def tracked() -> list[str]:
    """Return the files of the repository that are text."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    names = listed.decode().split("\0")
    return [name for name in names if name and not name.endswith(_MADE) and (ROOT / name).is_file()]


def findings(root: Path, names: list[str]) -> dict[str, dict[str, list[int]]]:
    """Return what seems to be a secret: file to kind to lines. No secret is in it."""
    found: dict[str, dict[str, list[int]]] = {}
    with transient_settings({"plugins_used": [{"name": name} for name in DETECTORS]}):
        # Each file as a whole first: line by line takes ten times as long, and few have anything.
        shapes = [shape for plugin in get_plugins() for shape in getattr(plugin, "denylist", ())]
        for name in names:
            text = (root / name).read_text(encoding="utf-8", errors="replace")
            if not any(shape.search(text) for shape in shapes):
                continue
            for secret in scan_file(str(root / name)):
                found.setdefault(name, {}).setdefault(secret.type, []).append(secret.line_number)
    return found


def complaints(found: dict[str, dict[str, list[int]]], allowed: dict[str, frozenset[str]]) -> list[str]:
    """Return what is wrong: what is not allowed, and what is allowed for nothing."""
    wrong = [
        f"{name}:{line}: looks like a secret ({kind}); what is none is in ALLOWED of tools/scan_secrets.py"
        for name, kinds in sorted(found.items())
        for kind, lines in sorted(kinds.items())
        if not _allows(allowed, name, kind)
        for line in lines
    ]
    wrong += [
        f"tools/scan_secrets.py: ALLOWED has {kind!r} for {name}, which has none"
        for name, kinds in sorted(allowed.items())
        for kind in sorted(kinds)
        if not name.endswith("/") and kind not in found.get(name, {})
    ]
    return wrong


def _allows(allowed: dict[str, frozenset[str]], name: str, kind: str) -> bool:
    return any(
        kind in kinds and (name == place or (place.endswith("/") and name.startswith(place)))
        for place, kinds in allowed.items()
    )


def main() -> int:
    """Look through every file of the repository; return the exit status."""
    names = tracked()
    workers = os.cpu_count() or 1
    found: dict[str, dict[str, list[int]]] = {}
    with concurrent.futures.ProcessPoolExecutor(workers) as pool:
        shares = [names[start::workers] for start in range(workers)]
        for share in pool.map(findings, itertools.repeat(ROOT), shares):
            found |= share
    wrong = complaints(found, ALLOWED)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
