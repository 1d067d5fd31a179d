"""A view that refers to itself, which no archive brings back, is named before anything changes; no other view is."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.postgres import Server
from tests.matrix.site import differences
from tests.scripts.conftest import REPO, Pod
from tests.scripts.test_check import check, row
from tests.scripts.test_foresee import name, run  # noqa: F401 # a fixture
from tests.scripts.test_in_place import Make, make  # noqa: F401 # a fixture
from tests.scripts.unrestorable import group

ITSELF, OTHERS = group("itself"), group("others")
ONE = ITSELF["a view of itself"]
FOUND = {
    "a name with a quote, a line end and a semicolon, in a schema with a blank": '"My S"."it\'s ""1 ;"',
    "names that are keywords": '"select"."from"',
}
READ = """
set -eu
LC_ALL=C; export LC_ALL
for part in lib archive views; do . "$1/scripts/$part.sh"; done
facts=$2/facts stderr=$2/stderr
pg_restore -l "$2/archive" | views_of - >"$2/list"
find_own_views "$2/list" "$2/archive"
cat "$facts"
"""


@pytest.fixture
def shell(request: pytest.FixtureRequest, shell_paths: dict[str, str]) -> str:
    return shell_paths[getattr(request, "param", "busybox")]


@pytest.fixture
def other(server: Server) -> Iterator[str]:
    """The name of a database that does not exist yet."""
    yield "views elsewhere"
    server.psql('DROP DATABASE IF EXISTS "views elsewhere"')


def found(server: Server, dbname: str, folder: Path, shells: dict[str, str], *arguments: str) -> list[str]:
    """The views of an archive that are found to refer to themselves, by each shell the same."""
    done = run(server, "pg_dump", "-Fc", "-f", str(folder / "archive"), *arguments, dbname)
    assert done.returncode == 0, done.stderr
    answers = []
    for path in shells.values():
        read = subprocess.run(
            ["sh", "-c", READ, "read", str(REPO), str(folder)],
            env={"PATH": f"{path}:{server.bin}:{os.defpath}"}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (read.returncode, read.stderr) == (0, "")
        answers.append(read.stdout.splitlines())
    assert all(answer == answers[0] for answer in answers), answers
    return answers[0]


def restores(server: Server, dbname: str, folder: Path) -> bool:
    """Whether plain pg_restore can restore the archive."""
    server.create_database(f"{dbname}_copy")
    done = run(server, "pg_restore", "--exit-on-error", "-d", f"{dbname}_copy", str(folder / "archive"))
    assert done.returncode == 0 or "does not exist" in done.stderr, done.stderr
    return done.returncode == 0


@pytest.mark.parametrize("kind", ITSELF)
def test_view_that_refers_to_itself_is_found(
    server: Server, name: str, kind: str, tmp_path: Path, shell_paths: dict[str, str]  # noqa: F811
) -> None:  # fmt: skip
    server.psql(ITSELF[kind], name)
    quoted = found(server, name, tmp_path, shell_paths, "--quote-all-identifiers")
    plain = found(server, name, tmp_path, shell_paths)
    assert plain == [FOUND.get(kind, "public.itself")]
    assert quoted == [FOUND.get(kind, '"public"."itself"')]
    assert not restores(server, name, tmp_path), "it can be restored: this case is wrong"


@pytest.mark.parametrize("kind", OTHERS)
def test_view_that_comes_back_is_never_taken_for_one(
    server: Server, name: str, kind: str, tmp_path: Path, shell_paths: dict[str, str]  # noqa: F811
) -> None:  # fmt: skip
    server.psql(OTHERS[kind], name)
    assert found(server, name, tmp_path, shell_paths, "--quote-all-identifiers") == []
    assert found(server, name, tmp_path, shell_paths) == []
    assert restores(server, name, tmp_path), "it cannot be restored: this case is wrong"


_ALL_OF_POSTGRESQL = """
CREATE SCHEMA one; CREATE SCHEMA two;
DO $$ DECLARE v record; BEGIN
  FOR v IN SELECT * FROM pg_views WHERE schemaname IN ('pg_catalog', 'information_schema') LOOP
    PERFORM set_config('search_path', v.schemaname, true);
    CONTINUE WHEN v.definition ~ 'anyarray|pg_statistic|pg_get_publication';
    EXECUTE format('CREATE VIEW one.%I AS %s', v.viewname, v.definition);
    EXECUTE format('CREATE VIEW two.%I AS SELECT t.*, u.n FROM one.%1$I t, (SELECT count(*) AS n FROM one.%1$I) u',
      v.viewname);
  END LOOP;
