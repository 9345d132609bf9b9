"""Compile what ships for a GPU: `python -m engines.build --model agcm-live --backend tensorrt --precision fp16`.

A compiled engine belongs to one network, library, version, kind of GPU and precision; it is kept under a name made of
all of them, so that none is ever taken for another. Beside it stands the digest of its bytes: a file that was cut off
or changed is compiled again and never run.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
import typer
from typer.exceptions import TyperException

from engines.base import EngineError, int8_of
from engines.cuda import device_name
from engines.spec import ManifestError, ModelFile, model_at
from engines.tensorrt_compile import CURRENT, RANGES, RULES, Library, compiled, in_precision, library

CACHE: Final = Path.home() / ".cache" / "agcm-live" / "engines"
MISTAKE: Final = 2

HELP = """Compile a model that ships into an engine of TensorRT, and keep it.

\b
A session with --engine tensorrt does this by itself when it starts; this command does it beforehand, and shows whether
it can be done. With tensorrt_rtx and a target such as sm86 no GPU is needed.

\b
  python -m engines.build --model agcm-live --backend tensorrt --precision fp16
  python -m engines.build --model centerface --backend tensorrt --target sm86

Exit codes: 0 done, 2 it cannot be compiled, or a mistake in the arguments
"""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class Recipe(msgspec.Struct, frozen=True):
    """All that an engine depends on. device: the GPU and its driver, where the target is this machine's. converter: the
    version of what casts networks, where one was cast."""

    network_sha256: str
    library: str
    version: str
    precision: str
    target: str
    device: str
    ranges: tuple[tuple[str, int, int, int, int], ...]
    converter: str
    rules: int = RULES

    @property
    def key(self) -> str:
        """The name under which the engine is kept."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Built:
    """A serialised engine, the file that keeps it, and why it was compiled now; "" if it was there."""

    engine: bytes
    path: Path
    because: str


def recipe_of(model: ModelFile, precision: str, target: str, device: str, found: Library) -> Recipe:
    """What an engine of this model depends on."""
    names = {spec.name for spec in model.manifest.inputs}
    ranges = tuple(
        (name, axis, *values) for name, axes in sorted(RANGES.items()) if name in names
        for axis, values in sorted(axes.items())
    )  # fmt: skip
    digest = hashlib.sha256(model.path.read_bytes()).hexdigest()
    converter = metadata.version("onnxruntime") if precision == "fp16" else ""
    return Recipe(digest, found.name, found.version, precision, target, device, ranges, converter)


def engine_of(model: ModelFile, precision: str, target: str, device: str, found: Library, cache: Path = CACHE) -> Built:
    """The kept engine, or one that is compiled now and kept. Raises EngineError if it cannot be compiled; an engine
    that cannot be kept is used all the same."""
    recipe = recipe_of(model, precision, target, device, found)
    path = cache / f"{model.manifest.name}-{precision}-{target}-{recipe.key}.engine"
    engine, because = kept(path)
    if engine is None:
        network = in_precision(model.path.read_bytes(), precision)
        measured = (
            cache
            / f"timings-{found.name}-{found.version}-{target}-{hashlib.sha256(device.encode()).hexdigest()[:8]}.cache"
        )
        timings = kept(measured)[0] or b""
        made = compiled(network, model.manifest.inputs, target, found, timings)
        engine = made.engine
        keep(path, engine)
        if made.timings and made.timings != timings:
            keep(measured, made.timings)
    return Built(engine, path, because)


def kept(path: Path) -> tuple[bytes | None, str]:
    """What `keep` wrote to a file, or why there is none."""
    try:
        content, wanted = path.read_bytes(), path.with_suffix(".sha256").read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None, "there was none yet"
    except (OSError, UnicodeDecodeError) as error:
        return None, f"the one there was cannot be read: {error}"
    if hashlib.sha256(content).hexdigest() != wanted:
        return None, "the one there was is cut off or was changed"
    return content, ""


def keep(path: Path, content: bytes) -> None:
    """Write an engine, or what belongs to one, and its digest, each whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(content).hexdigest().encode()
        for target, written in ((path, content), (path.with_suffix(".sha256"), digest)):
            draft = target.with_name(f"{target.name}.part")
            draft.write_bytes(written)
            draft.replace(target)
    except OSError as error:
        print(
            f"note: the engine cannot be kept in {path.parent} ({error.strerror}); it is compiled each time",
            file=sys.stderr,
        )


@app.command(help=HELP)
def main(
    model: Annotated[str, typer.Option(metavar="NAME", help="a folder under models/, or a path with a / in it")],
    backend: Annotated[Literal["tensorrt"], typer.Option(help="whose engine")] = "tensorrt",
    precision: Annotated[
        Literal["fp32", "fp16", "int8"], typer.Option(help="inputs and outputs are fp32 always")
    ] = "fp32",
    target: Annotated[str, typer.Option(help="a kind of GPU, such as sm86, or the one of this machine")] = CURRENT,
    out: Annotated[Path, typer.Option(metavar="DIR", help="where engines are kept")] = CACHE,
) -> None:
    found = library()
    device = device_name() if target == CURRENT else ""
    file = model_at(model) if precision != "int8" else int8_of(model_at(model), "s8")
    built = engine_of(file, precision, target, device, found, out)
    size = (
        f"{len(built.engine) / 1e6:.1f} MB, {found.name} {found.version}, {backend}/{precision} for {device or target}"
    )
    print(f"{'kept already' if not built.because else f'compiled ({built.because})'}: {built.path} ({size})")


if __name__ == "__main__":
    try:
        app(standalone_mode=False)
    except (EngineError, ManifestError, TyperException) as mistake:
        print(mistake.format_message() if isinstance(mistake, TyperException) else mistake, file=sys.stderr)
        sys.exit(MISTAKE)
