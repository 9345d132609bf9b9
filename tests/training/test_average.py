"""Between two networks, number by number."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
import typer

from training import average
from training.experiment import ExperimentError


def test_numbers_are_averaged_and_counts_are_the_second_s(tmp_path: Path) -> None:
    one = {"w": torch.tensor([0.0, 4.0]), "n": torch.tensor(3)}
    two = {"w": torch.tensor([4.0, 0.0]), "n": torch.tensor(7)}
    for name, weights in (("one", one), ("two", two)):
        torch.save(weights, tmp_path / f"{name}.pt")
    average.main(tmp_path / "one.pt", tmp_path / "two.pt", tmp_path / "out" / "mean.pt", share=0.75)
    found = torch.load(tmp_path / "out" / "mean.pt", weights_only=True)
    assert found["w"].tolist() == [3.0, 1.0]
    assert int(found["n"]) == 7


@pytest.mark.parametrize("other", [{"w": torch.zeros(3)}, {"w": torch.zeros(2), "v": torch.zeros(1)}])
def test_different_networks_are_refused(other: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ExperimentError, match=r"differ in [vw]"):
        average.average({"w": torch.zeros(2)}, other, 0.5)


def test_a_missing_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as stopped:
        average.main(tmp_path / "a.pt", tmp_path / "b.pt", tmp_path / "out.pt")
    assert stopped.value.exit_code == 2
    assert "weights not found" in capsys.readouterr().err
