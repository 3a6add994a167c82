"""What all tests share: one torch thread, so that sums do not depend on the machine and two cores do not fight.

`make test-slow` shares the slow tests among two processes. Those of federations with real processes and containers stay
together in one of them, as their silos have deadlines; of the others, each file stays together.
"""

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)

DEPLOY = Path(__file__).parent / "deploy"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.xdist_group("deploy" if DEPLOY in item.path.parents else str(item.path)))
