"""What the figures were measured with: the machine, the versions, the state of the repository and of the load."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import msgspec
import psutil

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = (
    "av", "msgspec", "numpy", "onnxruntime", "opencv-python-headless", "openvino", "pycuda", "pyzmq", "tensorrt",
    "tensorrt-rtx", "torch",
)  # fmt: skip
BUSY_LOAD = 0.5


class Machine(msgspec.Struct, frozen=True):
    """cores: those that this process may use. load_before: load average over the last minute, at the start.

    gpu: its name, None if there is none. commit: of the repository, with "+" if files differ from it.
    """

    cpu: str
    cores: int
    memory_gb: float
    gpu: str | None
    system: str
    python: str
    versions: dict[str, str]
    commit: str
    date: str
    load_before: float

    @property
    def busy(self) -> str:
        """One line of warning, "" if the machine was quiet."""
        if self.load_before <= BUSY_LOAD * self.cores:
            return ""
        load = f"load average {self.load_before:.1f} on {self.cores} cores"
        return f"the machine is busy ({load}): these figures say little; measure again when it is quiet"


def look() -> Machine:
    """This machine, now."""
    return Machine(
        cpu=_cpu(),
        cores=cores(),
        memory_gb=round(psutil.virtual_memory().total / 1e9, 1),
        gpu=_output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").partition("\n")[0] or None,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        versions={name: _version(name) for name in LIBRARIES},
        commit=_commit(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        load_before=round(psutil.getloadavg()[0], 2),
    )


def gpu_used_mb() -> float | None:
    """Memory in use on the first GPU by everybody, 10^6 bytes; None if there is none or its driver does not say."""
    used_mib = _output("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits").partition("\n")[0]
    return float(used_mib) * 2**20 / 1e6 if used_mib.strip().isdigit() else None


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor() or "unknown"


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    head = _output("git", "rev-parse", "--short=12", "HEAD")
    return (head + ("+" if _output("git", "status", "--porcelain", "--untracked-files=no") else "")) or "unknown"


def _output(*command: str) -> str:
    """What a program prints, "" if it is missing or fails."""
    program = shutil.which(command[0])
    if program is None:
        return ""
    done = subprocess.run([program, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
