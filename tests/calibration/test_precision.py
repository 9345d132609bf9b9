"""What a lower precision costs, over made-up readouts and over the shipped model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from calibration.int8 import away
from calibration.precision import own_shares, told
from engines.concept import ConceptReadout
from engines.spec import MODELS_DIR

ROOT = Path(__file__).parents[2]
CONCEPTS = ("AU1", "AU2", "AU4")

needs_model = pytest.mark.skipif(
    not (MODELS_DIR / "agcm-live" / "manifest.json").is_file(), reason="models/agcm-live is not there yet"
)


def readout(*contributions: float) -> ConceptReadout:
    shares = np.array([[each, 0.0] for each in contributions])
    none = np.zeros_like(shares)
    return ConceptReadout(np.full(len(shares), 0.5), none, none, shares, 0.5, np.array([0.7, 0.3]), none)


def test_what_a_contribution_loses_is_a_share_of_its_own_size() -> None:
    reference = [readout(0.2, -0.01, 0.0), readout(-0.4, 0.03, 0.0)]
    found = [readout(0.2, -0.01, 0.0), readout(-0.37, 0.034, 0.0)]
    far = away(found, reference, CONCEPTS)
    shares = own_shares(far, reference, CONCEPTS)
    assert shares == pytest.approx({"AU1": 0.03 / 0.6, "AU2": 0.004 / 0.04}), "who contributes nothing has none"
    said = told("openvino/bf16", far, shares, 2)
    assert "move by 0.01500 (AU1) at most, and by 10.00% of its own (AU2) at most" in said
    assert said.startswith("openvino/bf16, 2 crops: score off by 0.0000 on average")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "calibration.precision", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


@needs_model
@pytest.mark.slow
def test_float32_is_as_far_from_itself_as_libraries_are(tmp_path: Path) -> None:
    """Of random crops, which are no faces: the distances of another library in float32 are rounding."""
    crops = np.random.default_rng(0).integers(0, 256, (20, 112, 112), np.uint8)
    np.savez(tmp_path / "crops.npz", crops=crops)
    done = run(str(tmp_path / "crops.npz"), "--model", "agcm-live", "--precision", "fp32")
    assert done.returncode == 0, done.stderr
    assert "openvino/fp32, 20 crops: score off by 0.0000 on average, 0.0000 at most" in done.stdout
    assert "by 0.00% of its own" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none.npz", "--model", "agcm-live"], "none.npz is not there"),
        (["none.npz", "--model", "centerface"], "centerface is no concept model"),
        (["none.npz", "--model", "nosuch"], "unknown model 'nosuch'"),
    ],
)
@needs_model
def test_a_mistake_is_one_line(arguments: list[str], says: str) -> None:
    done = run(*arguments)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert says in done.stderr
