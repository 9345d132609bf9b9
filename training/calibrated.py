"""What a calibration has found of a network stays with that network, and with no other."""

from __future__ import annotations

from pathlib import Path

import msgspec

from engines.spec import Manifest, ManifestError, load_model_file


def kept(manifest: Manifest, folder: Path) -> Manifest:
    """`manifest` with the temperature and the interval of the one in `folder`, if that describes the same network.

    How far another network is off says nothing of this one: then the manifest stays as it is, without an interval.
    """
    try:
        before = load_model_file(folder.name, folder.parent).manifest
    except ManifestError:
        return manifest
    old, new = before.heads, manifest.heads
    if before.sha256 != manifest.sha256 or old is None or new is None or old.mean != new.mean:
        return manifest
    found = {"temperature": old.temperature, "calibrated_to": old.calibrated_to, "interval": old.interval}
    return msgspec.structs.replace(manifest, heads=msgspec.structs.replace(new, **found))
