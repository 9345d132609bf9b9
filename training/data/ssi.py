"""Feature streams of the Social Signal Interpretation framework: an XML header and raw numbers beside it.

    <stream ssi-v="2"> <info ftype="BINARY" sr="25.0" dim="88" byte="4" type="FLOAT" delim=" " /> <meta />
    <chunk from="0.0" to="600.0" byte="0" num="15000" /> </stream>

NAME.stream is the header, NAME.stream~ the data, [T, dim] row by row, little-endian; several chunks follow each other
without a gap in the file. ftype ASCII is text with `delim` between the numbers of a row. (Wagner et al., "The Social
Signal Interpretation (SSI) Framework", 2013; layout as several public readers have it.)
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.data.corpus import need_file, read_text
from training.data.pictures import DataError

_TYPES = {
    "CHAR": "<i1", "UCHAR": "<u1", "SHORT": "<i2", "USHORT": "<u2", "INT": "<i4", "UINT": "<u4", "LONG": "<i8",
    "ULONG": "<u8", "FLOAT": "<f4", "DOUBLE": "<f8",
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class FeatureStream:
    """values float32 [T, D], rate_hz rows a second."""

    rate_hz: float
    values: npt.NDArray[np.float32]


def read_stream(path: Path) -> FeatureStream:
    """The stream whose header is `path`. Raises DataError naming what is missing, cut off or contradictory."""
    info, rows = _header(need_file(path, "a feature stream"))
    data = need_file(path.with_name(path.name + "~"), f"the feature stream {path.name}")
    if data.stat().st_size == 0:
        raise DataError(f"{data}: is empty (0 bytes)")
    if rows == 0:
        raise DataError(f"{path}: says that it has no rows")
    values = _text(data, info) if info.ascii else np.fromfile(data, info.dtype)
    if values.size != rows * info.columns:
        there = values.size / info.columns
        raise DataError(f"{data}: {there:g} rows of {info.columns} numbers, its header says {rows}")
    return FeatureStream(info.rate_hz, values.reshape(rows, info.columns).astype(np.float32))


@dataclass(frozen=True, slots=True)
class _Info:
    rate_hz: float
    columns: int
    dtype: np.dtype[np.generic]
    ascii: bool
    delimiter: str


def _header(path: Path) -> tuple[_Info, int]:
    """What a row is, and how many there are."""
    try:
        root = ET.fromstring(path.read_text(encoding="utf-8", errors="replace"))
        info = root.find("info")
        if info is None:
            raise DataError(f"{path}: has no <info>, so it is no feature stream")
        kind = info.attrib["type"].upper()
        if kind not in _TYPES:
            raise DataError(f"{path}: numbers of type {kind}, which this reader does not know")
        dtype: np.dtype[np.generic] = np.dtype(_TYPES[kind])
        if dtype.itemsize != int(info.attrib["byte"]):
            raise DataError(f"{path}: {kind} in {info.attrib['byte']} bytes; expected {dtype.itemsize}")
        text = info.attrib.get("ftype", "BINARY").upper() == "ASCII"
        read = _Info(float(info.attrib["sr"]), int(info.attrib["dim"]), dtype, text, info.attrib.get("delim", " "))
        rows = sum(int(chunk.attrib["num"]) for chunk in root.iter("chunk"))
    except (ET.ParseError, KeyError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: is no SSI stream header ({error})") from error
    if read.rate_hz <= 0 or read.columns <= 0:
        raise DataError(f"{path}: rate {read.rate_hz:g} Hz and {read.columns} columns; both must be positive")
    return read, rows


def _text(path: Path, info: _Info) -> npt.NDArray[np.generic]:
    numbers = read_text(path).replace(info.delimiter, " ").split()
    try:
        return np.array(numbers, dtype=np.float64)
    except ValueError as error:
        raise DataError(f"{path}: holds something that is no number") from error
