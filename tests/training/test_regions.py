"""Where a concept is looked for: where its shape moves the skin."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.concepts import CONCEPTS, INDEX
from training.regions import F32, regions
from training.synthetic import ict
from training.synthetic.ict import FaceModel

ICT_PATH = Path(__file__).parents[2].parent / "shared" / "data" / "ict_facekit_light.npz"
PLACELESS = {"head_left", "head_right", "head_up", "head_down"}
SYMMETRIC = [c.name for c in CONCEPTS if c.name not in PLACELESS and c.kind == "au"]


def height(region: F32) -> float:
    """Centre of mass, as a share of the crop's height from its top."""
    rows = (np.arange(len(region)) + 0.5) / len(region)
    return float((region.sum(1) * rows).sum() / region.sum())


@pytest.fixture(scope="module")
def real() -> F32:
    if not ICT_PATH.exists():
        pytest.skip("the ICT-FaceKit model is not beside the checkout")
    return regions(ict.load(ICT_PATH), 7)


@pytest.mark.parametrize("grid", [2, 5, 7, 14])
def test_a_region_peaks_at_one_or_is_empty(face: FaceModel, grid: int) -> None:
    found = regions(face, grid)
    assert found.shape == (len(CONCEPTS), grid, grid)
    assert found.dtype == np.float32
    assert ((found >= 0) & (found <= 1)).all()
    for concept, region in zip(CONCEPTS, found, strict=True):
        assert region.max() == (0.0 if concept.name in PLACELESS else 1.0), concept.name


@pytest.mark.parametrize("grid", [7, 14])
def test_features_of_the_stand_in_lie_where_they_were_put(face: FaceModel, grid: int) -> None:
    found = regions(face, grid)
    brow, lips, cheek = (height(found[INDEX[name]]) for name in ("AU4", "AU12", "AU6"))
    assert brow < 0.45 < cheek < 0.7 < lips
    assert height(found[INDEX["AU45"]]) < 0.5


@pytest.mark.parametrize("name", SYMMETRIC)
def test_regions_of_a_symmetric_face_are_symmetric(face: FaceModel, name: str) -> None:
    region = regions(face, 7)[INDEX[name]]
    assert np.abs(region - region[:, ::-1]).max() < 0.25, name


@pytest.mark.shared
def test_regions_of_the_real_mesh_are_in_range(real: F32) -> None:
    assert ((real >= 0) & (real <= 1)).all()
    empty = {c.name for c, region in zip(CONCEPTS, real, strict=True) if not region.any()}
    assert empty == PLACELESS


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "upper"),
    [("AU1", True), ("AU2", True), ("AU4", True), ("AU45", True), ("gaze_down", True)]
    + [(name, False) for name in ("AU12", "AU14", "AU15", "AU17", "AU20", "AU25", "AU26", "AU28")],
)
def test_brows_and_eyes_are_above_the_mouth(real: F32, name: str, upper: bool) -> None:
    half = real[INDEX[name], :4] if upper else real[INDEX[name], 3:]
    assert half.sum() > 0.9 * real[INDEX[name]].sum()
    assert (height(real[INDEX[name]]) < 0.5) == upper


@pytest.mark.shared
@pytest.mark.parametrize("name", SYMMETRIC)
def test_regions_of_the_real_mesh_are_nearly_symmetric(real: F32, name: str) -> None:
    region = real[INDEX[name]]
    mirrored = region[:, ::-1]
    assert (region * mirrored).sum() / np.square(region).sum() > 0.85


@pytest.mark.shared
@pytest.mark.parametrize(("one", "other", "most"), [("AU4", "AU12", 0.0), ("AU26", "AU1", 0.0), ("AU6", "AU45", 0.9)])
def test_concepts_that_move_different_skin_have_different_regions(real: F32, one: str, other: str, most: float) -> None:
    first, second = real[INDEX[one]].ravel(), real[INDEX[other]].ravel()
    assert first @ second <= most * np.linalg.norm(first) * np.linalg.norm(second)
