"""The study's table: published figures as published, ours from files of results only, and never a made-up number."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from tests.training import layouts
from training.data.datasets import DATASETS
from training.data.pictures import DataError
from training.published import OTHERS, TABLE_1
from training.reproduce import ABSENT, NOT_RUN, lines, main, sweep
from training.results import Result, read_results, write_results


def result(dataset: str, value: float, embedding: int = 16, **other: str) -> Result:
    fields = {"split": "test", "system": "agcm", "metric": "accuracy", **other}
    return Result(dataset, fields["split"], fields["system"], embedding, fields["metric"], value, 10, "m@1", "python")


def run(*arguments: str | Path) -> tuple[int, str]:
    app = typer.Typer(add_completion=False)
    app.command()(main)
    out, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(errors):
        done = CliRunner().invoke(app, [str(each) for each in arguments])
    return done.exit_code, done.output + out.getvalue() + errors.getvalue()


def test_published_figures_name_sets_of_the_table() -> None:
    for each in (*TABLE_1, *OTHERS):
        assert each.metric == DATASETS[each.dataset].metric, each
    for other in OTHERS:
        assert other.split in DATASETS[other.dataset].splits
    assert {each.dataset for each in TABLE_1} == {"rafdb", "affectnet7", "affectnet8", "affwild2", "noxi"}


def test_without_data_every_row_says_so_and_nothing_is_measured(tmp_path: Path) -> None:
    made = lines(tmp_path, [result("rafdb", 0.9)], ["agcm"])
    assert {line.dataset for line in made} == {row.title for row in DATASETS.values()}
    assert {text for line in made for text in line.measured} == {ABSENT}
    raf = next(line for line in made if line.dataset == "RAF-DB")
    assert (raf.end_to_end, raf.by_step) == ("94.40", "89.71")


def test_data_without_results_are_not_run(tmp_path: Path) -> None:
    layouts.rafdb(tmp_path / "rafdb")
    made = {line.dataset: line.measured for line in lines(tmp_path, [], [])}
    assert made["RAF-DB"] == (NOT_RUN,)
    assert made["DAiSEE"] == (ABSENT,)


def test_results_stand_in_the_column_of_their_system(tmp_path: Path) -> None:
    layouts.rafdb(tmp_path / "rafdb")
    layouts.noxi(tmp_path / "noxi", videos=False)
    measured = [
        result("rafdb", 0.9, 32), result("rafdb", 0.88, 16), result("rafdb", 0.5, metric="macro_f1"),
        result("rafdb", 0.4, 0, system="black box"), result("rafdb", 0.7, split="train"),
        result("noxi", 0.5, metric="ccc", split="valid"),
    ]  # fmt: skip
    made = lines(tmp_path, measured, ["agcm", "black box"])
    raf = {line.split: line for line in made if line.dataset == "RAF-DB"}
    assert raf["test"].measured == ("88.00 (m=16); 90.00 (m=32)", "40.00")
    assert raf["train"].measured == ("70.00 (m=16)", NOT_RUN)
    assert raf["train"].end_to_end == "", "published on another split"
    heard = {line.modality: line.measured for line in made if line.dataset.startswith("NoXi")}
    assert heard == {"V": ("50.00 (m=16)", NOT_RUN), "V+A": (NOT_RUN, NOT_RUN)}, "the models here do not hear"


def test_a_sweep_needs_two_sizes_and_the_data(tmp_path: Path) -> None:
    layouts.rafdb(tmp_path / "rafdb")
    sizes = [result("rafdb", 0.8 + size / 1000, size) for size in (16, 4, 64)]
    more = [result("daisee", 0.5, 4), result("daisee", 0.6, 8), result("rafdb", 0.5, 8, system="cem")]
    curves = sweep([*sizes, *more], tmp_path)
    assert list(curves) == [("rafdb", "test", "agcm")]
    assert [size for size, _ in curves["rafdb", "test", "agcm"]] == [4, 16, 64]
    np.testing.assert_allclose([value for _, value in curves["rafdb", "test", "agcm"]], [80.4, 81.6, 86.4])


def test_the_command_writes_the_table_and_the_figure(tmp_path: Path) -> None:
    layouts.rafdb(tmp_path / "data" / "rafdb")
    arguments = ("--data", tmp_path / "data", "--results", tmp_path / "results", "--out", tmp_path / "out")
    code, text = run(*arguments)
    assert code == 0, text
    assert "embedding sizes: not run" in text
    assert not (tmp_path / "out" / "embedding.png").exists()
    assert NOT_RUN in (tmp_path / "out" / "table1.md").read_text()
    for size in (4, 16):
        write_results(tmp_path / "results", [result("rafdb", 0.9, size)])
    code, text = run(*arguments)
    assert code == 0, text
    table = (tmp_path / "out" / "table1.md").read_text()
    assert "| 94.40 | 89.71 |" in table
    assert "90.00 (m=4); 90.00 (m=16)" in table
    assert (tmp_path / "out" / "embedding.png").stat().st_size > 5000


def test_results_are_read_as_they_were_written_and_replaced(tmp_path: Path) -> None:
    write_results(tmp_path, [result("rafdb", 0.5), result("rafdb", 0.4, metric="macro_f1")])
    write_results(tmp_path, [result("rafdb", 0.6)])
    write_results(tmp_path, [result("rafdb", 0.7, 32)])
    assert read_results(tmp_path) == (result("rafdb", 0.6), result("rafdb", 0.7, 32))
    assert read_results(tmp_path / "none") == ()


@pytest.mark.parametrize("content", ["[{}]", "no json", '[{"dataset": "rafdb", "value": "high"}]'])
def test_a_foreign_file_among_the_results_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "x.json").write_text(content)
    with pytest.raises(DataError, match=r"x\.json is no file of results"):
        read_results(tmp_path / "results")
    code, text = run("--data", tmp_path, "--results", tmp_path / "results", "--out", tmp_path / "out")
    assert code == 2
    assert "x.json is no file of results" in text and "Traceback" not in text


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    code, text = run("--data", tmp_path / "none")
    assert code == 2
    assert "--data needs the folder" in text
