"""Write k8s/components/observability/rules.yaml: the rules of Prometheus, as an object of its operator.

Prometheus and its operator want the same groups in files of different form, and Kustomize cannot put one
into the other. With `--check` nothing is written: it fails if the file is not what this gives. `make rules`
writes it.
"""

import pathlib
import sys
from typing import Any, Final

import yaml

ROOT: Final = pathlib.Path(__file__).resolve().parent.parent
RULES: Final = ROOT / "deploy" / "observability" / "prometheus" / "rules"
FILE: Final = ROOT / "k8s" / "components" / "observability" / "rules.yaml"
HEAD: Final = """\
# Made of deploy/observability/prometheus/rules: change those, then `make rules`.
"""


class _Dumper(yaml.SafeDumper):
    """Writes what has several lines as a block, so that queries can be read and compared."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def main() -> int:
    """Write the file, or check it; return the exit status."""
    text = HEAD + yaml.dump(built(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    if sys.argv[1:] != ["--check"]:
        FILE.write_text(text)
        return 0
    if FILE.is_file() and FILE.read_text() == text:
        return 0
    print(f"{FILE.relative_to(ROOT)} is not what the rules give. Run `make rules` and commit it.")
    return 1


def built() -> dict[str, Any]:
    """Return the object, with the groups of all files in the order of their names."""
    groups = [
        group for path in sorted(RULES.glob("*.yml")) for group in yaml.safe_load(path.read_text())["groups"]
    ]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "voicemesh",
            "labels": {"app.kubernetes.io/name": "voicemesh", "app.kubernetes.io/part-of": "voicemesh"},
        },
        "spec": {"groups": groups},
    }


if __name__ == "__main__":
    sys.exit(main())
