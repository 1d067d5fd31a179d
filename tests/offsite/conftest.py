"""One S3 store for each process of the tests; each test has a prefix of its own in it, and an rclone of its own."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.offsite import stores
from tests.offsite.stores import Store
from tests.offsite.world import World


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = stores.s3(tmp_path_factory.mktemp("s3") / "store")
    with stores.running(store):
        yield store


@pytest.fixture
def s3_store(s3_server: Store) -> Store:
    return dataclasses.replace(s3_server, path=f"{stores.BUCKET}/{uuid.uuid4().hex[:8]}")


@pytest.fixture
def world(s3_store: Store, tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, s3_store)
    with stores.running(made.carrier):
        yield made


@pytest.fixture(params=["s3", "sftp", "webdav"])
def any_world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A world for each kind of destination."""
    if request.param == "s3":
        made = World(tmp_path, request.getfixturevalue("s3_store"))
        with stores.running(made.carrier):
            yield made
        return
    store = stores.served(tmp_path / "store", request.param)
    made = World(tmp_path, store)
    with stores.running(store, made.carrier):
        yield made
