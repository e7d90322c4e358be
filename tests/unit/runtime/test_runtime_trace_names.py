"""Names of spans, events and attributes: each written once, and told to people."""

import ast
import pathlib
from collections.abc import Iterator

from voicemesh.runtime import trace_names

ROOT = pathlib.Path(__file__).resolve().parents[3]
PACKAGES = ("voicemesh", "services", "gateway")
CALLS = ("add_event", "set_attribute", "set_attributes")


def names() -> dict[str, str]:
    return {name: value for name, value in vars(trace_names).items() if name.isupper()}


def literals(call: ast.Call) -> Iterator[str]:
    """Yield the names that a call of a span has as literals."""
    for argument in call.args[:2]:
        given = argument.keys if isinstance(argument, ast.Dict) else [argument]
        for node in given:
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and argument is not call.args[-1]
            ):
                yield node.value
            elif isinstance(node, ast.Constant) and isinstance(argument, ast.Dict):
                yield str(node.value)


def test_code_says_none_of_them_itself() -> None:
    found = []
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in CALLS
            ):
                found += [f"{path.relative_to(ROOT)}:{node.lineno}: {name}" for name in literals(node)]
    assert not found, "put them into voicemesh/runtime/trace_names.py"


def test_the_search_finds_a_literal() -> None:
    calls = (
        "span.add_event('a', {'b': 1})",
        "span.set_attribute('a', 'value')",
        "span.set_attributes({'a': 1})",
    )
    for call in calls:
        node = ast.parse(call).body[0]
        assert isinstance(node, ast.Expr)
        assert isinstance(node.value, ast.Call)
        assert "a" in list(literals(node.value))


def test_the_page_has_them_all() -> None:
    page = (ROOT / "docs" / "tracing.md").read_text()
    assert not [name for name in names().values() if f"`{name}`" not in page]


def test_none_is_there_twice() -> None:
    values = list(names().values())
    assert sorted(values) == sorted(set(values))
