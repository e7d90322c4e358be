"""What others wrote does not move the terminal of whoever reads it."""

import io

import pytest
from rich.text import Text

from voicemesh.cli.characters import printable
from voicemesh.cli.console import console_for, print_table, table_of
from voicemesh.cli.exits import FAILED, Failure, report

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eback"
HARMLESS = "]0;owned[2J31mback"


def test_control_characters_are_left_out_and_spaces_are_not() -> None:
    assert printable(f"a\n\tb\u00a0c {EVIL}") == f"a\n\tb\u00a0c {HARMLESS}"


def test_nothing_that_is_printed_moves_the_terminal() -> None:
    stream = io.StringIO()
    console = console_for(stream)
    console.print(Text.assemble("turn ", (EVIL, "dim")))
    table = table_of("tenant", "n", left=1)
    table.add_row(EVIL, "1")
    print_table(console, table)
    told = stream.getvalue()
    assert told.count(HARMLESS) == 2
    assert told == printable(told)


def test_a_failure_is_told_with_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    report(Failure(FAILED, "INTERNAL", f"it said {EVIL}\nand \udcff", "try \x1b[2J"))
    told = capsys.readouterr().err
    assert "it said \\x1b]0;owned\\x07" in told
    assert "and \\udcff" in told
    assert told == printable(told)
