"""What the tests of training/ are made of: a stand-in face mesh, learnable pictures, teacher files, an experiment."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from engines.spec import ModelFile, load_model_file
from training.concepts import CONCEPTS, EXPRESSIONS, INDEX, NAMES
from training.data.samples import MARGIN_PX, Samples, blank, save
from training.synthetic.ict import FACE, LANDMARKS, VISIBLE_VERTICES, FaceModel

SIDE_PX = 112 + 2 * MARGIN_PX
BLENDSHAPES = tuple(sorted({name for concept in CONCEPTS for name in concept.blendshapes}))
_PLACES = {"brow": (3, 5), "eye": (3, 3), "cheek": (4, 0), "nose": (1, 0), "mouth": (2.5, -3.5), "jaw": (0, -6)}


def stand_in_face() -> FaceModel:
    """A flat face with the vertex ranges, landmarks and shape names of ICT-FaceKit; a shape moves the skin around the
    feature it is named after, on its own side."""
    neutral = np.zeros((VISIBLE_VERTICES, 3), np.float32)
    x, y = np.meshgrid(np.linspace(-8, 8, 97), np.linspace(-9, 9, 97))
    neutral[FACE, :2] = np.stack([x.ravel(), y.ravel()], 1)
    marks = ((range(36, 42), -3, 3), (range(42, 48), 3, 3), ([30], 0, 0), ([48], -2.5, -3.5), ([54], 2.5, -3.5))
    for rows, *place in marks:
        neutral[LANDMARKS[list(rows)], :2] = place
    names = sorted({shape for concept in CONCEPTS for shape in concept.ict_shapes})
    deltas = np.zeros((len(names), VISIBLE_VERTICES, 3), np.float32)
    for delta, name in zip(deltas, names, strict=True):
        px, py = next(place for stem, place in _PLACES.items() if name.startswith(stem))
        for side in (1, -1) if name[-2:] not in ("_L", "_R") else (1 if name.endswith("_L") else -1,):
            away = np.square(neutral[FACE, :2] - [side * px, py]).sum(1)
            delta[FACE, 2] += np.exp(-away / 2)
    quads = np.array([[0, 1, 98, 97]], np.int32)
    return FaceModel(neutral, quads[:, :3], tuple(names), deltas, np.zeros((1, VISIBLE_VERTICES, 3), np.float32))


def write_face(path: Path, face: FaceModel) -> None:
    """The mesh as the npz that training.synthetic.ict reads."""
    np.savez_compressed(
        path,
        neutral=face.neutral,
        quads=np.array([[0, 1, 98, 97]], np.int32),
        expression_names=np.array(face.expression_names),
        expression_deltas=face.expression_deltas.astype(np.float16),
        identity_deltas=face.identity_deltas.astype(np.float16),
    )


def learnable(count: int, seed: int = 0) -> Samples:
    """Crops whose halves say it all: the upper half is bright in every other picture (happiness, AU12, engaged), the
    lower half in the rest (neutral, AU4, not engaged). The side in the light is the side the head is turned to."""
    rng = np.random.default_rng(seed)
    happy, turned = np.arange(count) % 2 == 1, np.arange(count) % 4 >= 2
    crops = rng.integers(40, 80, (count, SIDE_PX, SIDE_PX))
    for crop, high, left in zip(crops, happy, turned, strict=True):
        half = SIDE_PX // 2
        crop[slice(half) if high else slice(half, None)] += 100
        crop[:, half:] += 60 if left else 0
        crop[:, :half] += 0 if left else 60
    samples = blank(crops.astype(np.uint8), np.ones(count, bool))
    votes = np.zeros((count, len(EXPRESSIONS)), np.float32)
    votes[np.arange(count), happy.astype(int)] = 1.0
    concepts = np.zeros((count, len(NAMES)), np.float32)
    for name, shown in (("AU12", happy), ("AU4", ~happy), ("head_left", turned), ("head_right", ~turned)):
        concepts[:, INDEX[name]] = shown
    known = np.ones_like(concepts)
    return replace(
        samples, votes=votes, concepts=concepts, weights=known, score=happy.astype(np.float32),
        subjects=np.arange(count) % 3,
    )  # fmt: skip


def write_teacher(path: Path, found: npt.NDArray[np.bool_], **columns: npt.NDArray[np.floating]) -> None:
    """A file like those of training.teachers.mediapipe_faces. columns: values [N] of blendshapes or measures by name;
    what is not given is random."""
    rng = np.random.default_rng(5)
    shapes = rng.uniform(0.05, 0.6, (len(found), len(BLENDSHAPES)))
    measures = {"yaw_deg": 20.0, "pitch_deg": 10.0, "lips_gap": 5.0, "eye_distance": 50.0}
    content = {name: columns.pop(name, np.full(len(found), value)) for name, value in measures.items()}
    for name, values in columns.items():
        shapes[:, BLENDSHAPES.index(name)] = values
    np.savez(path, found=found, names=np.array(BLENDSHAPES), blendshapes=shapes.astype(np.float32), **content)


def write_experiment(folder: Path, face: FaceModel, count: int = 32, **keys: str) -> Path:
    """A tiny experiment and all its files in `folder`. keys: TOML text that replaces or adds top-level keys."""
    folder.mkdir(parents=True, exist_ok=True)
    write_face(folder / "face.npz", face)
    save(folder / "train.npz", learnable(count))
    save(folder / "valid.npz", learnable(16, seed=1))
    write_teacher(folder / "teacher.npz", np.ones(count, bool))
    values = {
        "name": '"tiny"', "ict": f'"{folder}/face.npz"', "scale_from": f'"{folder}/teacher.npz"', "threads": "1",
        "learning_rate": "2e-3", "ema": "0.8", "embedding": "4", "score": "1.0",
        "phases": "[{epochs = 1, side_px = 48, batch = 8}]", "train": f'[{{file = "{folder}/train.npz"}}]',
        "valid": f'[{{file = "{folder}/valid.npz"}}]',
    }  # fmt: skip
    path = folder / "tiny.toml"
    path.write_text("\n".join(f"{key} = {value}" for key, value in (values | keys).items()))
    return path


def without_landmarks(folder: Path) -> ModelFile:
    """agcm-live as a model that does not say where the face lies, in `folder`."""
    import onnx.utils

    shipped = load_model_file("agcm-live")
    outputs = tuple(port for port in shipped.manifest.outputs if port.name != "landmarks")
    folder.mkdir()
    names = [port.name for port in outputs]
    onnx.utils.extract_model(str(shipped.path), str(folder / "model.onnx"), ["crop"], names, check_model=False)
    digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    manifest = msgspec.structs.replace(shipped.manifest, name=folder.name, outputs=outputs, sha256=digest)
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    return load_model_file(folder.name, folder.parent)
