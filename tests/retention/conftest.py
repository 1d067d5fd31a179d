import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.retention.world import World

_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of its own in there


@pytest.fixture
def quick_path() -> Iterator[Path]:
    """A temporary folder where a sync costs nothing: hundreds of runs sync a dozen times each."""
    place = _IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="retention-", dir=place) as folder:
        yield Path(folder)


@pytest.fixture
def world(quick_path: Path) -> World:
    """A pod's folders with one database, app, configured."""
    made = World(quick_path)
    made.configure("app")
    return made
