"""Compute the cells of one row: back up once, then restore in every way, each from the same state of the database.

A cell is `identical`, or `refused: …` with what the restore names before anything has changed, or `named: …`: all but
this is identical, and the restore named it before anything had changed, with the statement that brings it back. All
else raises CellError: then the cell keeps no promise.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tests.lab.postgres import PostgresError
from tests.matrix.kind import COLUMNS, Column, Kind
from tests.matrix.site import ASIDE, NAME, Site, differences, parted, shortened, without_owners

IDENTICAL, REFUSED, NAMED, WRONG = "identical", "refused: ", "named: ", "wrong: "
_USELESS = ("look for the cause in the server's log", "restore it by hand to find out why")


class CellError(AssertionError):
    """A cell that keeps no promise, and why."""


def require(condition: object, why: str) -> None:
    if not condition:
        raise CellError(why)


def equal(what: str, good: list[str] | set[str], found: list[str] | set[str]) -> None:
    """Raise CellError with the first lines that differ."""
    if isinstance(good, set):
        good, found = sorted(good), sorted(found)
    lines = differences(list(good), list(found))
    require(not lines, f"{what} differs: " + " / ".join(lines[:6]))


@dataclass
class Good:
    """What must come back: the database as it was when it was backed up."""

    plain: list[str]
    rights: set[str]
    views: dict[str, object]
    bare: list[str] = field(default_factory=list)
    bare_rights: set[str] = field(default_factory=set)


@dataclass
class Row:
    """The cells of one kind of database.

    Attributes:
        site: where they are computed.
        kind: the database.
        meddle: SQL of the superuser, run after each restore, to see that it shows.
    """

    site: Site
    kind: Kind
    meddle: str = ""

    def __post_init__(self) -> None:
        self.site.build(self.kind)
        self.good = self._look()
        self.site.configure(self.kind)
        self.site.pod.run()
        (self.archive,) = self.site.pod.archives(NAME)
        self._restore_barely()

    def _look(self, dbname: str = NAME) -> Good:
        site = self.site
        return Good(site.plain(dbname), site.rights(dbname), site.views(dbname))

    def _restore_barely(self) -> None:
        """The archive by a bare pg_restore, for expressions that the server writes in other words."""
        server = self.site.server
        server.psql(f"CREATE DATABASE bare OWNER {NAME} TEMPLATE template0")
        done = subprocess.run(
            [str(server.bin / "pg_restore"), "--exit-on-error", "-d", "bare", str(self.archive)],
            env={**server.superuser_env, "PATH": "/usr/bin:/bin"}, capture_output=True, check=False,
        )  # fmt: skip
        if done.returncode == 0:
            self.good.bare, self.good.bare_rights = parted(self.site.plain("bare"))[0], self.site.rights("bare")
        self.site.clear()

    def cell(self, column: Column) -> str:
        """What this way of restoring gives.

        Raises:
            CellError: it keeps no promise.
        """
        ways: dict[Column, Callable[[], str]] = {
            "beside, superuser": lambda: self._beside(True),
            "beside, owner": lambda: self._beside(False),
            "in place, superuser": lambda: self._in_place(True),
            "in place, owner": lambda: self._in_place(False),
            "into another name": self._into_another_name,
            "drill": self._drill,
        }
        if column != "drill":
            self.site.build(self.kind)
            equal("the kind itself", self.good.plain, self.site.plain(NAME))
            self.site.change(self.kind)
        return ways[column]()

    def cells(self, columns: Iterable[Column] = COLUMNS) -> dict[Column, str]:
        """All cells, those that keep no promise as `wrong: …`."""
        found: dict[Column, str] = {}
        for column in columns:
            try:
                found[column] = self.cell(column)
            except (CellError, PostgresError) as error:
                found[column] = WRONG + " ".join(str(error).split())
        return found

    # The five ways of a restore.

    def _beside(self, superuser: bool) -> str:
        if not superuser:
            self.site.server.psql(f"ALTER ROLE {NAME} CREATEDB")
        before = self.site.plain()
        log = self._restore(superuser, RESTORE_REPLACE="yes", RESTORE_WAY="beside")
        if log.startswith(REFUSED):
            return log
        (old,) = self.site.databases() - {NAME}
        equal("the old database", before, self.site.plain(old))
        require(f'DROP DATABASE "{old}"' in log, f"the log does not say how {old} is dropped")
        return self._compare(NAME, superuser, log)

    def _into_another_name(self) -> str:
        before = self.site.plain(NAME)
        log = self._restore(True, RESTORE_INTO="shop_copy")
        if log.startswith(REFUSED):
            return log
        require(self.site.databases() == {NAME, "shop_copy"}, f"databases: {self.site.databases()}")
        equal("the database itself", before, self.site.plain(NAME))
        return self._compare("shop_copy", True, log)

    def _in_place(self, superuser: bool) -> str:
        there, rows = {shortened(line) for line in self.site.inventory()}, self.site.rows()
        before = self._look()
        log = self._restore(superuser, RESTORE_REPLACE="yes", RESTORE_WAY="in-place")
        if log.startswith(REFUSED):
            return log
        require(self.site.databases() == {NAME}, f"databases: {self.site.databases()}")
        self._set_aside_whole(there, {shortened(name): content for name, content in rows.items()}, log)
        for statement in re.findall("no longer need it: (.*)", log):
            role = "" if superuser else f"SET SESSION AUTHORIZATION {NAME};"
            self.site.server.psql(f"SET default_transaction_read_only = off; {role} {statement}", NAME)
        require(not re.search(ASIDE, "\n".join(self.site.inventory())), "the printed statement does not drop all")
        return self._compare(NAME, superuser, log, before)

    def _set_aside_whole(self, there: set[str], rows: dict[str, object], log: str) -> None:
        """Each object that was there is there still: set aside, or left where it was, which the log says then."""
        now = self.site.inventory()
        aside = {re.sub(ASIDE, "", line) for line in now if re.search(ASIDE, line)}
        # A name that needs quotes may no longer need them with its suffix.
        aside = {line.replace('"', "") for line in aside}
        lost = {line for line in there if line.replace('"', "") not in aside}
        left = {line for line in lost if line in now and line.split()[-1].strip('"') in log}
        require(lost == left, f"not set aside: {sorted(lost - left)[:5]}")
        kept = {
            re.sub(ASIDE, "", name): content for name, content in self.site.rows().items() if re.search(ASIDE, name)
        }
        changed = sorted(name for name in rows if rows[name] != kept.get(name))
        require(not changed, f"rows of what was set aside differ: {changed[:5]}")

    def _drill(self) -> str:
        proved, log, found = self.site.drill()
        if not proved:
            failure = (re.findall(r"FAILED: \S+: (.*)", log) or [log])[0]
            refusal = self.cell("into another name")
            require(
                refusal.startswith(REFUSED) and failure.startswith(refusal.removeprefix(REFUSED) + "; "),
                f"the drill failed: {failure}",
            )
            return refusal
        if _without_places(found) != _without_places(self.good.bare):
            equal("the drilled database", _without_places(parted(self.good.plain)[0]), _without_places(found))
        return IDENTICAL

    # What a restore must keep.

    def _restore(self, superuser: bool, **options: str) -> str:
        """The log of a restore, or `refused: …` if that is what it did, and changed nothing."""
        before, databases = self.site.plain(NAME), self.site.databases()
        roles = self.site.server.psql("SELECT rolname FROM pg_roles ORDER BY 1")
        code, log = self.site.restore(superuser, **options)
        for useless in _USELESS:
            require(useless not in log, f"useless remedy: {_failure(log)}")
        if code == 0 and self.meddle:
            self.site.server.psql(self.meddle, options.get("RESTORE_INTO", NAME))
        require(roles == self.site.server.psql("SELECT rolname FROM pg_roles ORDER BY 1"), "a role was made")
        if code == 0:
            return log
        require(code in (1, 3), f"exit code {code}: {log[-300:]}")
        failure = _failure(log)
        require(
            f"nothing was changed: '{options.get('RESTORE_INTO', NAME)}' is as it was" in log, f"fails late: {failure}"
        )
        equal("the database after a refusal", before, self.site.plain(NAME))
        require(self.site.databases() == databases, f"databases are left: {self.site.databases() - databases}")
        again, dry = self.site.restore(superuser, **options, RESTORE_DRY_RUN="yes")
        require(again == code and _failure(dry) == failure, f"fails late: {failure}")
        return REFUSED + _obstacle(failure)

    def _compare(self, dbname: str, superuser: bool, log: str, before: Good | None = None) -> str:
        """An owner's restore gives all to the owner, and rights of what it owns are no grant."""
        named = self._bring_back_what_was_named(dbname, log)
        found, good = self._look(dbname), self.good
        (inside, itself), (expected, database) = parted(found.plain), parted(good.plain)
        stays: list[str] = []
        if inside not in (expected, good.bare):
            if not superuser:
                inside, expected = without_owners(inside), without_owners(expected)
            if before:
                earlier = parted(before.plain)[0]
                inside, stays = without_newer(inside, expected, earlier if superuser else without_owners(earlier))
            equal("the database", expected, inside)
        equal("the database itself", database, itself)
        # What a bare pg_restore gives too is PostgreSQL's own: for example, no archive says that `public` is gone.
        differing = {
            line for line in found.rights ^ good.rights if (line in found.rights) != (line in good.bare_rights)
        }
        if not superuser:
            # Who owned something in the source and is not the restoring role has lost what goes with that.
            owners = set(re.findall(r"; Owner: (\w+)", "\n".join(good.plain)))
            differing = {
                line
                for line in differing
                if (role := line.split()[0]) != NAME and (line in found.rights or role not in owners)
            }
        if stays and before:
            differing -= before.rights & found.rights
        marked = [("+" if line in found.rights else "-") + line for line in sorted(differing)]
        require(not differing, f"a right differs: {' / '.join(marked[:6])}")
        require(found.views == good.views, f"materialized views differ: {sorted(found.views)} {sorted(good.views)}")
        if named:
            require(not stays, f"stays: {', '.join(stays)}")
            return NAMED + ", ".join(named)
        return IDENTICAL + (f"; stays: {', '.join(stays)}" if stays else "")

    def _bring_back_what_was_named(self, dbname: str, log: str) -> list[str]:
        """Run the statements that the restore printed for a superuser, before it changed anything."""
        beginning = log.split("comparing with the archive")[0]
        named = r"warning: (?:will not come back|stays as it is now): (.*?): .*, as superuser: (.*)"
        lost = re.findall(named, beginning)
        for _, statement in lost:
            before = self.site.plain(dbname)
            self.site.server.psql(statement)
            require(before != self.site.plain(dbname), f"this was not lost: {statement}")
        return [what for what, _ in lost]


