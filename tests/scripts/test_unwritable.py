"""A volume that the pod's user may not write (NFS with root_squash, storage without fsGroup): each failure says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scripts.conftest import DUMP, REPO
from tests.scripts.stand_ins import StandIns

OTHER = 1234
# Without these root is a user like any other, to whom a folder of user 1234 does not belong.
ORDINARY = ["/usr/bin/setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", "--inh-caps=-all"]


@pytest.fixture
def app(tmp_path: Path, shell: str) -> StandIns:
    """A pod with one good backup of `app`."""
    pod = StandIns.make(tmp_path, shell)
    answers = 'case "$*" in *foresee.sql) ;; *largeobject*) echo 0 ;; *pg_stat_ssl*) echo "none|1|0" ;;'
    pod.program("psql", f'{answers} *) echo "170005|17.5|f|9000" ;; esac')
    pod.run()
    return pod


def give_away(path: Path) -> None:
    os.chown(path, OTHER, OTHER)
    path.chmod(0o755 if path.is_dir() else 0o644)


def run_as_ordinary(pod: StandIns, *arguments: str) -> str:
    """Run dump.sh without root's right to write everywhere."""
    pod.renew()
    done = subprocess.run(
        [*ORDINARY, str(pod.folder / "programs" / "sh"), str(DUMP), *arguments],
        env=pod.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("database", "whose", "arguments"),
    [
        ("new", "", []),
        ("new", "", ["--check"]),
        ("app", "app", []),
        ("app", "app", ["--check"]),
        ("app", "app/.lock", []),
    ],
    ids=["root", "root, checked", "directory", "directory, checked", "lock"],
)
def test_volume_that_may_not_be_written_names_the_user_and_what_makes_it_the_owner(
    app: StandIns, database: str, whose: str, arguments: list[str]
) -> None:
    app.add(database)
    give_away(app.root / whose)
    log = run_as_ordinary(app, *arguments)
    result = app.result(database)
    assert result["state"] == "failed", log
    assert "Permission denied" in result["error"], result
    assert result["remedy"] == (
        f"let user {os.getuid()}, group {os.getgid()} write to the volume: podSecurityContext.fsGroup, or chown on NFS"
    )
    assert result["error"] in log


def test_finish_on_a_volume_that_may_not_be_written_says_who_has_to_own_the_files(app: StandIns) -> None:
    app.dump()
    give_away(app.directory("app"))
    options = ["--config", str(app.folder / "config"), "--results", str(app.folder / "results")]
    done = subprocess.run(
        [*ORDINARY, sys.executable, "-m", "retention", "finish", *options, str(app.root)],
        cwd=REPO,
        env={"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Permission denied" in done.stdout
    assert "make the user that runs this the owner of the files (fsGroup of the pod)" in done.stdout
