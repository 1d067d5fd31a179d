"""A drill runs code of a database's owner: it reaches nothing of other databases, no log, and its own result alone."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import chart, container
from tests.lab.postgres import Server, scratch_folder, server_user
from tests.scripts.conftest import PASSWORD, REPO, drop_owner, wait_for
from tests.scripts.test_drill import DrillPod, shell_folder

pytestmark = pytest.mark.skipif(not container.possible(), reason="only root can make containers here")

MARK = "### code of the owner"

# Reads all that it can reach, writes that to wherever somebody may read it, and forges what it can.
PAYLOAD = r"""
exec 2>/dev/null
cd /run/cnpg-backup-results || exit 0
{
  echo "MARK ran as $(id -u)"
  find / -path /proc -prune -o -path /usr -prune -o -path /sys -prune -o -type f -print
  grep -rIl --binary-files=text -e 'SECRET' /backups /run /var /dev/shm /opt /tmp /mnt /root
  cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | tr '\000' '\n'
  ls -l /proc/1/root/backups /proc/1/cwd /proc/[0-9]*/fd
} >"loot-$1"
for out in /proc/1/fd/[0-9]* /dev/stdout /dev/stderr /dev/termination-log /root/termination-log; do
  [ -p "$out" ] || case $out in *termination*) ;; *) continue ;; esac
  echo "MARK $(head -c 300 "loot-$1")" >"$out"
done
echo "MARK"
for other in OTHERS; do
  for place in . .. ../.. ../$other ../databases/$other databases/$other /run/cnpg-backup-results/../$other; do
    printf 'database=%s\nbase=%s\nstate=proved\ntables=1\nrows=1\n' "${other%-*-*}" "$other" >"$place/$other.drill"
    printf 'database=%s\n' "$other" >"$place/$other.request"
  done
  ln -s "$other.drill" "EVIL.drill"
