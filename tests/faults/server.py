"""Runs the package's command line with one fault: a server, so that the interpreter starts but once.

Each line on standard input is a request, for each of which it forks. The child wraps the operating system's functions
(see injector.py), runs the command, and writes what it has printed and which call went wrong into a file.
"""

import contextlib
import io
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tests.faults.injector import Call, Fault, Injector

HANG_SECONDS = 20
HUNG = "HUNG"
_DELAYS = (*[0.0] * 30, 0.001, 0.005, 0.02)


def be_patient_for(seconds: float) -> None:
    """Let nothing wait for a lock longer than this: what is tested is what happens then."""
    from retention.volume import locks

    locked = locks.locked
    locks._POLL_SECONDS = 0.005

    def soon(folder: Any, name: str, **options: Any) -> Any:
        return locked(folder, name, **{**options, "seconds": min(seconds, options["seconds"])})

    locks.locked = soon


def _decide(request: dict[str, Any], hit: list[Call]) -> Any:
    chance = random.Random(request.get("seed"))

    def decide(call: Call) -> Fault:
        if "seed" in request:
            # An interleaving: some calls come late.
            time.sleep(chance.choice(_DELAYS))
            return None
        if call.number == request["number"] or (hit and request["sticky"] and call.operation == hit[0].operation):
            hit.append(call)
            fault: Fault = request["fault"]
            return fault
        return None

    return decide


def run(request: dict[str, Any]) -> None:
    """Run one request to its end, and leave its answer."""
    from retention.cli.main import main

    be_patient_for(request["patience"])
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(HANG_SECONDS)
    out, hit = io.StringIO(), list[Call]()
    sys.stdout = sys.stderr = out
    injector = Injector(_decide(request, hit), *map(Path, request["folders"]))
    with injector, contextlib.suppress(SystemExit):
        code = main(request["arguments"])
    calls = [[call.operation, call.path] for call in injector.calls] if request.get("record") else []
    answer = {"code": code, "out": out.getvalue(), "calls": calls, "hit": hit[0].path if hit else ""}
    Path(request["answer"]).write_text(json.dumps(answer))


def serve(requests: list[dict[str, Any]]) -> list[int | str]:
    """Run requests at once, each in a process of its own; return how they ended."""
    children = []
    for request in requests:
        child = os.fork()
        if not child:
            try:
                run(request)
            except BaseException as error:
                Path(request["answer"]).write_text(json.dumps({"code": -1, "out": f"Traceback {error!r}", "hit": ""}))
            os._exit(0)
        children.append(child)
    codes: list[int | str] = []
    for child in children:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        codes.append(HUNG if code == -signal.SIGALRM else code)
    return codes


if __name__ == "__main__":
    import retention.cli.main  # noqa: F401 - once, before all the forks

    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), flush=True)
