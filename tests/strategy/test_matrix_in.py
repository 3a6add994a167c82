"""`matrix-in`: a run whose updates lie in a file is the run whose updates lie in memory, to the bit."""

import numpy as np
import pytest

from fedlaw_flwr.apps.byzantine.batched import SimulatedSilos
from fedlaw_flwr.config.settings import Settings
from fedlaw_flwr.core.storage import zeros
from fedlaw_flwr.events.record import Run
from fedlaw_flwr.protocol import round as rounds
from fedlaw_flwr.simulation.in_process import run_batched


@pytest.mark.parametrize("variant", ["fedlaw", "review"])
def test_updates_in_a_file_give_the_same_run(variant, tmp_path, monkeypatch):
    places = []

    def noted(shape, dtype, folder=""):
        places.append(folder)
        return zeros(shape, dtype, folder)

    monkeypatch.setattr(rounds, "zeros", noted)
    found = {}
    for name, more in (("memory", {}), ("file", {"matrix-in": str(tmp_path)})):
        values = {"num-silos": 8, "num-rounds": 3, "max-byzantine": 2, "byzantine": 2, "attack": "ipm"}
        run_batched(SimulatedSilos, Settings.read({**values, "variant": variant, **more}), tmp_path / name)
        found[name] = (tmp_path / name / "model.safetensors").read_bytes(), Run.read(tmp_path / name).rounds
    assert set(places) == {"", str(tmp_path)}
    assert found["file"][0] == found["memory"][0]
    for here, there in zip(found["file"][1], found["memory"][1], strict=True):
        assert (here.silos, here.weights, here.scores) == (there.silos, there.weights, there.scores)
        np.testing.assert_array_equal(here.norms, there.norms)
