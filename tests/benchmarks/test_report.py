"""Reports say what they were measured with."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from benchmarks.machine import Machine, cores, look
from benchmarks.report import Table, machine_note, markdown, number, prepare, write_json
from pipeline.config import ConfigError


def test_a_table_is_a_table_in_markdown() -> None:
    table = Table("Ages", ("results", "p50"), (("whole run", "3.0"),))
    page = markdown("Live", ["A note."], [table])
    assert page == "# Live\n\nA note.\n\n## Ages\n\n| results | p50 |\n| --- | ---: |\n| whole run | 3.0 |\n"


def test_a_figure_that_is_not_there_is_not_a_zero() -> None:
    assert (number(None), number(0.0), number(1.25, 2)) == ("not measured", "0.0", "1.25")


def test_a_report_can_be_read_again(tmp_path: Path) -> None:
    here = look()
    write_json(tmp_path / "live.json", here)
    assert msgspec.json.decode((tmp_path / "live.json").read_bytes(), type=Machine) == here
    assert here.cpu and here.cores == cores() >= 1 and here.memory_gb > 0.1
    assert here.versions["numpy"] != "not installed"


def test_a_busy_machine_is_announced() -> None:
    quiet = msgspec.structs.replace(look(), cores=2, load_before=0.9)
    busy = msgspec.structs.replace(quiet, load_before=1.1)
    assert quiet.busy == "" and len(machine_note(quiet)) == 1
    (note,) = machine_note(msgspec.structs.replace(quiet, gpu="NVIDIA H200"))
    assert " 2 cores, NVIDIA H200, load average" in note
    assert "load average 1.1 on 2 cores" in busy.busy and len(machine_note(busy)) == 2


def test_a_place_that_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    prepare(tmp_path / "new" / "folder", tmp_path / "other" / "live.json")
    assert (tmp_path / "new" / "folder").is_dir() and (tmp_path / "other").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot write a report"):
        prepare(tmp_path / "file" / "in", None)
