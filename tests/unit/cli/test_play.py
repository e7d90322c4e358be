"""Playing through whatever player is there."""

import sys
from pathlib import Path

import pytest

from voicemesh.cli.exits import Failure
from voicemesh.cli.play import Player, command, find_player
from voicemesh.client import AudioFormat

FORMAT = AudioFormat("pcm_s16le", 22_050, 1)


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def install(folder: Path, name: str, code: str) -> None:
    path = folder / name
    path.write_text(f"#!{sys.executable}\nimport os, sys\n{code}\n")
    path.chmod(0o755)


KEEPS = "open(os.path.join(os.path.dirname(sys.argv[0]), 'heard'), 'wb').write({source})"


async def test_frames_reach_the_player_in_order(bin_folder):
    install(bin_folder, "aplay", KEEPS.format(source="sys.stdin.buffer.read()"))
    player = Player(find_player())
    await player.begin(FORMAT)
    for part in (b"one ", b"two"):
        await player.write(part)
    await player.finish()
    assert (bin_folder / "heard").read_bytes() == b"one two"


async def test_a_player_that_takes_files_alone(bin_folder):
    install(bin_folder, "afplay", KEEPS.format(source="open(sys.argv[1], 'rb').read()"))
    player = Player(find_player())
    await player.begin(FORMAT)
    await player.write(b"\1\0" * 10)
    await player.finish()
    assert (bin_folder / "heard").read_bytes()[:4] == b"RIFF"


async def test_a_player_is_silenced_at_once(bin_folder):
    install(bin_folder, "aplay", "sys.stdin.buffer.read()")
    player = Player(find_player())
    await player.begin(FORMAT)
    await player.write(b"one")
    await player.stop()
    await player.stop()


async def test_a_player_that_goes_away_does_not_end_the_turn(bin_folder):
    install(bin_folder, "aplay", "sys.exit(1)")
    player = Player(find_player())
    await player.begin(FORMAT)
    for _ in range(64):
        await player.write(bytes(65536))
    await player.finish()


def test_commands_name_the_format():
    for name in ("aplay", "paplay", "ffplay"):
        assert any("22050" in part for part in command(name, FORMAT))


def test_without_a_player_it_says_what_to_install(bin_folder):
    assert not list(bin_folder.iterdir())
    with pytest.raises(Failure, match="no audio player") as caught:
        find_player()
    assert "alsa-utils" in caught.value.hint
