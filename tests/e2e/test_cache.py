"""What is built for the node is built once and is never half there, however many start at a time."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.node import Node, NodeError, addons, images, machine
from tests.e2e.node.paths import REPOSITORY, made_once
from tests.e2e.node.sandbox import Sandbox

# Waits in mid-build until the other worker has come, or has had time enough to: then it writes the second half.
_WORKER = """
import sys, time
from pathlib import Path
from tests.e2e.node.paths import made_once

folder = Path(sys.argv[1])
(folder / f"came-{sys.argv[2]}").touch()
end = time.monotonic() + 60
while len(list(folder.glob("came-*"))) < 2 and time.monotonic() < end:
    time.sleep(0.01)

def make(path):
    with (folder / "makers").open("a") as makers:
        makers.write("made\\n")
    with path.open("w") as file:
        file.write("first half, ")
        file.flush()
        time.sleep(0.3)
        file.write("second half")

print(made_once(folder / "thing", make).read_text())
"""


def test_two_workers_that_need_the_same_file_at_once_build_it_once_and_both_get_the_whole(tmp_path: Path) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(tmp_path), str(number)],
            cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(2)
    ]  # fmt: skip
    ended = [worker.communicate(timeout=120) for worker in workers]
    assert [output for output, _ in ended] == ["first half, second half\n"] * 2, ended
    assert (tmp_path / "makers").read_text() == "made\n"


def test_a_build_that_fails_leaves_nothing_and_the_next_one_succeeds(tmp_path: Path) -> None:
    def half(path: Path) -> None:
        path.write_text("half")
        raise NodeError("no space")

    with pytest.raises(NodeError, match="no space"):
        made_once(tmp_path / "thing", half)
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []
    assert made_once(tmp_path / "thing", lambda path: path.write_text("whole")).read_text() == "whole"


@pytest.mark.parametrize(("failures", "comes_up"), [(1, True), (2, False)])
def test_a_node_that_does_not_come_up_is_started_once_more(
    monkeypatch: pytest.MonkeyPatch, failures: int, comes_up: bool
) -> None:
    sandboxes: list[Sandbox] = []

    def start(self: Node, _: object) -> None:
        sandboxes.append(self._sandbox)
        if len(sandboxes) <= failures:
            raise NodeError("the node did not start: waited in vain")

    monkeypatch.setattr(machine, "require", lambda: None)
    monkeypatch.setattr(images, "build", lambda _: {})
    monkeypatch.setattr(images, "of_node", lambda *_, **__: [])
    monkeypatch.setattr(addons, "prepare", lambda *_, **__: None)
    monkeypatch.setattr(Node, "_start_once", start)
    if comes_up:
        Node().start()
    else:
        with pytest.raises(NodeError, match="did not start"):
            Node().start()
    assert len(sandboxes) == 2
    assert sandboxes[0] is not sandboxes[1], "the second start must not reuse the first one's namespaces"
