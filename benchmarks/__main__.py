"""`make bench`: the core tables of docs/performance.md, and the server's memory. `make bench-all`: the others too.

The long ones need hours or data of their own, and write tables of their own pages: see `python -m benchmarks.NAME -h`.
"""

import runpy
import sys

# Minutes each. What measures a single rule, attack or setting for docs/research is run by hand.
CORE = ("projection", "memory", "storage", "arithmetic", "server_round")
# The sizes of server_round: ResNet-18 at 20 silos needs 4 GB, 100 million parameters at 8 silos 8 GB.
REST = (
    *("server_round resnet18 huge", "review_memory", "checkpoint", "ledger", "loss_at", "engines"),
    *("growth", "whole_rounds", "bytes_to", "deployed"),
)


def main(which: list[str]) -> None:
    """Runs them one after another, each as if it were named after `python -m`."""
    for name in CORE + (REST if which == ["all"] else ()):
        print(f"# {name}", flush=True)
        module, *arguments = name.split()
        sys.argv = [f"benchmarks.{module}", *arguments]
        runpy.run_module(f"benchmarks.{module}", run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
