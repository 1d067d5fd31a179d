"""What belongs to the database itself: settings, rights, comment, connection limit, encoding and locale."""
# ruff: noqa: F811

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.lab.postgres import Server, identifier
from tests.scripts.conftest import REPO
from tests.scripts.test_in_place import Make, Place, make, shell  # noqa: F401 # fixtures

_SECRET = "s3cret"
_SETTINGS = rf"""
ALTER DATABASE {{name}} SET search_path = app, public;
ALTER DATABASE {{name}} SET app.secret = E'{_SECRET};\n''quoted'' \\ "x"';
ALTER DATABASE {{name}} SET log_statement = 'ddl';
ALTER ROLE {{name}} IN DATABASE {{name}} SET work_mem = '5MB';
ALTER ROLE "{{name}} gone" IN DATABASE {{name}} SET work_mem = '6MB';
ALTER ROLE {{name}} IN DATABASE {{name}} SET timezone = 'Asia/Tokyo';
COMMENT ON DATABASE {{name}} IS E'two\nlines; ''quoted'' ON DATABASE x';
REVOKE TEMP ON DATABASE {{name}} FROM PUBLIC;
GRANT CREATE, CONNECT ON DATABASE {{name}} TO backup WITH GRANT OPTION;
ALTER DATABASE {{name}} CONNECTION LIMIT 50;
"""


def state(server: Server, name: str) -> set[str]:
    """Everything that is set for a database, a setting of a role or of none a line."""
    queries = (
        "SELECT 'right', a.* FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) a "
        "WHERE datname = {}",
        "SELECT 'comment', md5(shobj_description(oid, 'pg_database')), datconnlimit, datistemplate FROM pg_database "
        "WHERE datname = {}",
        "SELECT setrole::regrole, md5(line), split_part(line, '=', 1) FROM pg_db_role_setting s "
        "JOIN pg_database d ON d.oid = setdatabase, unnest(setconfig) line WHERE datname = {}",
    )
    quoted = "'" + name.replace("'", "''") + "'"
    return {"|".join(row) for query in queries for row in server.sql(query.format(quoted))}


@pytest.fixture
def place(make: Make) -> Place:
    """A database with settings of all kinds; a role that has one is gone by the time of the restore."""
    place: Place = make("CREATE TABLE t (id int)")
    server = place.server
    server.psql(f'CREATE ROLE "{place.name} gone"; ' + _SETTINGS.format(name=place.name))
    place.back_up()
    server.psql(f'DROP ROLE "{place.name} gone"')
    return place


def spoil(place: Place) -> None:
    """Change what the archive has, and add what it does not have."""
    name = place.name
    place.server.psql(
        f"ALTER DATABASE {name} RESET search_path; ALTER DATABASE {name} SET maintenance_work_mem = '70MB';"
        f"ALTER DATABASE {name} SET app.newer = 'x'; GRANT TEMP ON DATABASE {name} TO backup;"
        f"COMMENT ON DATABASE {name} IS 'other'; ALTER DATABASE {name} CONNECTION LIMIT 7;"
        f"ALTER ROLE {name} IN DATABASE {name} SET work_mem = '9MB'"
    )


@pytest.mark.parametrize("into", ["", 'other "name" of='])
def test_all_settings_but_those_of_a_missing_role_come_back_beside(place: Place, into: str) -> None:
    good = state(place.server, place.name)
    into = place.name + into if into else ""
    spoil(place)
    log = place.restore(superuser=True, RESTORE_WAY="beside", RESTORE_INTO=into)
    assert state(place.server, into or place.name) == good
    named = f'ALTER ROLE "{place.name} gone" IN DATABASE … SET work_mem: role "{place.name} gone" does not exist'
    assert [line for line in log.splitlines() if "warning" in line] == [
        f"{place.name}: warning: will not come back: {named}",
        f"{place.name}: warning: not restored for '{into or place.name}': {named}",
    ]
    assert log.index("will not come back") < log.index("comparing with the archive")
    assert ("which keeps them: app.newer, maintenance_work_mem\n" in log) == (not into)
    assert _SECRET not in log


def test_database_is_as_the_archive_says_in_place_and_what_goes_is_said(place: Place) -> None:
    good = state(place.server, place.name)
    spoil(place)
    log = place.restore(superuser=True)
    newer = state(place.server, place.name) - good
    assert good - state(place.server, place.name) == set()
    assert {line.split("|")[-1] for line in newer} == {"app.newer"}, "its value is nowhere else"
    assert "so they were removed: maintenance_work_mem (was: 70MB), TEMPORARY of backup" in log
    assert "which stay: app.newer" in log
    assert _SECRET not in log


