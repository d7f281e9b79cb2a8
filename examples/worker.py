#!/usr/bin/env python3
"""A remote worker for Ringback, in Python 3.8 or newer and nothing but its standard library.

    RINGBACK_URL=http://localhost:3000 RINGBACK_KEY=rbk_... python3 examples/worker.py

As it stands it does jobs of the type csv.columns (examples/csv-columns.ts). To do your own, give `Worker` your own
functions: see `csv_columns` and the last lines. How it all works: docs/guides/remote-workers.md.
"""

import base64
import contextlib
import csv
import hashlib
import io
import json
import math
import os
import random
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request


class Refused(Exception):
    """The service said no: a problem document (docs/errors.md)."""

    def __init__(self, status, problem):
        super().__init__(f"{status} {problem.get('code')}: {problem.get('detail')}")
        self.status = status
        self.code = problem.get("code")


class Api:
    def __init__(self, url, key):
        self.url = url.rstrip("/")
        self.key = key

    def post(self, path, body, timeout=30, while_waiting=contextlib.nullcontext()):
        return self._send("POST", path, to_json(body), {"content-type": "application/json"}, timeout, while_waiting)

    def put(self, path, data, content_type, timeout=600):
        digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
        headers = {"content-type": content_type, "content-digest": f"sha-256=:{digest}:"}
        return self._send("PUT", path, data, headers, timeout, contextlib.nullcontext())

    def _send(self, method, path, data, headers, timeout, while_waiting):
        headers = {**headers, "authorization": f"Bearer {self.key}"}
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers)
        try:
            with while_waiting:
                response = urllib.request.urlopen(request, timeout=timeout)
            with response:
                text = response.read()
            return json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            with error:
                text = error.read()
            try:
                problem = json.loads(text)
            except ValueError:
                problem = {"detail": text[:200].decode(errors="replace")}
            raise Refused(error.code, problem) from None


class Stopped(BaseException):
    """The work is not wanted any more. No Exception, so that a handler's `except Exception` lets it through."""


class Canceled(Stopped):
    """The client called the job off."""


class Lost(Stopped):
    """The run is over or somebody else's: whatever is told of it now is refused."""


class Terminated(Stopped):
    """This process is to end."""


class Failure(Exception):
    """Raise it to say how the run failed; any other exception is a `handler_error` that may be tried again."""

    def __init__(self, code, message, retryable=True, retry_after_s=None):
        super().__init__(message)
        self.code = code
        self.retryable = retryable
        self.retry_after_s = retry_after_s


class File:
    """Return it for a result that is not JSON, or is large."""

    def __init__(self, data, content_type):
        self.data = data
        self.content_type = content_type


