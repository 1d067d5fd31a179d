"""A login by a URI: the two values in it that count, and what is refused without a word of it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.lab.postgres import Server, identifier
from tests.scripts.conftest import PASSWORD, Pod, in_both_shells
from tests.scripts.test_in_place import Make, make  # noqa: F401 # a fixture
from tests.scripts.test_restore_script import SUPERUSER_PASSWORD

_BAD = {
    "another-scheme": "jdbc:postgresql://h:5432/app?user=app&password=sEsame",
    "no-scheme": "app:sEsame@h/app",
    "no-login": "postgresql://sEsame.example/app",
    "no-password": "postgresql://sEsame@h:5432/app",
    "login-as-parameters": "postgresql:///app?user=sEsame&password=sEsame",
    "an-at-in-the-password": "postgresql://app:sEs@me@h/app",
    "a-slash-in-the-password": "postgresql://app:sEs/ame@h/app",
    "half-an-escape": "postgresql://app:sEsame%4@h/app",
    "escape-of-letters": "postgresql://app:sEsame%zz@h/app",
    "bare-percent": "postgresql://app:100%sEsame@h/app",
    "encoded-nul": "postgresql://app:sEsame%00@h/app",
    "encoded-line-end": "postgresql://app:sEsame%0A@h/app",
    "encoded-delete": "postgresql://sEsame%7f:x@h/app",
    "blank": "postgresql://app:sEsa me@h/app",
    "two-lines": "postgresql://app:sEsame@h/app\npostgresql://app:sEsame@h/app",
    "carriage-return": "postgresql://app:sEsame@h/app\r\n",
}
_EMPTY = {"no user name": "postgresql://:sEsame@h/app", "no password": "postgresql://sEsame:@h/app"}


def by_uri(pod: Pod, name: str, uri: str, prefix: str = "") -> None:
    """Replace name and password of a database's login by a URI."""
    secret = pod.folder / "credentials" / name
    for key in ("username", "password"):
        (secret / f"{prefix}{key}").unlink(missing_ok=True)
    (secret / f"{prefix}uri").write_text(uri)


@pytest.fixture
def role(server: Server) -> Iterator[tuple[str, str]]:
    """A role that may read everything, whose name and password need every kind of escape."""
    name, password = f"b:ü/@ {uuid.uuid4().hex[:6]}", PASSWORD + "/@%41+?#&=;$`é€\\n"
    server.create_role(name, password, "LOGIN IN ROLE pg_read_all_data")
    yield name, password
    server.psql(f"DROP ROLE {identifier(name)}")


@in_both_shells
def test_name_and_password_come_from_the_uri_and_nothing_else_does(pod: Pod, role: tuple[str, str]) -> None:
    name, password = role
    login = f"{quote(name, safe='')}:{quote(password, safe='')}"
    uris = {
        "cloudnativepg": f"postgresql://{login}@elsewhere.example:1/other?sslmode=disable&x=a@b",
        "short-scheme": f"postgres://{login}@",
        "driver-in-lower-hex": "postgresql+asyncpg://" + "".join(
            f"%{byte:02x}" for byte in name.encode()) + ":" + quote(password, safe="") + "@[::1]/x\n",
        "not-all-is-encoded": f"postgresql://{quote(name, safe='')}:" + quote(password, safe="+?&=;$`#'") + "@h?a=b@c",
    }  # fmt: skip
    for database, uri in uris.items():
        pod.add(database, dbname="postgres", allow_empty="true")
        by_uri(pod, database, uri)
    log = pod.dump()
    for database in uris:
        assert pod.result(database)["state"] == "staged", log
    assert password not in log
    # A username of the values is who logs in, with the password of the URI.
    pod.add("named", dbname="postgres", allow_empty="true", username=name)
    by_uri(pod, "named", f"postgresql://nobody:{quote(password, safe='')}@h")
    pod.dump()
    assert pod.result("named")["state"] == "staged"


@in_both_shells
def test_a_malformed_uri_fails_its_own_database_and_no_part_of_it_is_shown(pod: Pod) -> None:
    for name, uri in _BAD.items():
        pod.add(name, dbname="postgres", wait_timeout="0")
        by_uri(pod, name, uri)
    for name, uri in (("empty-user", _EMPTY["no user name"]), ("empty-password", _EMPTY["no password"])):
        pod.add(name, dbname="postgres", wait_timeout="0")
        by_uri(pod, name, uri)
    pod.parallel = 4
    log = pod.dump()
    for name in _BAD:
        result = pod.result(name)
        assert result["state"] == "failed"
        assert result["error"].startswith("the URI of the login "), (name, result["error"])
        assert "%40 stands for @" in result["remedy"]
    assert pod.result("empty-user")["error"] == "no user name"
    assert pod.result("empty-password")["error"] == "no password"
    written = log + "".join(path.read_text() for path in (pod.folder / "results").rglob("*") if path.is_file())
    written += "".join(path.read_text() for path in pod.root.rglob("*") if path.is_file())
    assert "sEs" not in written


def test_a_restore_logs_in_by_uris(make: Make) -> None:  # noqa: F811
    place = make("CREATE TABLE t AS SELECT 1 AS a")
    by_uri(place.pod, place.name, f"postgresql://{place.name}:wrong@h/x", "owner-")
    assert "password authentication failed" in place.restore(1), "the owner's URI was not read"
    by_uri(place.pod, place.name, f"postgresql://postgres:{quote(SUPERUSER_PASSWORD, safe='')}@h/x", "superuser-")
    place.restore(RESTORE_WAY="beside")
    assert place.sql("SELECT a FROM t").strip() == "1"