END $$
"""


def test_no_view_of_postgresql_itself_is_taken_for_one(
    server: Server, name: str, tmp_path: Path, shell_paths: dict[str, str]  # noqa: F811
) -> None:  # fmt: skip
    server.psql(_ALL_OF_POSTGRESQL, name)
    assert int(server.value("SELECT count(*) FROM pg_views WHERE schemaname = 'one'", name)) > 80
    assert found(server, name, tmp_path, shell_paths) == []


@pytest.mark.parametrize("dry", ["no", "yes"])
@pytest.mark.parametrize(
    ("superuser", "way", "into"),
    [(True, "beside", False), (True, "in-place", False), (False, "in-place", False), (True, "auto", True)],
    ids=["beside", "in place", "in place as the owner", "into another name"],
)
def test_restore_refuses_such_a_view_before_it_changes_anything(
    make: Make, other: str, superuser: bool, way: str, into: bool, dry: str  # noqa: F811
) -> None:  # fmt: skip
    place = make(f"CREATE TABLE t (id int); {ONE} CREATE VIEW also AS SELECT 1 AS a;"
                 "CREATE OR REPLACE VIEW also AS SELECT a FROM also")  # fmt: skip
    good, databases = place.plain(), place.server.sql("SELECT datname FROM pg_database ORDER BY 1")
    options = {"RESTORE_INTO": other} if into else {}
    log = place.restore(1, superuser=superuser, RESTORE_WAY=way, RESTORE_DRY_RUN=dry, **options)
    assert "FAILED: view public.also (and 1 more) refers to itself, and PostgreSQL cannot create such a view" in log
    assert "remedy: in the source, replace or drop it, then back up again; tonight: " in log
    assert ("tonight: the superuser's Secret (spec.enableSuperuserAccess" in log) == (not superuser)
    assert f"nothing was changed: '{other if into else place.name}' is as it was" in log
    assert place.plain() == good
    assert place.server.sql("SELECT datname FROM pg_database ORDER BY 1") == databases


def test_remedy_for_such_a_view_restores_all_else(make: Make, other: str) -> None:  # noqa: F811
    place = make(f"CREATE TABLE t AS SELECT 7 AS id; {ONE} CREATE VIEW uses AS SELECT id FROM t")
    good = place.plain()
    log = place.restore(1, superuser=True, RESTORE_WAY="auto", RESTORE_INTO=other, RESTORE_ON_ERROR="keep")
    assert re.findall("not restored: (VIEW public itself): ERROR", log) == ["VIEW public itself"]
    assert "refers to itself" not in log
    lacking = differences(good, type(place)(place.pod, other).plain())
    assert lacking
    assert all(line.startswith("-") and ("itself" in line or "t.id" not in line) for line in lacking), lacking
    assert place.server.value("SELECT id FROM uses", other) == "7"


def test_dump_and_check_warn_of_such_a_view_and_of_the_restore(pod: Pod, server: Server, name: str) -> None:  # noqa: F811
    server.psql(f"CREATE TABLE t (id int); {ONE} {OTHERS['of itself, and another one of it']}", name)
    pod.add(name)
    pod.run()
    metadata = pod.metadata(pod.archives(name)[0])
    assert metadata["warnings"] == [
        "view public.itself refers to itself, so no restore of this archive can create it: "
        "in the source, replace or drop it, then back up again"
    ]
    told = json.loads((pod.root / "status.json").read_text())["databases"][name]["restore"]
    assert told["method"] == "none"
    assert told["obstacles"][-1] == "view public.itself refers to itself"
    assert told["remedies"] == ["in the source, replace or drop it, then back up again"]
    table = check(pod, 0)
    assert "view public.itself refers to itself" in row(table, name)[8]
    assert re.search(f"\n{name}: a restore as .* would be refused: .*view public.itself refers to itself; in", table)
    assert not list((pod.folder / "results").glob(".*views*"))
    server.psql("DROP VIEW itself", name)
    pod.run()
    assert pod.metadata(pod.archives(name)[1])["warnings"] == []
    assert "itself" not in check(pod, 0)


def test_dump_is_good_if_its_views_cannot_be_looked_at(pod: Pod, server: Server, name: str, tmp_path: Path) -> None:  # noqa: F811
    server.psql(f"CREATE TABLE t (id int); {ONE}", name)
    programs = tmp_path / "programs"
    programs.mkdir()
    restore = programs / "pg_restore"
    restore.write_text(f'#!/bin/sh\ncase "$*" in *.views.partial*) exit 3 ;; esac\nexec {server.bin}/pg_restore "$@"\n')
    restore.chmod(0o755)
    pod.add(name)
    log = pod.dump(PATH=f"{programs}:{pod.environment()['PATH']}")
    pod.finish(expect=0)
    assert "whether a view refers to itself is not known" in log
    assert pod.metadata(pod.archives(name)[0])["warnings"] == []
    assert not list((pod.root / name).glob(".*partial"))
