"""What the options of a bench ask for together, and what excludes what."""

import pytest
from typer.testing import CliRunner

from voicemesh.cli.app import app
from voicemesh.cli.bench_options import BenchOptions
from voicemesh.cli.bench_steps import SWEEP, Asked, mix, steps
from voicemesh.cli.exits import Failure
from voicemesh.client import SpeechOptions

PLAIN = BenchOptions(
    addr="host:1",
    turns=1,
    concurrency=1,
    rate_per_s=None,
    prompts=("p",),
    seed=1,
    speech=SpeechOptions(),
    reply_cache=True,
    limit_s=None,
)


def loads(**asked) -> list[tuple[int, int, float | None]]:
    return [(each.turns, each.concurrency, each.rate_per_s) for each in steps(Asked(**asked), PLAIN)]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, [(100, 1, None)]),
        ({"turns": 7, "concurrency": "1,4, 16"}, [(7, 1, None), (7, 4, None), (7, 16, None)]),
        ({"turns": 7, "rate": "2.5"}, [(7, 1, 2.5)]),
        ({"turns": 7, "rate": "5,10"}, [(7, 1, 5.0), (7, 1, 10.0)]),
        ({"latency_tests": 20}, [(20, 1, None)]),
        ({"concurrent_clients": 10, "requests_per_client": 3}, [(30, 10, None)]),
        ({"latency_tests": 50, "concurrent_clients": 15}, [(50, 1, None), (75, 15, None)]),
    ],
)
def test_loads(asked, found):
    assert loads(**asked) == found


def test_a_sweep_has_its_usual_loads_each_with_a_cache_of_its_own():
    found = steps(Asked(sweep=True), PLAIN)
    assert tuple(each.concurrency for each in found) == SWEEP
    assert len({each.tenant for each in found}) == len(SWEEP)
    assert steps(Asked(), PLAIN)[0].tenant == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--latency-tests", "5", "--turns", "5"), "--latency-tests and --turns exclude each other"),
        (
            ("--concurrent-clients", "5", "--concurrency", "5"),
            "--concurrent-clients and --concurrency exclude",
        ),
        (("--latency-tests", "5", "--rate", "5"), "--latency-tests and --rate exclude each other"),
        (("--concurrent-clients", "5", "--sweep"), "--concurrent-clients and --sweep exclude each other"),
        (("--requests-per-client", "5"), "--requests-per-client needs --concurrent-clients"),
        (("--concurrent-clients", "4096", "--requests-per-client", "1000"), "at most 1000000 turns"),
        (("--sweep", "--concurrency", "2"), "--concurrency and --sweep exclude each other"),
        (("--rate", "2", "--concurrency", "2"), "--rate and --concurrency exclude each other"),
        (("--arrivals", "poisson"), "--arrivals needs --rate"),
        (("--rate", "2", "--arrivals", "often"), "--arrivals: 'often' is none of uniform, poisson"),
        (("--concurrency", "0"), "--concurrency: '0' must be a whole number of 1 to 4096"),
        (("--concurrency", "4,4"), "names a load twice"),
        (("--concurrency", "1,,2"), "--concurrency: '' must be"),
        (("--rate", "nan"), "--rate: 'nan' must be a number"),
        (("--mix", "cached"), "--mix: 'cached' must be NAME=SHARE"),
        (("--mix", "cached=0.7,interrupted=0.4"), "--mix: the shares are 1.1 in sum"),
        (("--mix", "cached=0.1,cached=0.1"), "--mix: names cached twice"),
        (("--mix", "cached=0.1", "--no-cache"), "--mix cached=… and --no-cache exclude each other"),
        (("--mix", "own-words=0.1", "--interrupt-share", "0.1"), "--mix and --interrupt-share exclude"),
        (("--compare", "policy=clause", "policy=sentence", "--sweep"), "--compare and a sweep exclude"),
        (
            ("--from", "x.json", "--compare", "policy=clause", "policy=sentence"),
            "--from and --compare exclude",
        ),
        (("--from", "nowhere.json"), "--from: nowhere.json is not what `voicemesh bench --json` prints"),
        (("--html", "/nowhere/report.html"), "/nowhere is not there"),
    ],
)
def test_wrong_use_names_what_and_what_to_do(arguments, message):
    result = CliRunner().invoke(app, ["bench", *arguments])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_a_mixture():
    assert mix(" cached=0.3, own-words=0.2 ") == {"cached": 0.3, "own_words": 0.2}
    assert mix("") == {}
    with pytest.raises(Failure, match="SHARE 0 to 1"):
        mix("cached=nan")
