"""What the scheduler's tests let processes do instead of a run; named by the run's method."""

import os
import time


def work(planned, place, pipe):
    """By the run's method: "dies" ends unheard, "fails" says so, "waits" stays until it is ended, others do a run."""
    if planned.method == "dies":
        os._exit(9)
    if planned.method == "fails":
        pipe.send({"error": "ValueError: no"})
        return
    (place.runs / "pids" / str(os.getpid())).touch()
    pipe.send({"round": 1, "peak": 1000})
    while planned.method == "waits" or not (place.runs / "go").exists():
        time.sleep(0.02)
    pipe.send({"row": {"run": planned.name}})
