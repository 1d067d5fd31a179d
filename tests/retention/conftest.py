from pathlib import Path

import pytest

from tests.retention.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A pod's folders with one database, app, configured."""
    made = World(tmp_path)
    made.configure("app")
    return made
