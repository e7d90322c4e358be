"""Write what each image holds as CycloneDX 1.6: Python's packages from its lock file, and Debian's.

    tools/image_sbom.py [TARGET …] [--status TARGET=FILE …] [--out FOLDER]

FILE is /var/lib/dpkg/status out of an image that was built, and then all of Debian is listed; without it,
what the lock file adds to the base. Runs in an environment that has `cyclonedx-bom` (`make images-sbom`); the
same input gives the same file, byte for byte.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.parse
from typing import Any, Final

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from image_targets import FOLDER, TARGETS, Target, read_pins
from project import ROOT

_BASE: Final = re.compile(r"^ARG BASE=(\S+?)@sha256:([0-9a-f]{64})$", re.MULTILINE)


def main() -> int:
    """Write; print each file's name."""
    known = {target.name: target for target in TARGETS}
    parser = argparse.ArgumentParser(description="Write what the images hold, as CycloneDX.")
    parser.add_argument("targets", nargs="*", default=list(known))
    parser.add_argument("--status", action="append", default=[], metavar="TARGET=FILE")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build" / "sbom")
    arguments = parser.parse_args()
    status = dict(each.split("=", 1) for each in arguments.status if "=" in each)
    if strangers := sorted({*arguments.targets, *status} - set(known)):
        print(f"no target: {', '.join(strangers)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.targets:
        text = json.dumps(bom_of(known[name], status.get(name)), indent=1, sort_keys=True) + "\n"
        if (error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)) is not None:
            print(f"{name}: is no CycloneDX 1.6: {error}", file=sys.stderr)
            return 1
        path = arguments.out / f"{name}.cdx.json"
        path.write_text(text)
        print(f"{path}: {len(json.loads(text)['components'])} components")
    return 0


def bom_of(target: Target, status: str | None) -> dict[str, Any]:
    """Return the bill of materials of an image; `status`: a file of dpkg's, or None."""
    with tempfile.TemporaryDirectory() as scratch:
        out = pathlib.Path(scratch) / "bom.json"
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "cyclonedx_py",
            "requirements",
            "--output-reproducible",
            "--sv",
            "1.6",
        ]
        command += ["--pyproject", str(ROOT / "pyproject.toml"), "-o", str(out)]
        subprocess.run([*command, str(target.lock)], check=True)
        bom: dict[str, Any] = json.loads(out.read_text())
    bom["metadata"]["component"] |= {"name": f"voicemesh/{target.name}", "type": "container"}
    (base, digest) = _BASE.findall((ROOT / "Dockerfile").read_text())[0]
    components = bom["components"]
    if status is None:
        components += [_debian(*each, "") for each in read_pins(FOLDER / "debian-python.lock").items()]
    else:
        for block in pathlib.Path(status).read_text().split("\n\n"):
            field = dict(re.findall(r"^(Package|Version|Architecture|Status): (.+)$", block, re.MULTILINE))
            if "installed" in field.get("Status", "").split():
                components.append(_debian(field["Package"], field["Version"], field["Architecture"]))
    hashes = [{"alg": "SHA-256", "content": digest}]
    components.append({"type": "container", "bom-ref": "base", "name": base, "hashes": hashes})
    return bom


def _debian(name: str, version: str, architecture: str) -> dict[str, str]:
    where = f"arch={architecture}&distro=debian-12" if architecture else "distro=debian-12"
    purl = f"pkg:deb/debian/{urllib.parse.quote(name)}@{urllib.parse.quote(version, safe='')}?{where}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


if __name__ == "__main__":
    sys.exit(main())
