"""A program that tests need: found, left out, or demanded."""

import pathlib

import pytest

from tests.support.programs import program


def test_a_program_is_found_under_any_of_its_names(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chrome = tmp_path / "google-chrome"
    chrome.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program("chromium") == str(chrome)


def test_a_test_without_its_program_is_left_out_and_fails_where_it_is_demanded(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("REQUIRED_PROGRAMS", "prometheus promtool")
    with pytest.raises(pytest.skip.Exception, match="apt-get install chromium"):
        program("chromium")
    monkeypatch.setenv("REQUIRED_PROGRAMS", "chromium prometheus promtool")
    with pytest.raises(pytest.fail.Exception, match="apt-get install chromium"):
        program("chromium")
