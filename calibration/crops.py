"""Crops of faces, as a session would cut them: from media files, or from npz files that hold them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from calibration.clip import duration_s, pictures
from calibration.signals import SyncError
from engines.backend_onnxruntime import OnnxRuntimeEngine
from engines.face import FaceFinder, align
from engines.spec import load_model_file

U8 = npt.NDArray[np.uint8]
_EVERY_S: Final = 0.2


class CropsError(ValueError):
    """A file has no crops to use; one line that names it and says what is wrong."""


def crops_of(path: Path, size_px: int) -> U8:
    """Crops [N, S, S] of a file. Raises CropsError."""
    if not path.is_file():
        raise CropsError(f"{path} is not there")
    return _stored(path, size_px) if path.suffix == ".npz" else _filmed(path, size_px)


def _stored(path: Path, size_px: int) -> U8:
    """The array `crops` of an npz; larger ones have a margin around the crop."""
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = file["crops"]
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:  # TypeError: it is one bare array
        raise CropsError(f"{path} has no array of crops: {error}") from error
    if (
        stored.ndim != 3
        or stored.dtype != np.uint8
        or min(stored.shape[1:]) < size_px
        or stored.shape[1] != stored.shape[2]
    ):
        raise CropsError(
            f"{path}: crops are {stored.dtype}{list(stored.shape)}, uint8 [N, {size_px}, {size_px}] are needed"
        )
    margin = (stored.shape[1] - size_px) // 2
    return np.asarray(stored[:, margin : margin + size_px, margin : margin + size_px])


def _filmed(path: Path, size_px: int) -> U8:
    """Faces of a video, five times a second."""
    finder = FaceFinder(OnnxRuntimeEngine(load_model_file("centerface"), threads=2))
    found, last_s = [], -np.inf
    try:
        duration_s(path)
        for picture in pictures(path, lambda _: None, small=False):
            if picture.time_s - last_s < _EVERY_S:
                continue
            last_s = picture.time_s
            faces = finder.locate(picture.luma, round(picture.time_s * 1e9)).faces
            found += [align(picture.luma, face, size_px).luma for face in faces if face.status == "tracked"]
    except SyncError as error:
        raise CropsError(str(error)) from error
    if not found:
        raise CropsError(f"{path} shows no face that could be cut out")
    return np.stack(found)
