"""What a shipped network says about itself: the manifest beside every model.onnx, typed and strict."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import msgspec

from engines.fusion import HearingSpec, TimedSpec

MODELS_DIR = Path(__file__).resolve().parent.parent / "models"
QUANTISED = "model.int8.json"


class ManifestError(ValueError):
    """The model folder is missing, incomplete, or its parts do not belong together."""


class TensorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Name, dtype and shape of one tensor; -1 is a free dimension."""

    name: str
    dtype: Literal["float32", "uint8"]
    shape: tuple[int, ...]


class ConceptSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One concept of the bottleneck.

    reliability: correlation of the activation with its reference on held-out material, None if not measured.
    reference: what that reference is ("teacher", "render").
    """

    name: str
    kind: Literal["au", "pose", "gaze", "voice"]
    meaning: str
    reliability: float | None = None
    reference: str = ""


class CropSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The face crop a concept model reads: side in pixels, and luma normalisation (value / 255 - mean) / std."""

    size_px: int
    mean: float
    std: float

    def __post_init__(self) -> None:
        if self.size_px < 1 or self.std <= 0:
            raise ValueError("a crop needs size_px >= 1 and std > 0")


class SpreadSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far answers are off on average: max(floor, intercept + sum_k activation_k p_k + contribution_k share_k).

    p_k and share_k are the activation and the contribution to the score of concept k; a weight [K] for each.
    """

    intercept: float
    activation: tuple[float, ...]
    contribution: tuple[float, ...]
    floor: float

    def __post_init__(self) -> None:
        if not self.floor > 0:
            raise ValueError("heads.interval.spread: the floor must be above 0")


class IntervalSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the label of a person that the model has not seen lies: score +- quantile x spread.

    coverage: how often it lies there, 0 to 1. spread: None for 1, an interval that is as wide for every face.
    """

    coverage: float
    quantile: float
    spread: SpreadSpec | None = None

    def __post_init__(self) -> None:
        if not (0 < self.coverage < 1 and self.quantile > 0):
            raise ValueError("heads.interval: needs 0 < coverage < 1 and quantile > 0")


class HeadSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, cache_hash=True):
    """The linear heads on the concept embeddings.

    Column 0 is the score; columns 1.. are the expression logits.
    base: [1 + E], bias plus the mean contribution of every concept over the training set.
    mean: [K][1 + E], mean over the training set of W_k . c_k.
    score_cuts: score thresholds between the classes of the engagement labels, for evaluation.
    temperature: what the logits are divided by before the softmax. calibrated_to: what the probabilities then are,
    shares of the annotators' votes or chances to be the majority's class; "" if nobody has looked.
    interval: None while nobody knows how far the score is off.
    """

    expressions: tuple[str, ...]
    base: tuple[float, ...]
    mean: tuple[tuple[float, ...], ...]
    score_cuts: tuple[float, ...]
    temperature: float = 1.0
    calibrated_to: Literal["", "votes", "majority"] = ""
    interval: IntervalSpec | None = None

    def __post_init__(self) -> None:
        columns = 1 + len(self.expressions)
        if len(self.base) != columns or any(len(row) != columns for row in self.mean):
            raise ValueError(f"heads: base and every row of mean need {columns} numbers, score first")
        if not self.temperature > 0:
            raise ValueError("heads: the temperature must be above 0")
        spread = None if self.interval is None else self.interval.spread
        if spread is not None and not len(spread.activation) == len(spread.contribution) == len(self.mean):
            raise ValueError(f"heads.interval.spread: needs {len(self.mean)} weights of each kind, one per concept")


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything needed to run a model.onnx and to name what it says. file: may lie in the folder of another model."""

    name: str
    file: str
    sha256: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    crop: CropSpec | None = None
    concepts: tuple[ConceptSpec, ...] = ()
    heads: HeadSpec | None = None
    hearing: HearingSpec | None = None
    timed: TimedSpec | None = None

    def __post_init__(self) -> None:
        if self.heads is not None and len(self.heads.mean) != len(self.concepts):
            raise ValueError(f"heads.mean has {len(self.heads.mean)} rows for {len(self.concepts)} concepts")
        if self.timed is not None and self.heads is not None:
            most = 1 + len(self.heads.base)
            if len(self.timed.usual_seen) != len(self.concepts) or not 1 <= len(self.timed.usual_seen[0]) <= most:
                raise ValueError(f"timed.usual_seen: needs {len(self.concepts)} concepts with 1 to {most} values")
        heard = None if self.timed is None or self.timed.heard is None else len(self.timed.usual_heard)
        if heard is not None and (self.hearing is None or self.hearing.concepts != heard):
            raise ValueError("timed.heard: what it hears is not what hearing names")

    @property
    def reliabilities(self) -> tuple[float, ...]:
        """Of the concepts, 0 to 1; 0 where nobody has measured it."""
        return tuple(max(0.0, concept.reliability or 0.0) for concept in self.concepts)

    @property
    def identity(self) -> str:
        """Name and first twelve digits of the file's sha256, as printed in every result; where the model also hears
        or remembers, of that file, the voice network's, and the weights that join them."""
        if self.hearing is None and self.timed is None:
            return f"{self.name}@{self.sha256[:12]}"
        everything = self.sha256.encode() + msgspec.json.encode((self.hearing, self.timed))
        return f"{self.name}@{hashlib.sha256(everything).hexdigest()[:12]}"


