"""A file of flags is changed as a whole, and taken back."""

import json
import math
import pathlib
import re
import threading
from collections import Counter
from typing import Any

import pytest
from openfeature.evaluation_context import EvaluationContext

from voicemesh.flags.definitions import CHUNK_POLICY, MODEL
from voicemesh.flags.edits import set_flag, shares_of
from voicemesh.flags.errors import FlagsError
from voicemesh.flags.provider import FileProvider
from voicemesh.flags.versions import Change, FlagsFile


def flags_file(folder: pathlib.Path) -> FlagsFile:
    return FlagsFile(folder / "flags.json")


def put(file: FlagsFile, text: str, value: str | None = None, key: str = CHUNK_POLICY) -> Change:
    return file.change(lambda document: set_flag(document, key, shares_of(text), value))


def who(file: FlagsFile, key: str = CHUNK_POLICY) -> str:
    return "; ".join(file.read().flags[key].who)


def test_a_change_says_what_it_did_and_rolling_back_undoes_it(tmp_path: pathlib.Path):
    file = flags_file(tmp_path)
    assert put(file, "usual", "adaptive").lines == [f"{CHUNK_POLICY}: no such flag -> everyone: usual"]
    put(file, "short", "words:4")
    change = put(file, "usual=90,short=10")
    assert change.lines == [f"{CHUNK_POLICY}: everyone: short -> of sessions: 90% usual, 10% short"]
    back = file.roll_back()
    assert (who(file), back.source) == ("everyone: short", 2)
    # A second time undoes the first.
    file.roll_back()
    assert who(file) == "of sessions: 90% usual, 10% short"
    file.roll_back(to=1)
    assert who(file) == "everyone: usual"


def test_one_flag_is_taken_back_and_the_others_stay(tmp_path: pathlib.Path):
    file = flags_file(tmp_path)
    put(file, "usual", "adaptive")
    put(file, "big", "large", MODEL)
    put(file, "short", "words:4")
    put(file, "small", "tiny", MODEL)
    file.roll_back(CHUNK_POLICY)
    assert (who(file), who(file, MODEL)) == ("everyone: usual", "everyone: small")
    with pytest.raises(FlagsError, match=re.escape("no version in which voicemesh.voice was another")):
        file.roll_back("voicemesh.voice")


def test_a_new_flag_is_taken_back_by_removing_it(tmp_path: pathlib.Path):
    file = flags_file(tmp_path)
    put(file, "usual", "adaptive")
    put(file, "big", "large", MODEL)
    file.roll_back(MODEL)
    assert set(file.read().flags) == {CHUNK_POLICY}


def test_a_file_that_somebody_broke_by_hand_is_taken_back(tmp_path: pathlib.Path):
    file = flags_file(tmp_path)
    put(file, "usual", "adaptive")
    put(file, "short", "words:4")
    file.path.write_text("{ oops")
    with pytest.raises(FlagsError, match="not valid JSON"):
        put(file, "usual")
    with pytest.raises(FlagsError, match="take back the whole file"):
        file.roll_back(CHUNK_POLICY)
    assert file.roll_back().before is None
    assert who(file) == "everyone: short"
    # What was broken is kept too, and never gone back to.
    broken = [version for version in file.versions() if version.path.read_text() == "{ oops"]
    assert len(broken) == 1
    with pytest.raises(FlagsError, match=f"version {broken[0].number} cannot be used"):
        file.roll_back(to=broken[0].number)


def test_what_an_editor_wrote_is_kept_before_it_is_changed(tmp_path: pathlib.Path):
    file = flags_file(tmp_path)
    by_hand = {"flags": {MODEL: {"state": "ENABLED", "variants": {"big": "large"}, "defaultVariant": "big"}}}
    file.path.write_text(json.dumps(by_hand))
    put(file, "small", "tiny", MODEL)
    file.roll_back()
    assert json.loads(file.path.read_text()) == by_hand


