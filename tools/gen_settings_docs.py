"""Write docs/settings.md, one table of every setting, and the names of all of them for the runtime.

A setting is a field of a `ServerSettings`; the string below the field says what it does. With
`--check` nothing is written: it fails if a file is not what the code gives.
"""

import ast
import enum
import importlib
import inspect
import itertools
import json
import pathlib
import sys
import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from voicemesh.runtime.settings import PREFIX, ListenAddress, MetricsAddress, ServerSettings, variable_of

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "settings.md"
NAMES = ROOT / "voicemesh" / "runtime" / "known_settings.py"
NAMES_HEADER = '''\
"""The variables of every process and of the command line. Made from the code: `make docs-settings`."""

from typing import Final

KNOWN: Final = frozenset(
    {{
{listed}    }}
)
'''
CALLERS = {
    "VOICEMESH_ADDR": "Where the mesh is, `HOST:PORT`; several gateways parted by commas.",
    "VOICEMESH_TENANT": "Whose calls they are; with keys the key says it.",
    "VOICEMESH_API_KEY": "The key or token that the gateway asks for.",
    "VOICEMESH_API_KEY_FILE": "A file with it instead.",
    "VOICEMESH_ALLOW_PLAIN_KEY": "`true`: send it to another machine without TLS, too.",
    "VOICEMESH_CLIENT_TLS": "`true`: speak TLS, and believe the authorities that gRPC brings.",
    "VOICEMESH_CLIENT_TLS_CA": "Speak TLS, and believe the authorities in this file.",
    "VOICEMESH_CLIENT_TLS_CERT": "The certificate to show, where one is asked for.",
    "VOICEMESH_CLIENT_TLS_KEY": "Its key.",
    "VOICEMESH_CLIENT_TLS_SERVER_NAME": "The name in the gateway's certificate, where it is not the host's.",
}
"""What the command line reads, which has no settings class, and what for."""
HEADER = """\
# Settings

Every process of the mesh reads its settings from the environment when it starts, checks them, and
logs them with secrets hidden. A wrong one ends it at once with exit status 2 and a line that names
the variable; a `VOICEMESH_` variable that no process knows is named in a warning, with the nearest that
there is. This page is made from the code: `make docs-settings`.
"""


def main() -> int:
    """Write both files, or check them; return the exit status."""
    texts = {PAGE: page(), NAMES: names()}
    if sys.argv[1:] != ["--check"]:
        for path, text in texts.items():
            path.write_text(text)
        return 0
    wrong = [path for path, text in texts.items() if not path.is_file() or path.read_text() != text]
    for path in wrong:
        print(f"{path.relative_to(ROOT)} is not what the code gives. Run `make docs-settings` and commit it.")
    return 1 if wrong else 0


def names() -> str:
    """Return the module that holds the names of all settings: no process can import those of the others."""
    found = {variable_of(ServerSettings, field) for field in ServerSettings.model_fields} | set(CALLERS)
    for _, settings_type in services():
        found |= {variable_of(settings_type, field) for field in settings_type.model_fields}
    listed = "".join(f'        "{name}",\n' for name in sorted(found) if name.startswith(PREFIX))
    return NAMES_HEADER.format(listed=listed)


def page() -> str:
    """Return the whole page."""
    parts = [HEADER, *section("Every process", ServerSettings, list(ServerSettings.model_fields))]
    for title, settings_type in services():
        own = [name for name in settings_type.model_fields if name not in ServerSettings.model_fields]
        parts += section(title, settings_type, own)
    parts += [
        "## Commands",
        "",
        "What `voicemesh ask` and its like read; the Python client takes arguments instead.",
        "",
    ]
    parts += ["| variable | what it does |", "| --- | --- |"]
    parts += [*(f"| `{name}` | {text} |" for name, text in CALLERS.items()), ""]
    return "\n".join(parts)


def services() -> Iterator[tuple[str, type[ServerSettings]]]:
    """Find the settings of each service and of the gateway, by the layout that all of them share."""
    for path in [ROOT / "gateway" / "settings.py", *sorted(ROOT.glob("services/*/settings.py"))]:
        if path.is_file():
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            module = importlib.import_module(name)
            for _, member in inspect.getmembers(module, inspect.isclass):
                if issubclass(member, ServerSettings) and member.__module__ == name:
                    yield f"`python -m {name.removesuffix('.settings')}`", member


def section(title: str, settings_type: type[ServerSettings], names: list[str]) -> list[str]:
    """Return the lines of one table."""
    comments = comments_of(settings_type)
    lines = [f"## {title}", "", "| variable | default | values | what it does |", "| --- | --- | --- | --- |"]
    for name in names:
        field = settings_type.model_fields[name]
        if name not in comments:
            raise SystemExit(
                f"{settings_type.__module__}: {name} needs a string below it that says what it does"
            )
        cells = [f"`{variable_of(settings_type, name)}`", default_of(field), values_of(field), comments[name]]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return [*lines, ""]


def comments_of(settings_type: type[ServerSettings]) -> dict[str, str]:
    """Return field → the string below it, for the fields of a class and of those it extends."""
    found: dict[str, str] = {}
    for owner in reversed(settings_type.__mro__):
        if not issubclass(owner, ServerSettings):
            continue
        (definition,) = ast.parse(inspect.cleandoc("\n" + inspect.getsource(owner))).body
        body = definition.body if isinstance(definition, ast.ClassDef) else []
        for field, below in itertools.pairwise(body):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
                and isinstance(below.value.value, str)
            ):
                found[field.target.id] = " ".join(below.value.value.split())
    return found


def default_of(field: FieldInfo) -> str:
    """Return the default as it would be written in the environment."""
    if field.is_required():
        return "required"
    value = plain(field.get_default(call_default_factory=True, validated_data={}))
    if value in (None, "", [], {}):
        return "none"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def plain(value: Any) -> Any:
    """Return `value` as what JSON knows."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, SecretStr):
        return "set"
    if isinstance(value, pathlib.PurePath):
        return str(value)
    return value


def values_of(field: FieldInfo) -> str:
    """Say in a few words what a setting may be."""
    words = kind_of(field.annotation)
    if any(item in field.metadata for item in get_args(ListenAddress)[1:]):
        words = "`HOST:PORT` or `unix:PATH`"
    if any(item in field.metadata for item in get_args(MetricsAddress)[1:]):
        words = "`HOST:PORT`, `unix:PATH` or empty"
    low = high = None
    for item in field.metadata:
        if isinstance(item, annotated_types.Ge):
            low = f"at least {item.ge}"
        elif isinstance(item, annotated_types.Gt):
            low = f"above {item.gt}"
        elif isinstance(item, annotated_types.Le):
            high = f"at most {item.le}"
        elif isinstance(item, annotated_types.Lt):
            high = f"below {item.lt}"
    return ", ".join(filter(None, (words, low, high)))


KINDS: dict[Any, str] = {
    bool: "`true` or `false`",
    int: "whole number",
    float: "number",
    str: "text",
    SecretStr: "secret text",
    pathlib.Path: "path",
}


def kind_of(annotation: Any) -> str:
    """Name a type for people."""
    origin = get_origin(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if origin in (Union, types.UnionType):
        return " or ".join(kind_of(member) for member in get_args(annotation) if member is not type(None))
    if inspect.isclass(annotation) and issubclass(annotation, enum.Enum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    if origin in (list, tuple, set, frozenset):
        return "JSON list"
    if origin is dict or hasattr(annotation, "model_fields"):
        return "JSON object"
    return KINDS.get(annotation, "text")


if __name__ == "__main__":
    sys.exit(main())