class Run:
    """A claimed run: what a handler is given. Its lease is kept by a thread while the handler works."""

    TALK_EVERY_S = 0.5
    LINES_AT_ONCE = 100
    GIVE_UP_AFTER_S = 60

    def __init__(self, api, claimed, lease_s):
        self.input = claimed["input"]
        self.job = claimed["job"]
        self.number = claimed["number"]
        self.run_id = claimed["run_id"]
        self._path = f"/v1/worker/runs/{claimed['handle']}"
        self._api = api
        self._lease_s = lease_s
        self._beat_s = claimed["heartbeat_after_s"]
        self._stopped = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._lines = []
        self._talked_at = 0.0

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def check(self):
        """Call it now and then: it raises when the work is not wanted any more. So do progress and log."""
        if self._stopped is not None:
            raise self._stopped

    def progress(self, percent, message=None):
        self.check()
        if time.monotonic() - self._talked_at < self.TALK_EVERY_S:
            return
        self._talked_at = time.monotonic()
        body = {"percent": percent} if message is None else {"percent": percent, "message": message}
        self._tell("progress", body)
        self._flush()

    def log(self, level, message, **fields):
        self.check()
        self._lines.append({"level": level, "message": message, "fields": fields})
        if len(self._lines) >= self.LINES_AT_ONCE:
            self._flush()

    def end(self, verb, body=None, file=None):
        """Tells the end, again and again while the service cannot be reached: it knows a repetition when it sees one."""
        self._flush()
        deadline = time.monotonic() + self.GIVE_UP_AFTER_S
        while True:
            try:
                if file is not None:
                    return self._api.put(f"{self._path}/result", file.data, file.content_type)
                return self._api.post(f"{self._path}/{verb}", body)
            except Refused as refused:
                if refused.status < 500 or time.monotonic() > deadline:
                    raise
            except OSError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(random.uniform(0.5, 1.5))

    def _flush(self):
        lines, self._lines = self._lines, []
        if lines:
            self._tell("log", {"lines": lines})

    def _tell(self, what, body):
        """What is lost here is no reason to fail the run; that the run is lost, the heartbeat finds out."""
        try:
            self._api.post(f"{self._path}/{what}", body)
        except (OSError, Refused) as error:
            say(f"{self.run_id}: {what} was not taken: {error}")

    def _keep(self):
        while not self._over.wait(self._beat_s):
            try:
                lease = self._api.post(f"{self._path}/heartbeat", {"lease_s": self._lease_s}, timeout=self._beat_s)
            except Refused as refused:
                if refused.status in (404, 409):
                    self._stopped = Lost(str(refused))
                    return
            except OSError:
                continue  # the lease has room for two more
            else:
                if lease["cancel_requested"]:
                    self._stopped = Canceled("the job was called off")


class Worker:
    """Claims runs of the types that it has handlers for, and does them one after the other, until SIGTERM or SIGINT."""

    def __init__(self, api, handlers, name=None, lease_s=30, wait_s=20):
        self._api = api
        self._handlers = handlers
        self._name = name or f"{socket.gethostname()}-{os.getpid()}"
        self._lease_s = lease_s
        self._wait_s = wait_s
        self._stopping = False
        self._may_interrupt = False

    def work(self):
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        say(f"{self._name} works for {self._api.url}: {', '.join(self._handlers)}")
        while not self._stopping:
            for claimed in self._claim():
                self._do(claimed)

    def _on_signal(self, *_):
        self._stopping = True
        if self._may_interrupt:
            self._may_interrupt = False
            raise Terminated("the worker ends")

    @contextlib.contextmanager
    def _interruptible(self):
        """Only here does a signal raise: while nothing is under way, or a handler works. Never while an end is told."""
        self._may_interrupt = True
        try:
            if self._stopping:
                raise Terminated("the worker ends")
            yield
        finally:
            self._may_interrupt = False

    def _claim(self):
        wish = {"types": list(self._handlers), "worker": self._name, "lease_s": self._lease_s, "wait_s": self._wait_s}
        try:
            # The service notices that the connection is gone, and takes back what it claims meanwhile.
            answer = self._api.post("/v1/worker/claims", wish, self._wait_s + 30, self._interruptible())
            return answer["runs"]
        except Terminated:
            return []
        except Refused as refused:
            if refused.status < 500 and refused.status != 429:
                raise
            say(f"claim: {refused}")
        except OSError as error:
            say(f"claim: {error}")
        with contextlib.suppress(Terminated), self._interruptible():
            time.sleep(random.uniform(0.5, 3))
        return []

    def _do(self, claimed):
        say(f"{claimed['run_id']} of {claimed['job']['id']}: {claimed['job']['type']}, run {claimed['number']}")
        with Run(self._api, claimed, self._lease_s) as run:
            try:
                outcome = self._work_off(run)
                say(f"{run.run_id}: {outcome}")
            except Lost as lost:
                say(f"{run.run_id}: lost: {lost}")
            except (Refused, OSError) as error:
                say(f"{run.run_id}: its end was not taken: {error}")

    def _work_off(self, run):
        try:
            with self._interruptible():
                result = self._handlers[run.job["type"]](run)
                body = None if isinstance(result, File) else to_json({"output": result})
        except Terminated:
            return run.end("release", {})
        except Canceled as canceled:
            return run.end("fail", failure("canceled", canceled, retryable=False))
        except Failure as failed:
            return run.end("fail", failure(failed.code, failed, failed.retryable, failed.retry_after_s))
        except Exception as error:  # whatever the handler raises: the worker goes on
            return run.end("fail", failure("handler_error", f"{type(error).__name__}: {error}"))
        try:
            if isinstance(result, File):
                return run.end("result", file=result)
            return run.end("complete", body)
        except Refused as refused:
            # What does not fit the type's promise has failed the run already; other refusals leave it to be failed.
            if refused.code == "invalid_output" or refused.status not in (413, 422):
                raise
            return run.end("fail", failure("result_refused", refused, retryable=False))