def test_nothing_is_written_that_is_wrong_or_the_same(tmp_path: pathlib.Path):
    file = flags_file(tmp_path)
    with pytest.raises(FlagsError, match="nothing to take back"):
        file.roll_back()
    with pytest.raises(FlagsError, match=re.escape("there is none yet. --value VALUE makes one")):
        put(file, "usual")
    with pytest.raises(FlagsError, match=re.escape("--value: policy: 'never'")):
        put(file, "usual", "never")
    with pytest.raises(FlagsError, match=re.escape("there is no flag 'voicemesh.voices'")):
        put(file, "a", "b", "voicemesh.voices")
    assert file.content() is None
    assert file.versions() == []
    put(file, "usual", "adaptive")
    with pytest.raises(FlagsError, match="nothing to change"):
        put(file, "usual")


def test_a_link_stays_a_link_and_the_mode_stays(tmp_path: pathlib.Path):
    real = tmp_path / "real.json"
    real.write_text('{"flags": {}}')
    real.chmod(0o640)
    (tmp_path / "flags.json").symlink_to(real)
    put(flags_file(tmp_path), "usual", "adaptive")
    assert (tmp_path / "flags.json").is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert "usual" in real.read_text()


def test_old_versions_are_forgotten(tmp_path: pathlib.Path):
    file = flags_file(tmp_path)
    put(file, "a", "words:1")
    for number in range(2, 51):
        put(file, "a", f"words:{number}")
    put(file, "a", "adaptive")
    assert [version.number for version in file.versions()] == list(range(2, 52))


def test_changes_at_the_same_time_lose_nothing(tmp_path: pathlib.Path):
    put(flags_file(tmp_path), "usual", "adaptive")
    failures: list[Exception] = []

    def add(number: int) -> None:
        def edit(document: dict[str, Any]) -> None:
            document["flags"][CHUNK_POLICY]["variants"][f"v{number}"] = f"words:{number}"

        try:
            flags_file(tmp_path).change(edit)
        except Exception as error:  # noqa: BLE001 - shown below
            failures.append(error)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(1, 17)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    variants = flags_file(tmp_path).read().flags[CHUNK_POLICY].variants
    assert set(variants) == {"usual", *(f"v{number}" for number in range(1, 17))}
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_who_writes_without_the_lock_is_not_overwritten(tmp_path: pathlib.Path):
    file = flags_file(tmp_path)
    put(file, "usual", "adaptive")

    def edit(document: dict[str, Any]) -> None:
        file.path.write_text('{"flags": {}}')  # an editor saves in this moment
        set_flag(document, CHUNK_POLICY, {"usual": 100.0}, "sentence")

    with pytest.raises(FlagsError, match="changed by somebody else"):
        file.change(edit)
    assert file.path.read_text() == '{"flags": {}}'


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("usual", {"usual": 100.0}),
        ("usual=90,short=10", {"usual": 90.0, "short": 10.0}),
        ("usual=99.5%, short=0.5%", {"usual": 99.5, "short": 0.5}),
    ],
)
def test_shares_are_read(text: str, shares: dict[str, float]):
    assert shares_of(text) == shares


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("usual=90,short=20", "add up to 110%"),
        ("usual=50,usual=50", "there twice"),
        ("usual=all", "is no VARIANT=PERCENT"),
        ("usual=nan,short=1", "is no VARIANT=PERCENT"),
        ("usual=120,short=-20", "is no VARIANT=PERCENT"),
        ("usual=90,short", "is no VARIANT=PERCENT"),
    ],
)
def test_shares_that_cannot_be_are_refused(text: str, why: str):
    with pytest.raises(FlagsError, match=why):
        shares_of(text)


def test_small_shares_keep_their_fractions(tmp_path: pathlib.Path):
    file = flags_file(tmp_path)
    put(file, "short", "words:4")
    put(file, "usual", "adaptive")
    put(file, "usual=99.5,short=0.5")
    # In the order of the file: who had `short` before keeps it as its share grows.
    assert file.read().flags[CHUNK_POLICY].targeting == {"fractional": [["short", 500], ["usual", 99500]]}


