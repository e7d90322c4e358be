"""A file of flags is changed as a whole, and taken back."""

import json
import pathlib
import re
import threading
from typing import Any

import pytest

from voicemesh.flags.definitions import CHUNK_POLICY, MODEL
from voicemesh.flags.edits import set_flag, shares_of
from voicemesh.flags.errors import FlagsError
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
