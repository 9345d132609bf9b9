"""The table of systems, and which settings go together."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

from tests.training.material import write_experiment
from training.agcm.losses import AUS_OF_EXPRESSION
from training.concepts import EXPRESSIONS, INDEX
from training.experiment import SystemName, load
from training.synthetic.ict import FaceModel
from training.systems.table import SYSTEMS

PHASES = '[{epochs = 8, side_px = 48, batch = 8, train = "concepts"}, {epochs = 8, side_px = 48, batch = 8}]'


def test_the_table_has_every_name_of_an_experiment() -> None:
    assert tuple(SYSTEMS) == get_args(SystemName)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"system": '"cnn"'}, "Invalid enum value 'cnn'"),
        ({"system": '"cem"', "token_order": '"viewed"'}, "token_order is for system 'agcm' only, not for 'cem'"),
        ({"attention": "1.0"}, "attention is for system 'aucam' only, not for 'agcm'"),
        ({"system": '"blackbox"', "phases": PHASES}, "system 'blackbox' has no bottleneck"),
        ({"system": '"cbm"', "learns": '"sequential"'}, "needs phases with train = 'concepts'"),
        ({"crop_px": "100"}, "crop_px must be a multiple of 16"),
    ],
)
def test_what_does_not_go_together_is_one_clear_line(
    face: FaceModel, tmp_path: Path, keys: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load(write_experiment(tmp_path, face, **keys))


def test_every_expression_of_the_map_loss_is_known() -> None:
    assert set(AUS_OF_EXPRESSION) < set(EXPRESSIONS)
    assert all(au in INDEX for aus in AUS_OF_EXPRESSION.values() for au in aus)