class ModelFile(msgspec.Struct, frozen=True):
    """A model folder whose manifest and ONNX file were checked against each other."""

    path: Path
    manifest: Manifest


class Distance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far answers are from those of float32 on average. contribution: to the score. landmarks: in shares of the
    crop's sides, None where the network has none."""

    score: float
    activation: float
    contribution: float
    landmarks: float | None


class Away(Distance, frozen=True, forbid_unknown_fields=True):
    """The same of a file, and the most. same: share of crops whose first expression stays. Of each concept by its name,
    activations, contributions: on average; sizes: how far the mean absolute value of its contribution moves."""

    most_score: float
    most_activation: float
    same: float
    activations: dict[str, float]
    contributions: dict[str, float]
    sizes: dict[str, float]


class Accuracy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Share of `count` labelled crops whose expression is the first that is named, in float32 and in int8."""

    count: int
    float32: float
    int8: float


class QuantisedFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One ONNX file in int8. form: u8, unsigned activations, for CPUs; s8, signed and symmetric ones, for TensorRT.
    left: nodes that stay in float32. away: on crops that were not used for the ranges. alone: where one node alone is
    quantised, by its name. accuracy: None if nobody gave labels."""

    form: Literal["u8", "s8"]
    file: str
    sha256: str
    left: tuple[str, ...]
    away: Away
    alone: dict[str, Distance]
    accuracy: Accuracy | None = None


class QuantisedSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`model.int8.json` beside a network: its int8 files, made by calibration.int8. of: sha256 of the float32 file.
    method: how ranges were chosen. crops, held: how many the ranges are of, and how many the distances."""

    of: str
    method: str
    crops: int
    held: int
    files: tuple[QuantisedFile, ...]


def quantised_spec(model: ModelFile) -> QuantisedSpec | None:
    """What is said of the int8 files beside a network; None if there are none. Raises ManifestError, one line."""
    path = model.path.with_name(QUANTISED)
    if not path.is_file():
        return None
    try:
        spec = msgspec.json.decode(path.read_bytes(), type=QuantisedSpec)
    except (OSError, msgspec.MsgspecError) as error:
        raise ManifestError(f"{path} cannot be used, run python -m calibration.int8 again: {error}") from error
    if spec.of != model.manifest.sha256:
        raise ManifestError(f"{path} was made from another network; make it again with python -m calibration.int8")
    return spec


def quantised(model: ModelFile, form: str) -> ModelFile | None:
    """The int8 file beside a network, checked; None if there is none. Raises ManifestError with one clear line."""
    spec = quantised_spec(model)
    for each in () if spec is None else (file for file in spec.files if file.form == form):
        own = model.path.with_name(each.file)
        if not own.is_file() or hashlib.sha256(own.read_bytes()).hexdigest() != each.sha256:
            raise ManifestError(f"{own} is missing or is not what {QUANTISED} names; run python -m calibration.int8")
        return ModelFile(own, model.manifest)
    return None


def available(models_dir: Path = MODELS_DIR) -> tuple[str, ...]:
    """Names of the model folders that have a manifest."""
    return tuple(sorted(path.parent.name for path in models_dir.glob("*/manifest.json")))


def load_model_file(name: str, models_dir: Path = MODELS_DIR) -> ModelFile:
    """Read and check `models_dir/name`. Raises ManifestError with one clear line."""
    try:
        return _load_model_file(name, models_dir)
    except OSError as error:
        raise ManifestError(f"model {name!r} cannot be read: {error.strerror}: {error.filename}") from error


def _load_model_file(name: str, models_dir: Path) -> ModelFile:
    manifest_path = models_dir / name / "manifest.json"
    if not manifest_path.is_file():
        known = ", ".join(available(models_dir)) or "none"
        raise ManifestError(f"unknown model {name!r}: no {manifest_path} (available: {known})")
    try:
        manifest = msgspec.json.decode(manifest_path.read_bytes(), type=Manifest)
    except msgspec.MsgspecError as error:
        raise ManifestError(f"{manifest_path} is not a valid manifest: {error}") from error
    path = manifest_path.parent / manifest.file
    if not path.is_file():
        raise ManifestError(f"model {name!r} is incomplete: {path} is missing")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != manifest.sha256:
        raise ManifestError(
            f"model {name!r}: {path.name} does not match its manifest (sha256 {digest[:12]}…, "
            f"expected {manifest.sha256[:12]}…); restore the folder or export the model again"
        )
    return ModelFile(path, manifest)


def model_at(name: str) -> ModelFile:
    """A name under models/, or the path of a folder. Raises ManifestError with one clear line."""
    folder = Path(name)
    return load_model_file(name) if folder.name == name else load_model_file(folder.name, folder.parent)


def load_voice_file(model: ModelFile, models_dir: Path = MODELS_DIR) -> ModelFile | None:
    """The voice network of a model that hears, checked; None for one that only sees. Raises ManifestError."""
    hearing = model.manifest.hearing
    if hearing is None:
        return None
    voice = load_model_file(hearing.model, models_dir)
    if voice.manifest.sha256 != hearing.sha256:
        raise ManifestError(
            f"model {model.manifest.name!r} was made with another {hearing.model} (sha256 {hearing.sha256[:12]}…); "
            "restore both folders or make the model again"
        )
    if len(voice.manifest.concepts) != hearing.concepts:
        raise ManifestError(
            f"model {model.manifest.name!r} hears {hearing.concepts} concepts, and {hearing.model} has "
            f"{len(voice.manifest.concepts)}; make the model again"
        )
    return voice
