"""What the README and the other pages promise is there: commands, options, links, the message, the check of the sum."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest

from pipeline.messages import EngagementFrame

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ("README.md", "THIRD_PARTY.md", "docs/*.md", "docs/*/*.md", "models/*/*.md", "examples/*/*.md")
MODEL = ROOT / "models" / "agcm-live"


def pages() -> list[Path]:
    return sorted(path for pattern in PAGES for path in ROOT.glob(pattern))


def fenced(language: str, text: str = README) -> list[str]:
    """Contents of the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(
        r"\]\(([^)\s]+)\)", re.sub(r"<!--.*?-->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    )
    local = [target.partition("#") for target in targets if "://" not in target]
    broken = [path for path, _, _ in local if path and not (page.parent / path).exists()]
    if not (MODEL / "manifest.json").is_file():
        broken = [path for path in broken if not path.startswith("models/agcm-live/")]
    assert broken == []


def _runs(place: Path) -> bool:
    """Whether `python -m` runs a module or a package at this place."""
    return place.with_suffix(".py").is_file() or (place / "__main__.py").is_file()


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_are_of_modules_and_files_that_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    modules = set(re.findall(r"python -m ((?:pipeline|calibration|engines|training|benchmarks)[\w.]*\w)", text))
    assert {name for name in modules if not _runs(ROOT / name.replace(".", "/"))} == set()
    files = set(re.findall(r"\b((?:training|docs|pipeline|tests)/[\w/-]+\.(?:py|toml))\b", text))
    assert {name for name in files if not (ROOT / name).is_file()} == set()


def test_options_of_the_live_command_are_in_its_help() -> None:
    wanted = {
        option for line in re.findall(r"run_live\.py [^`\n]*", README) for option in re.findall(r"--[a-z]+", line)
    }
    done = subprocess.run(
        [sys.executable, "run_live.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert wanted >= {"--camera", "--record"}
    assert {option for option in wanted if option not in done.stdout} == set()


def test_the_message_shown_is_a_message_and_adds_up() -> None:
    (shown,) = fenced("json")
    message = msgspec.json.decode(shown, type=EngagementFrame)
    assert message.score is not None and message.base is not None
    assert message.base + sum(share.contribution for share in message.contributions) == pytest.approx(message.score)
    age_ms = (message.t_publish_ns - message.t_capture_ns) / 1e6
    assert sum(msgspec.structs.astuple(message.stages_ms)) == pytest.approx(age_ms)
    assert fenced("json", (ROOT / "docs" / "messages.md").read_text(encoding="utf-8"))[0] == shown


def test_the_check_of_the_sum_passes_what_adds_up_and_refuses_what_does_not(tmp_path: Path) -> None:
    (check,) = fenced("python")
    (shown,) = fenced("json")
    results = tmp_path / "monday" / "results.jsonl"
    results.parent.mkdir()

    def passes(**change: float) -> bool:
        results.write_text(json.dumps(json.loads(shown) | change) + "\n", encoding="utf-8")
        done = subprocess.run([sys.executable, "-c", check], cwd=tmp_path, capture_output=True, check=False, timeout=60)
        return done.returncode == 0

    assert passes()
    assert not passes(score=0.64)


def test_ci_runs_the_command_that_the_readme_marks() -> None:
    (marked,) = re.findall(r"^<!-- test command -->\n```sh\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    extraction = re.search(r"command=\$\((awk .*)\)$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
    assert extraction is not None
    done = subprocess.run(
        ["bash", "-c", extraction[1]], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == marked
    assert "pytest" in marked


def test_the_checks_before_a_commit_are_those_of_the_readme() -> None:
    hooks = re.findall(r"entry: ([^,\n]+)", (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert len(hooks) == 4
    assert [hook for hook in hooks if hook not in README] == []


def test_the_teacher_installed_by_hand_is_the_one_of_the_extra() -> None:
    (pinned,) = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]["teacher"]
    assert f"pip install {pinned}" in (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