def to_json(body):
    """NaN and Infinity are no JSON, whatever Python says."""
    return body if isinstance(body, bytes) else json.dumps(body, allow_nan=False).encode()


def failure(code, error, retryable=True, retry_after_s=None):
    body = {"error": {"code": code, "message": str(error) or code}, "retryable": retryable}
    return body if retry_after_s is None else {**body, "retry_after_s": retry_after_s}


def say(line):
    print(time.strftime("%H:%M:%S"), line, file=sys.stderr, flush=True)


def csv_columns(run):
    """What is in the columns of a CSV with a header: numbers or text, how many cells are empty, from where to where."""
    text = run.input["csv"]
    lines = max(1, text.count("\n"))
    reader = csv.reader(io.StringIO(text), delimiter=run.input.get("delimiter", ","), strict=True)
    try:
        header = next(reader, None)
        if not header:
            raise Failure("csv_invalid", "There is no header.", retryable=False)
        columns = [Column(name) for name in header]
        rows = 0
        for row in reader:
            if len(row) != len(columns):
                message = f"Line {reader.line_num} has {len(row)} cells, the header {len(columns)}."
                raise Failure("csv_invalid", message, retryable=False)
            for column, cell in zip(columns, row):
                column.add(cell)
            rows += 1
            if rows % 1000 == 0:
                run.progress(round(100 * reader.line_num / lines, 1), f"{rows} rows")
    except csv.Error as error:
        raise Failure("csv_invalid", f"Line {reader.line_num}: {error}", retryable=False) from error
    run.log("info", "read", rows=rows, columns=len(columns))
    return {"rows": rows, "columns": [column.summary() for column in columns]}


class Column:
    def __init__(self, name):
        self.name = name
        self.count = 0
        self.empty = 0
        self.numbers = True
        self.total = 0.0
        self.low = None
        self.high = None
        self.first = None
        self.last = None

    def add(self, cell):
        if cell == "":
            self.empty += 1
            return
        self.count += 1
        self.first = cell if self.first is None else min(self.first, cell)
        self.last = cell if self.last is None else max(self.last, cell)
        if not self.numbers:
            return
        number = to_number(cell)
        if number is None:
            self.numbers = False
            return
        self.total += number
        self.low = number if self.low is None else min(self.low, number)
        self.high = number if self.high is None else max(self.high, number)

    def summary(self):
        common = {"name": self.name, "count": self.count, "empty": self.empty}
        if self.numbers and self.count > 0:
            return {**common, "type": "number", "min": self.low, "max": self.high, "mean": self.total / self.count}
        return {**common, "type": "text", "min": self.first, "max": self.last}


def to_number(cell):
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


if __name__ == "__main__":
    try:
        api = Api(os.environ.get("RINGBACK_URL", "http://localhost:3000"), os.environ["RINGBACK_KEY"])
    except KeyError:
        sys.exit("worker.py: set RINGBACK_KEY to an API key with the scope worker, and RINGBACK_URL")
    try:
        Worker(api, {"csv.columns": csv_columns}, name=os.environ.get("RINGBACK_WORKER")).work()
    except Refused as refused:
        sys.exit(f"worker.py: {refused}")