def given(file: FlagsFile, sessions: int = 2_000) -> dict[str, str]:
    """Return what sessions get, by what evaluates in the gateway."""
    provider = FileProvider()
    provider.use(file.read())
    names = (f"s{n}" for n in range(sessions))
    return {
        name: provider.resolve_string_details(CHUNK_POLICY, "", EvaluationContext(name)).variant or ""
        for name in names
    }


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("usual=90,a=10", "usual=80,a=20"),
        ("usual=80,a=10,b=10", "usual=60,a=20,b=20"),
        ("usual=80,a=10,b=10", "usual=70,a=10,b=20"),
        ("usual=98,a=1,b=1", "usual=1,a=98.5,b=0.5"),
        ("usual=50,b=50", "usual=40,a=20,b=40"),
        ("a", "a=33.3,b=33.3,usual=33.4"),
        ("b", "a=5,b=95"),
    ],
)
def test_who_has_a_variant_keeps_it_while_its_share_grows(tmp_path: pathlib.Path, before: str, after: str):
    file = flags_file(tmp_path)
    for name, value in (("a", "words:4"), ("b", "clause"), ("usual", "adaptive")):
        put(file, name, value)
    put(file, before)
    had = given(file)
    put(file, after)
    has = given(file)
    was, now = shares_of(before), shares_of(after)
    for name in now:
        if now[name] >= was.get(name, 0):
            assert [session for session in had if had[session] == name and has[session] != name] == []
        share = now[name] / 100
        # Binomial: 4.5 standard deviations, which chance exceeds once in 150,000 draws.
        bound = 4.5 * math.sqrt(len(has) * share * (1 - share))
        assert abs(Counter(has.values())[name] - len(has) * share) <= bound
    moved = sum(had[session] != has[session] for session in had)
    least = sum(max(0.0, was.get(name, 0) - now.get(name, 0)) for name in was) / 100
    assert moved <= len(had) * least + 4.5 * math.sqrt(len(had) * least * (1 - least))


def test_a_list_in_an_order_of_its_own_keeps_it(tmp_path: pathlib.Path):
    file = flags_file(tmp_path)
    variants = {"usual": "adaptive", "short": "words:4"}
    rule = {"fractional": [["short", 1], ["usual", 9]]}
    flag = {"state": "ENABLED", "variants": variants, "defaultVariant": "usual", "targeting": rule}
    file.path.write_text(json.dumps({"flags": {CHUNK_POLICY: flag}}))
    put(file, "usual=80,short=20")
    assert file.read().flags[CHUNK_POLICY].targeting == {"fractional": [["short", 20], ["usual", 80]]}


def test_a_new_variant_is_made_with_its_share_alone(tmp_path: pathlib.Path):
    file = flags_file(tmp_path)
    put(file, "usual", "adaptive")
    put(file, "usual=90,short=10", "words:4")
    assert who(file) == "of sessions: 90% usual, 10% short"
    assert file.read().flags[CHUNK_POLICY].variants == {"usual": "adaptive", "short": "words:4"}
    with pytest.raises(FlagsError, match="for the one variant that is new, and none is"):
        put(file, "usual=80,short=20", "words:5")
    with pytest.raises(FlagsError, match="for the one variant that is new, and a, b are"):
        put(file, "a=80,b=20", "words:5")


def test_what_was_refused_in_the_last_moment_is_never_gone_back_to(tmp_path: pathlib.Path):
    file = flags_file(tmp_path)
    put(file, "usual", "adaptive")
    put(file, "short", "words:4")

    def edit(document: dict[str, Any]) -> None:
        set_flag(document, CHUNK_POLICY, {"never": 100.0}, "sentence")
        file.path.write_text('{"flags": {}}')  # an editor saves in this moment

    with pytest.raises(FlagsError, match="changed by somebody else"):
        file.change(edit)
    file.roll_back()
    assert who(file) == "everyone: short"


def test_rolling_back_a_broken_file_tells_what_differs_from_what_gateways_went_on_with(
    tmp_path: pathlib.Path,
):
    file = flags_file(tmp_path)
    put(file, "usual", "adaptive")
    put(file, "short", "words:4")
    file.path.write_text("{ oops")
    assert file.roll_back().lines == []
    file.path.write_text("{ oops")
    assert file.roll_back(to=1).lines == [f"{CHUNK_POLICY}: everyone: short -> everyone: usual"]