def test_owner_restores_what_it_may_in_place_and_the_rest_is_named_without_its_value(place: Place) -> None:
    good = state(place.server, place.name)
    server, name = place.server, place.name
    server.psql(f"ALTER DATABASE {name} RESET ALL; ALTER ROLE {name} IN DATABASE {name} RESET ALL; ")
    server.psql(f"GRANT TEMP ON DATABASE {name} TO PUBLIC; COMMENT ON DATABASE {name} IS NULL")
    log = place.restore()
    lost = {line.split("|")[-1] for line in good - state(server, name)}
    assert lost == {"app.secret", "log_statement"}
    for setting in ('"app.secret"', "log_statement"):
        assert f"ALTER DATABASE … SET {setting}: permission denied to set parameter" in log
    assert _SECRET not in log


@pytest.mark.parametrize(
    ("way", "new"),
    [("beside", False), ("beside", True), ("in-place", False)],
    ids=["beside", "into another name", "in place"],
)
def test_owner_learns_before_anything_changes_what_only_a_superuser_can_restore(
    place: Place, way: str, new: bool
) -> None:
    """And the statements that are printed restore it."""
    server, name = place.server, place.name
    server.psql(f"ALTER ROLE {name} CREATEDB; ALTER ROLE backup IN DATABASE {name} SET work_mem = '3MB';"
                f"ALTER ROLE backup IN DATABASE {name} SET log_statement = 'mod';"
                f"ALTER ROLE backup IN DATABASE {name} SET app.key = '{_SECRET}'")  # fmt: skip
    place.back_up()
    good = state(server, name)
    server.psql(f"ALTER DATABASE {name} RESET ALL; ALTER ROLE backup IN DATABASE {name} SET work_mem = '4MB'")
    into = f"{name} of ='x\"" if new else ""
    before = state(server, name)
    for dry in ("yes", "no"):
        log = place.restore(RESTORE_DRY_RUN=dry, RESTORE_WAY=way, RESTORE_INTO=into)
        fate = "stays as it is now" if way == "in-place" else "will not come back"
        named = re.findall(f"warning: {fate}: (.*?): permission denied .*?; after the restore, as superuser: (.*)", log)
        assert sorted(what for what, _ in named) == [
            'ALTER DATABASE … SET "app.secret"',
            "ALTER DATABASE … SET log_statement",
            *(['ALTER ROLE backup IN DATABASE … SET "app.key"'] if way == "beside" else []),
            *(["ALTER ROLE backup IN DATABASE … SET log_statement"] if way == "beside" else []),
            "ALTER ROLE backup IN DATABASE … SET work_mem",
        ]
        assert _SECRET not in log
        if dry == "yes":
            assert state(server, name) == before
    for what, statement in named:
        if "app." in what:
            assert statement.endswith(" TO …; (its value is only in the archive, since it may be a secret)")
        else:
            server.psql(statement)
    lost = {line.split("|")[-1] for line in good - state(server, into or name)}
    assert lost == ({"app.secret", "app.key"} if way == "beside" else {"app.secret"})


@pytest.mark.parametrize("way", ["beside", "in-place"])
def test_value_that_the_server_does_not_accept_is_not_printed(place: Place, way: str) -> None:
    body = place.archive.read_bytes()
    assert b"work_mem TO '5MB'" in body
    place.archive.write_bytes(body.replace(b"work_mem TO '5MB'", b"work_mem TO 's3c'"))
    log = place.restore(superuser=True, RESTORE_WAY=way)
    assert f"ALTER ROLE {place.name} IN DATABASE … SET work_mem: the server does not accept it (SQLSTATE 22023)" in log
    assert "s3c" not in log


def test_settings_come_back_into_a_new_empty_database_of_the_owner(place: Place) -> None:
    server, name = place.server, place.name
    server.drop_database(name)
    server.create_database(name, owner=name)
    place.restore()
    settings = "SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase WHERE datname = "
    assert server.value(f"{settings}'{name}'") == "2"
    assert server.value(f"SELECT setconfig FROM pg_db_role_setting WHERE setrole = '{name}'::regrole").startswith(
        "{work"
    )


def run_reader(shell_path: str, reader: str, sql: str, folder: Path) -> list[str]:
    """The lines that a reader of pg_restore's statements prints."""
    script = f"""
      . {REPO}/scripts/lib.sh; . {REPO}/scripts/archive.sh; . {REPO}/scripts/settings.sh
      awk -v apostrophe="'" -v parts="$1" "$role_reader$statement_reader{reader}"
    """
    done = subprocess.run(
        ["sh", "-euc", script, "sh", str(folder)], executable=f"{shell_path}/sh", input=sql, text=True,
        capture_output=True, check=True, env={"PATH": f"{shell_path}:/usr/bin:/bin"},
    )  # fmt: skip
    return done.stdout.split("\n")


