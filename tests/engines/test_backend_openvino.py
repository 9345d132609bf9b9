"""What is OpenVINO's own: the contract of all backends is in test_backend_contract."""

from __future__ import annotations

import subprocess
import sys

from engines.spec import ModelFile

_SIGNALS = """
import gc, os, signal, sys
from pathlib import Path
from engines.backend_openvino import OpenVinoEngine
from engines.spec import load_model_file

signal.signal(signal.SIGTERM, lambda *_: print("handled"))
folder = Path(sys.argv[1])
one, two, three = (OpenVinoEngine(load_model_file(folder.name, folder.parent)) for _ in range(3))
one.close(); del one; gc.collect()
three.close(); del three; gc.collect()
two.close(); del two; gc.collect()
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_process_outlives_signals_after_engines_were_closed_in_any_order(tiny: ModelFile) -> None:
    """A session tries several engines, keeps one, and is stopped by a signal."""
    command = [sys.executable, "-c", _SIGNALS, str(tiny.path.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
