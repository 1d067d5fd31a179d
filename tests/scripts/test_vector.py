"""pgvector, which PostgreSQL 18's wheel brings: restored and drilled by all ways."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.postgres import Server
from tests.scripts.apps import Kind, Make, debian_pod, differences, make_app
from tests.scripts.test_restore_script import SUPERUSER_PASSWORD

__all__ = ["debian_pod", "make_app"]

VECTORS = Kind(
    "CREATE EXTENSION vector",
    "CREATE TABLE items (id int PRIMARY KEY, v vector(3)); INSERT INTO items SELECT n, ARRAY[n, n, 1] FROM"
    " generate_series(1, 100) n; CREATE INDEX ON items USING hnsw (v vector_l2_ops)",
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(major=18) as running:
        running.psql(f"ALTER ROLE postgres PASSWORD '{SUPERUSER_PASSWORD}'")
        yield running


def test_vectors_are_restored_by_all_ways_and_drilled(make: Make) -> None:
    app = make(VECTORS)
    good = app.plain()
    for superuser, way in ((True, "beside"), (True, "in-place"), (False, "in-place")):
        app.sql("DROP TABLE items")
        app.drop_old(app.restore(superuser=superuser, RESTORE_WAY=way))
        assert differences(good, app.plain()) == [], f"{way}, superuser: {superuser}"
    app.restore(RESTORE_INTO=f"{app.name}_into")
    assert differences(good, app.plain(f"{app.name}_into")) == []
    log = app.pod.drill()
    assert app.pod.sidecar(app.pod.archives(app.name)[-1])["result"] == "proved", log
