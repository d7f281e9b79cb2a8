"""The example worker with handlers that do what a test needs."""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "..", "examples"))
import worker  # noqa: E402


def steps(run):
    """Goes on for a while, a step at a time, and listens."""
    for step in range(run.input["steps"]):
        run.check()
        run.log("info", "step", number=step, run=run.number)
        run.progress(100 * step / run.input["steps"], f"step {step}")
        time.sleep(run.input["step_ms"] / 1000)
    return {"steps": run.input["steps"], "run": run.number}


def flaky(run):
    """Fails as often as it is told, in the way that it is told."""
    if run.number <= run.input["times"]:
        if run.input["how"] == "throw":
            raise ValueError(f"run {run.number}")
        raise worker.Failure("told_to", f"run {run.number}", retryable=run.input["how"] == "retry")
    return {"runs": run.number}


def blob(run):
    return worker.File(bytes(run.input["bytes"]), run.input["content_type"])


def lie(run):
    return {"sum": "none"}


HANDLERS = {
    "csv.columns": worker.csv_columns,
    "test.steps": steps,
    "test.flaky": flaky,
    "test.blob": blob,
    "test.typed": lie,
}

api = worker.Api(os.environ["RINGBACK_URL"], os.environ["RINGBACK_KEY"])
worker.Worker(api, HANDLERS, name=os.environ["RINGBACK_WORKER"], lease_s=5, wait_s=20).work()
