"""`explain --slowest` and `--file`: what is said of many turns, legible however narrow, and every refusal."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from tests.unit.critical_path.exports import request, span
from tests.unit.critical_path.populations import noisy, population, turn
from voicemesh.cli import slow_text
from voicemesh.cli.ages import age_s
from voicemesh.cli.app import app
from voicemesh.cli.exits import Failure
from voicemesh.cli.slow import options_of, too_few
from voicemesh.client.report import report_from_proto
from voicemesh.common.v1 import common_pb2
from voicemesh.critical_path import FirstChunk, Population, Turn, analyse
from voicemesh.critical_path.reports import turn_from
from voicemesh.gateway.v1 import gateway_pb2 as pb


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments)


NOW_S = 1_763_718_000.0


def mixed() -> list[Turn]:
    held = FirstChunk("clause", "miss", 900.0)
    made = noisy(200)
    made += [turn(f"{number:032x}", {"chunk_hold": 160.0}, first=held) for number in range(11)]
    made += [turn(f"q{number}", {"tts_queue": 600.0}, degraded=("cache",)) for number in range(7)]
    made.append(turn("late", underruns=2, underrun_ms=400.0, underrun_stages={"tts_synthesis": 300.0}))
    made.append(turn("odd", {"gateway": 5000.0}, tenant="acme"))
    return made


def shown(taken: Population, width: int = 80, encoding: str = "utf-8", *, forgotten: bool = False) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="replace")
    slow_text.show(Console(file=stream, width=width), analyse(taken), taken, "here", forgotten=forgotten)
    stream.flush()
    return raw.getvalue().decode(encoding)


def test_the_account_says_what_why_how_often_and_what_helps():
    text = " ".join(shown(population(mixed(), slowest=19)).split())
    for said in (
        "the 19 slowest of 220 turns by time to first audio",
        "tts_queue: first chunk waited 601 ms for a replica in 37% of slow turns (7 of 19)",
        "chunk_hold: first chunk held 180 ms by lookahead in 58% of slow turns (11 of 19)",
        "usually 20.0 ms; +160 ms in these (medians)",
        "11 of 220 turns have it, slow or not",
        "try: every replica of the voice was busy: more replicas in VOICEMESH_TTS_VOICES",
        "fewer than 3 turns: too few to conclude from",
        "37% of slow turns, 3% of all: gave up cache",
        "underruns in <1% of turns (1 of 220): 2, 400 ms in sum",
        "by whose time: tts_synthesis 75%, no stage 25%",
        "odd (acme)",
    ):
        assert said in text, said
    assert re.search(r"without that: p95 \d+ to \d+ ms", text)


@pytest.mark.parametrize("width", [50, 60, 72, 80, 120])
def test_no_line_is_wider_than_the_terminal_and_no_figure_is_cut(width):
    text = shown(population(mixed(), slowest=19), width)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert "…" not in text
    row = next(line for line in text.splitlines() if line.startswith("chunk_hold"))
    assert row.split()[-1] == "11"
    assert len(row.split()) == 6


def test_it_is_legible_without_unicode():
    text = shown(population(mixed()), 80, "ascii")
    assert "chunk_hold" in text


def test_nothing_in_a_name_reaches_the_terminal_as_a_command():
    made = [
        *noisy(40),
        *(turn(f"\x1b[31m{number}", {"llm_ttft": 900}, provider="\x1b[2J") for number in range(9)),
    ]
    assert "\x1b" not in shown(population(made))


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ([], "0 turns in here, none with a time to first audio"),
        ([turn("s", ttfa_ms=0.0)], "1 turns in here, none with a time to first audio"),
        (noisy(12), "12 turns are too few to say what is usual"),
        (noisy(60), "slow turns: no one stage was unusually long"),
        ([*noisy(60), turn("s", ttfa_ms=0.0)], "1 more turns have none, and are left out"),
    ],
)
def test_what_cannot_be_said_is_said(made, said):
    assert said in " ".join(shown(population(made)).split())


def test_a_sample_and_what_is_forgotten_are_owned_up_to():
    text = " ".join(shown(population(noisy(200), sample=50), forgotten=True).split())
    assert "from a sample of 50 turns" in text
    assert "older ones are forgotten" in text


# ------------------------------------------------------------ ages


@pytest.mark.parametrize(
    ("text", "expected_s"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("1h", 3600),
        ("1h30m", 5400),
        ("2d", 172_800),
        ("1.5h", 5400),
        (" 1m ", 60),
        ("2025-11-21T09:30:00+00:00", NOW_S - 1_763_717_400),
        ("2025-11-21T10:30:00+01:00", NOW_S - 1_763_717_400),
    ],
)
def test_an_age_or_a_time_is_taken(text, expected_s):
    assert age_s("--since", text, NOW_S) == pytest.approx(expected_s)


@pytest.mark.parametrize(
    "text", ["", "h", "1", "1x", "0s", "-1h", "1h 30m", "2999-01-01", "yesterday", "9" * 400 + "d"]
)
def test_what_is_no_age_is_refused(text):
    with pytest.raises(Failure, match=r"^--since: '.*' is ") as raised:
        age_s("--since", text, NOW_S)
    assert raised.value.status == 2


@given(st.text(max_size=20))
def test_whatever_is_typed_is_an_age_or_refused(text):
    try:
        age = age_s("--since", text, NOW_S)
    except Failure as failure:
        age = failure.status
    assert age > 0


# ------------------------------------------------------------ files


def exported(path: Path, made: list[Turn]) -> Path:
    path.write_text("".join(json.dumps(request(span(one))) + "\n" for one in made))
    return path


def analysed(*arguments: str) -> dict[str, Any]:
    result = run("explain", "--json", *arguments)
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_first_chunk_of_a_listed_turn_is_the_first_that_was_heard():
    silent = pb.ChunkReport(index=0, reason=common_pb2.CHUNK_REASON_DEADLINE)
    heard = pb.ChunkReport(index=1, reason=common_pb2.CHUNK_REASON_SENTENCE, audio_us=900_000)
    told = pb.TurnReport(turn_id="t", outcome=pb.TURN_OUTCOME_COMPLETED, chunks=[silent, heard])
    first = turn_from(report_from_proto(told).to_json()).first
    assert first is not None
    assert (first.reason, first.audio_ms) == ("sentence", 900.0)


def test_a_file_says_the_same_as_its_turns(tmp_path):
    made = mixed()
    found = analysed("--file", str(exported(tmp_path / "t.json", made)), "--slowest", "19")
    taken = population(made, slowest=19)
    expected = slow_text.to_json(analyse(taken), taken, [], forgotten=False)
    assert found == json.loads(json.dumps(expected))
    assert found["findings"][0]["part"] == "chunk_hold"
    text = run("explain", "--file", str(tmp_path / "t.json"), "--slowest", "19")
    assert (text.exit_code, text.stderr) == (0, "")
    assert "1. chunk_hold: first chunk held" in text.stdout


def test_several_files_are_one_population_and_a_turn_counts_once(tmp_path):
    made = mixed()
    first, second = exported(tmp_path / "a.json", made[:150]), exported(tmp_path / "b.json", made[100:])
    assert analysed("--file", str(first), "--file", str(second))["turns"] == len(made)


def test_options_choose_among_the_turns_of_a_file(tmp_path):
    made = [
        turn("a", outcome="failed", tenant="acme", began_unix_us=1_000_000),
        turn("b", outcome="interrupted", tenant="acme", began_unix_us=1_000_000),
        turn("c", began_unix_us=1_000_000),
    ]
    path = str(exported(tmp_path / "t.json", made))

    def ids(*arguments: str) -> set[str]:
        return {slow["turn_id"] for slow in analysed("--file", path, "--slowest", "1", *arguments)["slow"]}

    assert ids("--outcome", "failed") == {"a"}
    assert ids("--outcome", "completed") == {"c"}
    assert analysed("--file", path, "--tenant", "acme")["turns"] == 2
    assert analysed("--file", path, "--by", "total")["by"] == "total"
    assert analysed("--file", path, "--since", "1h")["turns"] == 0
    said = run("explain", "--file", path, "--since", "1h").stdout
    assert "(3 turns are there that were not asked for: see --since, --outcome and --tenant)" in said


def test_what_is_left_out_is_named(tmp_path):
    path = exported(tmp_path / "t.json", noisy(30))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], "{oops}\n", *lines[1:], *["broken\n"] * 9]))
    result = run("explain", "--file", str(path))
    assert result.exit_code == 0
    assert f"{path}: line 2: is no JSON: " in result.stderr
    assert "… and 5 more that were left out" in result.stderr
    found = analysed("--file", str(path))
    assert (found["turns"], len(found["left_out"])) == (30, 10)
    assert found["left_out"][1]["line"] == 32


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("some-turn", "--slowest", "3"), 2, "TURN_ID: is for one turn"),
        (("--by", "ttft"), 2, "--by: 'ttft' is neither ttfa nor total"),
        (("--outcome", "lost"), 2, "--outcome: 'lost' is none of completed, interrupted, failed"),
        (("--since", "soon"), 2, "--since: 'soon' is no age and no time"),
        (("--slowest", "0"), 2, "--slowest"),
        (("--slowest", "1001"), 2, "--slowest"),
        (("--all", "--tenant", "acme"), 2, "--all: is for who names no tenant"),
        (("--file", "nowhere.json"), 2, "--file: cannot read nowhere.json: No such file"),
        (("--file", "a", "--file", "a"), 2, "--file: a is named twice"),
    ],
)
def test_every_refusal_names_the_option(arguments, status, said):
    result = run("explain", *arguments)
    assert result.exit_code == status
    assert said in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"", 1, "has no turn in it"),
        (b'{"resourceSpans": []}', 1, "has no turn in it"),
        (b"hello\n", 2, "nothing in it can be read as OTLP in JSON"),
        (b'{\n"resourceSpans": [\n', 2, "line 3: is no JSON"),
        (b"\x1f\x8b\x08oops", 2, "line 1: cannot be read"),
    ],
)
def test_a_file_without_turns_is_refused(tmp_path, content, status, said):
    path = tmp_path / "t.json"
    path.write_bytes(content)
    result = run("explain", "--file", str(path))
    assert result.exit_code == status
    assert said in result.stderr
    assert str(path) in result.stderr
    assert "Traceback" not in result.stderr


def test_a_folder_is_no_file(tmp_path):
    result = run("explain", "--file", str(tmp_path))
    assert (result.exit_code, "cannot read" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("turns", "given", "hint"),
    [
        (3, {}, "(of who names no tenant: --all takes those of every tenant, --tenant NAME those of one; "),
        (3, {"tenant": "acme"}, "(of tenant acme alone: --all in place of --tenant takes"),
        (3, {"all_tenants": True}, ""),
        (3, {"files": ("spans.json",)}, ""),
        (60, {}, ""),
    ],
)  # fmt: skip
def test_too_few_turns_of_a_tenant_are_said_to_be_of_it_alone(
    turns: int, given: dict[str, Any], hint: str
) -> None:
    asked: dict[str, Any] = {"files": (), "all_tenants": False, "tenant": "", **given}
    options = options_of(slowest=5, since="", by="ttfa", outcomes=(), addr="", as_json=False, **asked)
    said = too_few(options, analyse(population(noisy(turns), slowest=5)))
    assert said.startswith(hint)
    assert bool(said) is bool(hint)
