"""Damage to an archive after its sha256 was taken is always noticed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.bench.dump import FORMATS, TINY, TRIALS, notice
from tests.lab import damage, data
from tests.lab.postgres import Server
from tests.lab.site import Site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Server() as server:
        made = Site(tmp_path_factory.mktemp("site"), {TINY: server})
        made.add_role(TINY)
        data.authelia(server)
        yield made


@pytest.mark.long
@pytest.mark.parametrize("compression", FORMATS)
@pytest.mark.parametrize("kind", damage.KINDS)
def test_damage_after_the_sha256_is_never_published_and_always_found(
    site: Site, tmp_path: Path, compression: str, kind: damage.Kind
) -> None:
    noticed = notice(site.servers[TINY], site.passwords, tmp_path, compression, kind)
    assert noticed.finish == TRIALS, f"{TRIALS - noticed.finish} archives with a {kind} were published"
    assert noticed.verify == TRIALS, f"{TRIALS - noticed.verify} archives with a {kind} passed verify"
    if kind == "truncation":
        assert noticed.read.caught == TRIALS, "a truncated archive was read back without an error"


def test_damage_is_what_it_says(tmp_path: Path) -> None:
    content = bytes(range(256)) * 8
    for kind in damage.KINDS:
        for one in damage.damages(kind, len(content), 50):
            file = tmp_path / "file"
            file.write_bytes(content)
            one.apply(file)
            damaged = file.read_bytes()
            if kind == "truncation":
                assert damaged == content[: one.offset], one
            else:
                changed = [(a ^ b) for a, b in zip(content, damaged, strict=True) if a != b]
                assert changed == [1 << one.bit], one
