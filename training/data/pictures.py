"""What every still-picture corpus becomes: luma pictures with what is known of them, and face crops made as live."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile
from zlib import error as BadDeflate

import cv2
import numpy as np
import numpy.typing as npt
from numpy.lib.npyio import NpzFile
from rich.progress import track

from engines.base import Engine
from engines.detect import detect_picture
from engines.preprocess import Affine, Luma, Points, crop, similarity


class DataError(ValueError):
    """A corpus is missing, incomplete or contradicts itself; one line that names the item."""


@contextmanager
def open_npz(path: Path, names: Sequence[str], what: str) -> Iterator[NpzFile]:
    """The arrays of a file. Raises DataError if it is no npz, if it lacks one of `names` and so is not `what`, or if
    what it holds is damaged, which shows only when an array is read.
    """
    with ExitStack() as stack:
        try:
            file = np.load(stack.enter_context(path.open("rb")))
        except (OSError, EOFError, ValueError, BadZipFile) as error:
            raise DataError(f"{path} is no npz file") from error
        if not isinstance(file, NpzFile):
            raise DataError(f"{path} is no npz file")
        missing = [name for name in names if name not in stack.enter_context(file)]
        if missing:
            raise DataError(f"{path} is not {what}: no array {', '.join(missing)}")
        try:
            yield file
        except (BadZipFile, BadDeflate, EOFError) as error:
            raise DataError(f"{path} is damaged: {error}") from error


_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"


def read_pixels(path: Path, flags: int) -> npt.NDArray[np.uint8]:
    """A picture file as cv2.imdecode gives it. Raises DataError naming a file that is missing or is no picture."""
    if not path.is_file():
        raise DataError(f"{path}: labelled, but the file is missing")
    data = path.read_bytes()
    # A JPEG that is cut off still decodes, to grey below the cut. Its end marker is what is missing; an earlier one
    # belongs to a thumbnail.
    whole = not data.startswith(_JPEG_START) or data.rfind(_JPEG_END) > len(data) // 2
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data and whole else None
    if pixels is None:
        raise DataError(f"{path}: not a readable picture")
    return np.asarray(pixels, np.uint8)


@dataclass(frozen=True, slots=True)
class Crops:
    """Face crops of a list of pictures.

    crops: uint8 [N, S, S]. found: bool [N]; where False no face was found and the crop follows `fallback_points`.
    """

    crops: npt.NDArray[np.uint8]
    found: npt.NDArray[np.bool_]


def fallback_points(luma: Luma, shares: Points) -> Points:
    """Where the five points are assumed when no face is found: at fixed shares of the picture's sides."""
    height, width = luma.shape
    return (shares * np.array([width, height], dtype=np.float32)).astype(np.float32)


def cut_crops(detector: Engine, pictures: Iterable[Luma], shares: Points, size_px: int, margin_px: int = 0) -> Crops:
    """Detect, align and crop every picture exactly as a live frame is; `margin_px` more on each side for training."""
    made = [cut_crop(detector, each, shares, size_px, margin_px) for each in track(pictures, description="face crops")]
    return Crops(np.stack([each for each, _ in made]), np.array([found for _, found in made]))


def cut_crop(detector: Engine, luma: Luma, shares: Points, size_px: int, margin_px: int = 0) -> tuple[Luma, bool]:
    """The crop of one picture, and whether a face was found; see cut_crops."""
    detection = detect_picture(detector, luma)
    points = fallback_points(luma, shares) if detection is None else detection.points
    return crop(luma, shifted(similarity(points, size_px), margin_px), size_px + 2 * margin_px), detection is not None


def shifted(affine: Affine, margin_px: int) -> Affine:
    """The same crop with a margin on each side."""
    return affine + np.array([[0, 0, margin_px], [0, 0, margin_px]], dtype=np.float32)
