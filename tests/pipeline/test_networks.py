"""The networks of a session."""

import numpy as np
import pytest

from engines.spec import MODELS_DIR
from pipeline.bus import WorkerError
from pipeline.config import EngineConfig, LiveConfig
from pipeline.networks import load

MODEL = "agcm-live"

needs_model = pytest.mark.skipif(
    not (MODELS_DIR / MODEL / "manifest.json").is_file(), reason=f"models/{MODEL} is not there yet"
)


@pytest.mark.parametrize(
    ("engine", "text"),
    [
        (EngineConfig(model="nosuch"), "unknown model 'nosuch'.*centerface"),
        (EngineConfig(model="centerface"), "'centerface' is no concept model"),
    ],
)
def test_a_model_that_cannot_be_had_is_the_users_to_mend(engine: EngineConfig, text: str) -> None:
    with pytest.raises(WorkerError, match=text) as caught:
        load(LiveConfig(engine=engine))
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@needs_model
@pytest.mark.parametrize(
    "engine",
    [
        EngineConfig(model=MODEL, backend="nosuch"),
        EngineConfig(model=MODEL, backend="onnxruntime", precision="int3"),
        EngineConfig(model=MODEL, threads=0),
    ],
)
def test_an_engine_that_cannot_be_had_is_the_users_to_mend(engine: EngineConfig) -> None:
    with pytest.raises(WorkerError) as caught:
        load(LiveConfig(engine=engine))
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@needs_model
def test_auto_says_what_it_took_and_both_networks_run() -> None:
    networks = load(LiveConfig(engine=EngineConfig(model=MODEL)))
    assert networks.model.backend in networks.notices[0]
    assert networks.detector.backend.endswith("/fp32")
    size_px = networks.crop.size_px
    out = networks.model.infer({"crop": np.zeros((2, 1, size_px, size_px), np.float32)})
    assert out["activation"].shape == (2, len(networks.concepts))
    networks.close()
