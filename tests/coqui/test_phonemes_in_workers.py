"""Phonemes where nothing but the engine has been imported: in a process of their own, as a worker is."""

import json
import os
import subprocess
import sys

SPEAK = """\
import json, subprocess, sys, warnings
warnings.simplefilter("ignore")
from services.tts.engines import coqui
from services.tts.engines.base import SpeakRequest

def refuse(*args, **values):
    raise AssertionError(f"a process is started: {args}")

engine = coqui.load("en-us", {"model": sys.argv[1], "device": "cpu", "threads": 1})
subprocess.Popen.__init__ = refuse
utterance = engine.open(SpeakRequest("Hello there, Mr Smith! It costs 12 pounds.", ""))
print(json.dumps([type(engine._model.tokenizer.phonemizer).__name__, utterance.part.ids]))
"""


def test_a_worker_needs_no_executable_and_starts_no_process(make_model, tmp_path):
    folder = make_model(phonemes="en-us")
    # The library looks for the executable on the PATH: there is nothing.
    environment = {**os.environ, "PATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SPEAK, str(folder)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    phonemizer, ids = json.loads(done.stdout.splitlines()[-1])
    assert phonemizer == "OwnEspeak"
    assert len(ids) > 60
