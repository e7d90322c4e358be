"""Write the tables of docs/metrics.md from the instruments that the code declares.

An instrument is a module-level `Instrument(...)` of the gateway, a service or the runtime. With `--check`
nothing is written: it fails if the page is not what the code gives.
"""

import importlib
import pathlib
import re
import sys
from collections.abc import Iterator, Sequence

from voicemesh.runtime.instruments import Declared, Instrument, Values

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "metrics.md"
FOLDERS = ("gateway", "services", "voicemesh/runtime")
BEGIN = "<!-- Made from the code: `make docs-metrics`. -->"
END = "<!-- The end of what is made from the code. -->"
TITLES = {
    "gateway": "Turns, in the gateway",
    "services.llm": "The LLM service",
    "services.chunker": "The chunker",
    "services.tts": "The TTS service",
    "services.cache": "The cache service",
    "voicemesh.runtime": "Every process",
}
DECLARATION = re.compile(r"^(\w+)(?:: Final)? = Instrument\($", re.MULTILINE)
MANY = 8
"""Of a label with more values than this, the first are named."""


def main() -> int:
    """Write the page, or check it; return the exit status."""
    text = PAGE.read_text()
    made = page(text)
    if sys.argv[1:] != ["--check"]:
        PAGE.write_text(made)
    elif text != made:
        print(f"{PAGE.relative_to(ROOT)} is not what the code gives. Run `make docs-metrics` and commit it.")
        return 1
    return 0


def page(text: str) -> str:
    """Return the page with tables as the code gives them; what people wrote around them stays."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{PAGE.relative_to(ROOT)} needs the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


def tables() -> str:
    """Return a table for each part of the mesh that declares instruments."""
    parts = []
    for package, title in TITLES.items():
        found = [instrument for module, instrument in declared() if module.startswith(f"{package}.")]
        if found:
            parts += [f"### {title}", "", *table(found), ""]
    return "\n".join(parts)


def table(instruments: Sequence[Instrument]) -> list[str]:
    """Return the lines of one table."""
    lines = [
        "| OpenTelemetry | Prometheus | kind | unit | labels | what it says |",
        "|---|---|---|---|---|---|",
    ]
    for each in instruments:
        labels = "; ".join(f"`{label}`: {words(values)}" for label, values in each.labels.items()) or "none"
        cells = (
            f"`{each.name}`",
            f"`{each.prometheus}`",
            each.kind.value,
            f"`{each.unit}`",
            labels,
            each.description,
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def words(values: Values) -> str:
    """Return the values of a label for people."""
    if isinstance(values, Declared):
        return f"as declared, {values.most} at most"
    shown = ", ".join(values[:MANY])
    return f"{shown} … ({len(values)})" if len(values) > MANY else shown


def declared() -> Iterator[tuple[str, Instrument]]:
    """Find every instrument, with the module that declares it, in the order of its module."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            names = DECLARATION.findall(path.read_text())
            if not names:
                continue
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for name in names:
                yield module, getattr(importlib.import_module(module), name)


if __name__ == "__main__":
    sys.exit(main())