_RULES = "ICU_RULES = '&a < b; ''c'' = d\n &V << w TABLESPACE = x'"
_CREATED = {
    "libc": ("ENCODING = 'UTF8' LOCALE_PROVIDER = libc LOCALE = 'C.UTF-8'", "", ""),
    "different collation": ("ENCODING = 'LATIN1' LC_COLLATE = 'C' LC_CTYPE = 'de_DE'", "", ""),
    "ICU": ("ENCODING = 'UTF8' LOCALE_PROVIDER = icu LOCALE = 'C' ICU_LOCALE = 'de-u-co-phonebk'", "", ""),
    "ICU rules": (f"ENCODING = 'UTF8' LOCALE_PROVIDER = icu LOCALE = 'C' ICU_LOCALE = 'und' {_RULES}", "", ""),
    "builtin": ("ENCODING = 'UTF8' LOCALE_PROVIDER = builtin LOCALE = 'C' BUILTIN_LOCALE = 'PG_UNICODE_FAST'", "", ""),
    "tablespace": ("ENCODING = 'UTF8' LOCALE = 'C'", 'TABLESPACE = "My ""Space"', 'My "Space'),
}


@pytest.mark.parametrize("shell", ["busybox", "dash"], indirect=True)
@pytest.mark.parametrize("kind", _CREATED)
@pytest.mark.parametrize("name", ["app", '"My ""odd"" WITH = x; "'])
@pytest.mark.sample(8)
def test_encoding_and_locale_are_read_in_all_their_forms(shell: str, kind: str, name: str, tmp_path: Path) -> None:
    options, more, tablespace = _CREATED[kind]
    sql = f"SET x = on;\n\nCREATE DATABASE {name} WITH TEMPLATE = template0 {options}"
    sql += f" {more}" if more else ""
    printed = run_reader(shell, "$creation_reader", f"{sql};\n\n\nALTER DATABASE {name} OWNER TO r;\n", tmp_path)
    assert printed[:2] == [tablespace, ""]
    assert "\n".join(printed[2:]).strip() == options


@pytest.mark.parametrize(
    ("statement", "unread"),
    [
        (
            "CREATE DATABASE app WITH TEMPLATE = template0 ENCODING = 'UTF8' NEW_OPTION = 'x' LOCALE = 'C';",
            "NEW_OPTION",
        ),
        ("CREATE DATABASE app WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE ~ 'C';", "from \"LOCALE ~ 'C'\" on"),
        ("CREATE DATABASE app ENCODING = 'UTF8';", "unknown form"),
        ("", "does not name them"),
    ],
)
def test_what_is_not_understood_of_them_is_said(shell: str, statement: str, unread: str, tmp_path: Path) -> None:
    assert unread in run_reader(shell, "$creation_reader", f"{statement}\n", tmp_path)[1]


@pytest.mark.parametrize(
    "statement",
    ["ALTER DATABASE app REFRESH COLLATION VERSION;", "ALTER SYSTEM SET x = 's3cret';", "DROP DATABASE app;"],
)
def test_unknown_statement_about_the_database_is_not_run_but_named(
    shell: str,
    statement: str,
    tmp_path: Path,
) -> None:
    run_reader(shell, "$settings_reader", f"ALTER DATABASE app SET a TO 'b';\n{statement}\n", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.name", "1.sql", "inside", "keys", "unknown"]
    assert (tmp_path / "unknown").read_text() == f"{statement[:30]} …\n"


@pytest.mark.parametrize(
    "options", ["LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'", "ENCODING 'LATIN1' LOCALE 'C'"]
)
def test_lost_database_gets_its_own_encoding_and_locale(make: Make, options: str) -> None:
    place: Place = make("SELECT 1")
    server = place.server
    query = "SELECT encoding, datlocprovider, datcollate, datctype, datlocale FROM pg_database "
    query += f"WHERE datname = '{place.name}'"
    server.drop_database(place.name)
    server.psql(f"CREATE DATABASE {place.name} OWNER {identifier(place.name)} TEMPLATE template0 {options}")
    place.back_up()
    was = server.sql(query)
    server.drop_database(place.name)
    log = place.restore(superuser=True, RESTORE_WAY="auto")
    assert server.sql(query) == was
    assert "warning" not in log