# What is newer than the archive and belongs to an extension, or is only for a superuser to change, stays in place.
_MAY_STAY = (
    "EXTENSION",
    "DEFAULT ACL",
    "EVENT TRIGGER",
    "PUBLICATION",
    "SERVER",
    "USER MAPPING",
    "FOREIGN DATA WRAPPER",
    "CAST",
)


def without_newer(found: list[str], expected: list[str], before: list[str]) -> tuple[list[str], list[str]]:
    """The sections of a dump without those that the archive lacks and that were there before; and their names."""
    known, earlier = {tuple(s) for s in sections(expected)}, {tuple(s) for s in sections(before)}
    kept: list[str] = []
    stays: list[str] = []
    for section in sections(found):
        header = re.match(r"-- Name: (.*?); Type: ([^;]*);", section[0])
        if header and tuple(section) not in known and tuple(section) in earlier and _may_stay(header[1], header[2]):
            if header[2] != "COMMENT":
                stays.append(
                    f"{header[2].lower().replace('acl', 'privileges')} {header[1]}".replace(
                        "default privileges DEFAULT", "default"
                    )
                )
        else:
            kept += section
    return kept, stays


def _may_stay(name: str, kind: str) -> bool:
    return kind in _MAY_STAY or (kind in ("COMMENT", "ACL") and name.startswith(_MAY_STAY)) or kind == "SCHEMA"


def sections(lines: list[str]) -> list[list[str]]:
    """The entries of a dump, each from its header on."""
    found: list[list[str]] = [[]]
    for line in lines:
        if re.match(r"-- (Data for )?Name: ", line):
            found.append([])
        found[-1].append(line)
    return [section for section in found if section]


def _failure(log: str) -> str:
    found = re.findall(r"FAILED: (.*)", log)
    return str(found[0]) if found else log[-300:]


def _obstacle(failure: str) -> str:
    """What is in the way, without who restores and where: those are the column."""
    return re.sub(rf"^'{NAME}' cannot (set aside what is in '{NAME}'|restore what is in the archive): ", "", failure)


def _without_places(lines: list[str]) -> list[str]:
    """A throwaway server has no tablespaces."""
    return [re.sub(r"; Tablespace: .*", "", line) for line in lines if not line.startswith("SET default_tablespace")]
