"""Runs the package's command line and ends it at one of its changes to the file system, as a killed node would.

A server, so that the interpreter starts but once: each line on standard input is a request, for each of which it forks.
The child wraps the operating system's functions (the product knows nothing of this), runs the command, and at the N-th
change ends without a word: before the change, or - for a write - in the middle of it. N = 0 lets it run to its end.
The log has one JSON line a change, and one for each fsync.
"""

import base64
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

KILLED = 137
CHANGES = ("open", "write", "pwrite", "rename", "unlink", "ftruncate")
FOREIGN = ("mkdir", "link", "symlink", "rmdir", "truncate", "replace", "remove", "removedirs", "renames")


class _Recorder:
    """Stands before the operating system's functions."""

    def __init__(self, number: int, moment: str, log_path: str) -> None:
        self._number = number
        self._moment = moment
        self._seen = 0
        self._log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        self._files: dict[int, str] = {}
        self._real = {name: getattr(os, name) for name in (*CHANGES, "fsync", "close")}

    def install(self) -> None:
        for name in CHANGES:
            setattr(os, name, self._changing(name))
        for name in FOREIGN:
            setattr(os, name, self._unknown(name))
        os.fsync = self._fsync
        os.close = self._close

    def _note(self, operation: str, **facts: str) -> None:
        line = json.dumps({"operation": operation, **facts}) + "\n"
        self._real["write"](self._log, line.encode())

    def _place(self, name: str, directory: int | None) -> str:
        return name if directory is None else f"{_path_of(directory)}/{name}"

    def _changing(self, name: str) -> Callable[..., Any]:
        real = self._real[name]

        def wrapped(*arguments: Any, **options: Any) -> Any:
            if name == "open" and not arguments[1] & (os.O_CREAT | os.O_TRUNC):
                fd = real(*arguments, **options)
                self._files[fd] = self._place(str(arguments[0]), options.get("dir_fd"))
                return fd
            self._seen += 1
            self._note(name, **self._facts(name, arguments, options))
            if self._seen == self._number:
                if self._moment == "half":
                    real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2], *arguments[2:])
                os._exit(KILLED)
            result = real(*arguments, **options)
            if name == "open":
                self._files[result] = self._place(str(arguments[0]), options.get("dir_fd"))
            return result

        return wrapped

    def _facts(self, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> dict[str, str]:
        if name in ("write", "pwrite"):
            content = base64.b64encode(bytes(arguments[1])).decode()
            return {"name": self._files.get(arguments[0], ""), "content": content}
        if name == "ftruncate":
            return {"name": self._files.get(arguments[0], "")}
        if name == "rename":
            return {
                "name": self._place(arguments[0], options.get("src_dir_fd")),
                "new": self._place(arguments[1], options.get("dst_dir_fd")),
            }
        return {"name": self._place(str(arguments[0]), options.get("dir_fd"))}

    def _unknown(self, name: str) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **_: Any) -> Any:
            self._note(name, name=str(arguments[0]))
            os._exit(99)

        return wrapped

    def _fsync(self, fd: Any) -> None:
        self._real["fsync"](fd)
        self._note("fsync", name=_path_of(fd))

    def _close(self, fd: int) -> None:
        self._files.pop(fd, None)
        self._real["close"](fd)


def _path_of(fd: int) -> str:
    return str(Path(f"/proc/self/fd/{fd}").readlink())


def _serve(request: dict[str, Any]) -> int:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    from retention.cli.main import main

    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    _Recorder(request["number"], request["moment"], request["log"]).install()
    os._exit(main(request["arguments"]))


if __name__ == "__main__":
    import retention.cli.main  # noqa: F401 - once, before all the forks

    for line in sys.stdin:
        print(_serve(json.loads(line)), flush=True)