done
mkdir -p closed/closed && echo kept >closed/closed/file && chmod 000 closed/closed closed
cp "loot-$1" /dev/shm/
(trap '' HUP TERM; setsid sleep 300) >/dev/null &
"""

ATTACK = r"""
CREATE FUNCTION attack(t text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
  IF NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN RETURN true; END IF;
  IF current_setting('unix_socket_directories') = '/run/cnpg-backup' THEN
    EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', 'sh /var/lib/cnpg-backup-drill/payload ' || t);
  END IF;
  RETURN true;
END $$;
CREATE FUNCTION seems_harmless(t text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
  PERFORM public.attack(t);
  RETURN t;
END $$;
"""

VARIANTS = {
    "check": "CREATE TABLE c (v text CHECK (attack(v))); INSERT INTO c VALUES ('check')",
    "domain": "CREATE DOMAIN d AS text CHECK (attack(VALUE)); CREATE TABLE o (v d); INSERT INTO o VALUES ('domain')",
    "index": "CREATE TABLE i (v text); INSERT INTO i VALUES ('x'); CREATE INDEX ON i ((v || seems_harmless('index')))",
    "generated": "CREATE TABLE g (v text, g text GENERATED ALWAYS AS (seems_harmless(v)) STORED);"
    "INSERT INTO g VALUES ('generated')",
    "trigger": "CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS "
    "'BEGIN PERFORM public.attack(''trigger''); END'",
    "extension": "RESET ROLE; CREATE EVENT TRIGGER evil ON ddl_command_end EXECUTE FUNCTION e();"
    "CREATE EXTENSION hostile",
}

HOSTILE_SCRIPT = r"""
DO $$ BEGIN
  IF current_setting('unix_socket_directories') = '/run/cnpg-backup' THEN
    EXECUTE 'COPY (SELECT 1) TO PROGRAM ''sh /var/lib/cnpg-backup-drill/payload extension''';
  END IF;
END $$;
"""


class RenderedPod(DrillPod):
    """A pod whose container that restores has the mounts, variables and command of the chart's, and nothing else."""

    payload = ""

    def prepare(self) -> None:
        """Render the chart for the databases of this pod."""
        databases = [{"name": name, "cluster": "c"} for name in self.databases()]
        values = {"databases": databases, "podSecurityContext": {"runAsUser": server_user().uid}}
        manifests = chart.render(values)
        (drill,) = [one for one in manifests if one["metadata"]["name"] == "cnpg-backup-drill"]
        self.spec = drill["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        passwd = next(one["data"]["passwd"] for one in manifests if "passwd" in one.get("data", {}))
        (self.folder / "config" / "passwd").write_text(passwd)

    def rendered(self, name: str) -> dict[str, Any]:
        """The container that restores the archives of a database."""
        number = self.databases().index(name) + 1
        (found,) = [one for one in self.spec["initContainers"] if one["name"] == f"drill-{number}"]
        return dict(found)

    def start_drill_of(self, name: str, **environment: str) -> subprocess.Popen[str]:
        assert not environment
        (self.own("scratch", name) / "payload").write_text(self.payload)
        volumes = {key: self.folder / key for key in ("run", "results", "scratch", "config", "backups")}
        self.places = scratch_folder()
        image = (self.shell_path, self.server.bin)
        volumes["scripts"] = self.programs()
        return container.start(self.rendered(name), volumes, image, server_user(), self.places / "container")

    def programs(self) -> Path:
        """The volume of the programs."""
        folder = scratch_folder() / "scripts"
        folder.parent.chmod(0o755)
        subprocess.run(["cp", "-r", REPO / "scripts", folder], check=True)
        return folder

    def message(self) -> str:
        """The termination message of the container that ran last."""
        return (self.places / "container" / "termination-message").read_text()


@pytest.fixture(
    params=["busybox", pytest.param("dash", marks=pytest.mark.long), pytest.param("bash", marks=pytest.mark.long)]
)
def pod(request: pytest.FixtureRequest, server: Server) -> RenderedPod:
    folder, programs = shell_folder(request.param)
    return RenderedPod(folder, server, programs)


@pytest.fixture
def _hostile_extension(server: Server) -> Iterator[None]:
    shared = Path(server.installation.run("pg_config", "--sharedir").stdout.strip()) / "extension"
    control, script = shared / "hostile.control", shared / "hostile--1.sql"
    control.write_text("default_version = '1'\ntrusted = true\n")
    script.write_text(HOSTILE_SCRIPT)
    yield
    for path in (control, script):
        path.unlink()


Make = Callable[..., str]


@pytest.fixture
def make(pod: RenderedPod, server: Server) -> Iterator[Make]:
    """Make a database and configure its backup."""
    made: list[str] = []

    def make(prefix: str, sql: str) -> str:
        name = f"{prefix}{uuid.uuid4().hex[:6]}"
        made.append(name)
        server.create_role(name, PASSWORD)
        server.create_database(name, owner=name)
        server.psql(f"SET ROLE {name}; {sql}", name)
        pod.add(name, user=name, compression="none")
        return name

    yield make
    for name in made:
        server.psql("SET event_triggers = off; DROP EVENT TRIGGER IF EXISTS evil", name)
        drop_owner(server, name)


def recorded(archive: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(archive.with_suffix(".drill.json").read_text())
    return found


@pytest.mark.usefixtures("_hostile_extension")
def test_code_of_an_owner_in_a_drill_reaches_no_other_database_and_no_log(pod: RenderedPod, make: Make) -> None:
    """Three databases are drilled one after the other, that of the attacker between two others."""
    secret = "CREATE TABLE t AS SELECT 'SECRET' || n AS v FROM generate_series(1, 9) n"
    before, evil, after = make("a", secret), make("e", ATTACK + ";".join(VARIANTS.values())), make("z", secret)
    pod.prepare()
    pod.run()
    (first,), (own,), (last,) = (pod.archives(name) for name in (before, evil, after))
    # Nobody may say that this one is sound.
    damaged = bytearray(last.read_bytes())
    damaged[-1] ^= 1
    last.write_bytes(damaged)
    others = f"{first.stem} {last.stem}"
    pod.payload = PAYLOAD.replace("OTHERS", others).replace("EVIL", own.stem).replace("MARK", MARK)
    pod.choose_for_drill()
    log, messages = "", ""
    for name in (before, evil, after):
        log += pod.hand_over(name)
        process = pod.start_drill_of(name)
        printed = wait_for(process)
        log += printed
        messages += pod.message()
        assert process.returncode == 0, printed
        assert printed in {"", "drill.sh: no archive was handed over\n"}
        if name == evil:
            own_log = (pod.own("scratch", evil) / "drill.log").read_text()
            loot = {path.name: path.read_text() for path in pod.own("results", evil).glob("loot-*")}
    ran = {f"loot-{variant}" for variant in VARIANTS}
    assert loot.keys() == ran, f"not every attack ran: {own_log}"
    for found in loot.values():
        assert f"{MARK} ran as {server_user().uid}" in found
        assert f"/{own.name}" in found, "it did not see its own archive"
        # What it has forged itself is all that it sees with the name of another database.
        forged = {
            f"/run/cnpg-backup-results/{one.stem}.{kind}" for one in (first, last) for kind in ("drill", "request")
        }
        seen = [line for line in found.splitlines() if line not in forged]
        for word in (before, after, "SECRET", "/backups"):
            assert not [line for line in seen if word in line]
    log += pod.record_drill(1)
    for text in (log, messages, (pod.folder / "termination-log").read_text()):
        assert MARK not in text
        assert "SECRET" not in text
    assert (recorded(first)["result"], recorded(first)["rows"]) == ("proved", 9)
    assert recorded(last.with_suffix(".dump"))["result"] == "damaged"
    assert f"{last.name} damaged" in log
    assert recorded(own)["result"] in {"proved", "failed"}
    assert pod.pinned(after) == []


def test_code_of_an_owner_is_no_superuser_where_the_archive_needs_none(pod: RenderedPod, make: Make) -> None:
    """Extensions are made first; what an ordinary role can restore and read is restored and read by one."""
    ordinary = [sql for name, sql in VARIANTS.items() if name not in {"extension", "trigger"}]
    more = "CREATE EXTENSION hstore; CREATE TABLE h (v hstore); INSERT INTO h VALUES ('a=>1');"
    name = make("e", more + ATTACK + ";".join(ordinary))
    who = "SELECT NOT rolsuper AND NOT pg_has_role('pg_execute_server_program', 'USAGE') FROM pg_roles"
    (pod.folder / "config" / f"{name}.assertions").write_text(f"{who} WHERE rolname = session_user\n")
    pod.prepare()
    pod.run()
    (archive,) = pod.archives(name)
    pod.payload = PAYLOAD.replace("MARK", MARK)
    pod.choose_for_drill()
    pod.hand_over(name)
    printed = wait_for(pod.start_drill_of(name))
    own_log = (pod.own("scratch", name) / "drill.log").read_text()
    assert list(pod.own("results", name).glob("loot-*")) == [], own_log
    pod.record_drill()
    assert (recorded(archive)["result"], recorded(archive)["assertions"]) == ("proved", 1), own_log
    assert "only the superuser" not in own_log
    assert printed == ""
