"""What import-linter cannot see: the command itself, what the live path loads, and whether every import is declared."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
OWN = {"run_live", "pipeline", "engines", "training", "benchmarks", "docs", "tests", "calibration"}
DISTRIBUTION = {
    "cv2": "opencv-python-headless",
    "zmq": "pyzmq",
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "lightning_fabric": "lightning-fabric",
}
# Imported by nobody here, and needed: commands, what torch's ONNX exporter asks for, and what is imported by its name.
NOT_IMPORTED = {"ruff", "mypy", "import-linter", "pre-commit", "pytest-xdist", "onnxscript", "tensorrt-rtx"}
# What may import what: extras by room. "" stands for the dependencies that everybody has.
ROOMS = {
    "run_live.py": ("",),
    "pipeline": ("",),
    "calibration": ("", "int8"),
    "engines": ("", "gpu", "train"),
    "training": ("", "train", "teacher", "speech"),
    "benchmarks": ("", "dev", "teacher", "train"),
    "docs": ("", "dev"),
    "tests": ("", "dev", "train"),
}
LIVE_SCRIPT = """
import importlib, pkgutil, sys
import run_live, pipeline, calibration, engines
for package in (pipeline, calibration, engines):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        # But for the backend that is loaded by its name alone.
        if not module.name.startswith(("engines.backend_torch", "engines.torch_", "engines.onnx_")):
            importlib.import_module(module.name)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def imported(path: Path) -> set[str]:
    """Full names of the modules that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return names


def third_party(room: str) -> set[str]:
    """Distributions that the files of a room import."""
    path = ROOT / room
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    assert files, f"{room} has no files"
    tops = {name.partition(".")[0] for file in files for name in imported(file)}
    return {DISTRIBUTION.get(top, top) for top in tops - OWN - set(sys.stdlib_module_names)}


def declared(*extras: str) -> set[str]:
    """Distributions of the named extras; "" names the dependencies."""
    tables = {"": PROJECT["project"]["dependencies"], **PROJECT["project"]["optional-dependencies"]}
    return {re.split(r"[~=<>!\[ ]", line)[0] for extra in extras for line in tables[extra]}


def test_the_command_only_joins_configuration_and_supervisor() -> None:
    foreign = {name for name in imported(ROOT / "run_live.py") if name.partition(".")[0] not in sys.stdlib_module_names}
    # engines.backends for the names in the help text.
    assert foreign <= {"typer", "typer.exceptions", "pipeline", "pipeline.config", "engines.backends"}
    tree = ast.parse((ROOT / "run_live.py").read_text(encoding="utf-8"))
    from_pipeline = [
        alias.name for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "pipeline"
        for alias in node.names
    ]  # fmt: skip
    assert from_pipeline == ["supervise"]


def test_nothing_live_loads_what_only_training_or_a_report_needs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIVE_SCRIPT], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert {"pipeline", "calibration", "engines", "onnxruntime", "openvino", "av"} <= loaded
    heavy = {"torch", "sklearn", "scipy", "matplotlib", "skimage", "numba", "onnx", "mediapipe"}
    assert not loaded & (heavy | {"training", "benchmarks", "pytest"})


@pytest.mark.parametrize("room", ROOMS)
def test_what_a_room_imports_is_declared_for_it(room: str) -> None:
    assert third_party(room) <= declared(*ROOMS[room])


def test_every_declared_dependency_has_a_use() -> None:
    used = set().union(*map(third_party, ROOMS)) | NOT_IMPORTED
    assert declared("", *PROJECT["project"]["optional-dependencies"]) <= used


def test_every_declared_dependency_names_its_consumer() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lines = text[text.index("dependencies = [") : text.index("[tool.setuptools]")].splitlines()
    requirements = [line for line in lines if line.lstrip().startswith('"')]
    assert len(requirements) == len(PROJECT["project"]["dependencies"]) + sum(
        map(len, PROJECT["project"]["optional-dependencies"].values())
    )
    assert [line for line in requirements if not re.search(r"#\s*\w", line)] == []
