"""The volumes that faults are tried on, the commands that meet them, and what must be true afterwards."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from retention.names import SIDECARS, Grammar, Kind, base_of, file_name
from retention.volume.folder import Folder
from retention.volume.scan import scan
from tests.faults.server import HUNG
from tests.retention.world import HOUR, REPOSITORY, T0, World, retention_here

NOW = T0 + timedelta(days=30)
MINUTE = timedelta(minutes=1)
NEW, DEAD = NOW - 5 * MINUTE, NOW - 65 * MINUTE
TIMES = [NOW - hours * HOUR for hours in (2, 3, 4, 5, 6, 7)]
NEWEST, PROVED, HELD, ADOPTABLE, CORRUPT, OLDEST = BASES = [base_of("app", time) for time in TIMES]
OTHER = base_of("other", TIMES[0])
LEFT = base_of("app", NOW - 50 * HOUR)
POLICY = '{"phase": 0, "tiers": [{"name": "One", "every": "1h", "keep": 3}]}'
AT = ("--now", NOW.isoformat())


def _common(world: World) -> None:
    (world.config / "policy.json").write_text(POLICY)
    for database in ("app", "other"):
        world.configure(database, lock_timeout="1")
    for time in TIMES:
        world.publish("app", time)
    world.publish("other", TIMES[0])
    folder = world.folder("app")
    drill_pin = {"reason": "proved", "by": "drill", "replaced": '{"reason": "mine", "expires": "2027-01-01T00:00:00Z"}'}
    world.pin(PROVED, json.dumps(drill_pin))
    (folder / file_name(PROVED, Kind.DRILL)).write_text('{"result": "proved"}')
    world.pin(HELD, '{"reason": "legal hold"}')
    (world.root / "status.json").write_text('{"databases": {}}')


def _staged(world: World) -> None:
    _common(world)
    world.stage("app", DEAD, report=False)
    for database in ("app", "other"):
        world.stage(database, NEW)
    gone = base_of("app", NOW - 20 * HOUR)
    folder = world.folder("app")
    (folder / f"{gone}.json").write_text("{}")
    (folder / f".{gone}.dump.deleting").write_text("deleted")
    (folder / f".{HELD}.dump.pin.tmp").write_text("cut")


def _drilled(world: World) -> None:
    _common(world)
    _requests(world)


def _requests(world: World) -> None:
    for base, state in ((NEWEST, "proved"), (HELD, "failed"), (OTHER, "proved")):
        (world.results / f"{base}.request").write_text(f"base={base}\n")
        text = f"database={base[:-16]}\nbase={base}\nstate={state}\ntables=34\nrestore_seconds=4\n"
        (world.results / f"{base}.drill").write_text(text + ("" if state == "proved" else "error=no\nremedy=do\n"))


def _corrupt(world: World) -> None:
    _common(world)
    path = world.folder("app") / f"{CORRUPT}.dump"
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def _chosen_for_drill(world: World) -> None:
    """Prepare what `choose --drill` leaves, and what the container of the database before has reported."""
    _common(world)
    ran = retention_here("choose", *AT, "--drill", world.config, "--requests", world.results, world.root)
    assert ran.code == 0, ran.out
    for name in ("run", "scratch"):
        (world.top / name).mkdir()
    reported = world.results / "databases" / "other"
    reported.mkdir(parents=True)
    (reported / f"{OTHER}.drill").write_text(f"database=other\nbase={OTHER}\nstate=proved\ntables=3\n")
    (world.top / "scratch" / "databases" / "other" / "archives").mkdir(parents=True)


def _handed_over(world: World, _: str) -> bool:
    """Each archive that is due is there as it is on the volume, or its drill has failed."""
    copies = world.top / "scratch" / "databases" / "app" / "archives"
    bases = [path.name.removesuffix(".request") for path in world.results.glob("app-*.request")]
    return bool(bases) and all(
        (world.results / f"{base}.drill").exists()
        or (copies / f"{base}.dump").read_bytes() == _archive(world, base).read_bytes()
        for base in bases
    )


def _adoptable(world: World) -> None:
    _common(world)
    _adoptable_in(world)


def _adoptable_in(world: World) -> None:
    folder = world.folder("app")
    content = (folder / f"{ADOPTABLE}.dump").read_bytes()
    for kind in (Kind.SHA256, Kind.METADATA):
        (folder / file_name(ADOPTABLE, kind)).unlink()
    sha256 = hashlib.sha256(content).hexdigest()
    text = f"database=app\nbase={ADOPTABLE}\nstate=whole\nbytes={len(content)}\nsha256={sha256}\ntables=3\n"
    (world.results / f"{ADOPTABLE}.adopt").write_text(text)


def _left(world: World) -> None:
    _common(world)
    world.stage("app", NOW - 50 * HOUR, report=False)
    # What a run is about to publish is nothing that is left.
    for database in ("app", "other"):
        world.stage(database, NEW)
    (world.folder("app") / f".{LEFT}.x.partial").write_text("cut off")


def everything(world: World) -> None:
    """Prepare a volume that every command finds something to do on."""
    _staged(world)
    _adoptable_in(world)
    path = world.folder("app") / f"{CORRUPT}.dump"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    _requests(world)


@dataclass(frozen=True, slots=True)
class Command:
    """A command, the volume it meets, and what is true when it says that it is done."""

    prepare: Callable[[World], None]
    arguments: Callable[[World], list[object]]
    done: Callable[[World, str], bool]


def _archive(world: World, base: str) -> Path:
    return world.root / base[:-16] / f"{base}.dump"


def _exists(world: World, *names: str) -> bool:
    return all((world.folder("app") / name).exists() for name in names)


def _chosen(world: World, out: str) -> bool:
    pinned = _exists(world, f"{NEWEST}.dump.pin") or "could not be pinned" in out
    return pinned and (world.results / f"{NEWEST}.request").exists()


def _sampled(world: World, out: str) -> bool:
    return all(
        (world.results / f"{base}.request").exists()
        or f"{base[:-16]}: nothing can be selected" in out
        or f"{base}.dump is newer and cannot be drilled" in out
        for base in (NEWEST, OTHER)
    )


def _all_named(_: World, out: str) -> bool:
    return all(f"{base}.dump" in out for base in (*BASES, OTHER))


COMMANDS = {
    "finish": Command(
        _staged,
        lambda world: [*world.finish_arguments(NOW)],
        lambda world, _: _exists(world, f"{base_of('app', NEW)}.dump", f"{base_of('app', DEAD)}.dump"),
    ),
    "prune": Command(
        _common,
        lambda world: ["prune", *AT, "--policy", world.config / "policy.json", "--lock-timeout", "1s", world.root],
        # An archive that cannot be read leaves its slot to another one, and is named.
        lambda world, out: not _archive(world, OLDEST).exists() or "damaged: " in out,
    ),
    "pin": Command(
        _common,
        lambda world: ["pin", *AT, "--lock-timeout", "1s", _archive(world, OLDEST)],
        lambda world, _: _exists(world, f"{OLDEST}.dump.pin"),
    ),
    "unpin": Command(
        _common,
        lambda world: ["unpin", *AT, "--lock-timeout", "1s", _archive(world, HELD)],
        lambda world, _: not _exists(world, f"{HELD}.dump.pin"),
    ),
    "verify": Command(
        _corrupt,
        lambda world: ["verify", *AT, "--lock-timeout", "1s", world.root],
        # The damage is found whatever else happens: it never ends with 0.
        lambda _world, _out: False,
    ),
    "adopt": Command(
        _adoptable,
        lambda world: ["adopt", *AT, "--lock-timeout", "1s", "--results", world.results, world.root],
        lambda world, _: _exists(world, f"{ADOPTABLE}.json", f"{ADOPTABLE}.dump.sha256"),
    ),
    "clean": Command(
        _left,
        lambda world: ["clean", *AT, "--lock-timeout", "1s", world.root],
        lambda world, _: not any(world.folder("app").glob(f".{LEFT}*")),
    ),
    "choose": Command(
        _common,
        lambda world: ["choose", *AT, "--database", "app", "--requests", world.results, world.root],
        _chosen,
    ),
    "choose --drill": Command(
        _common,
        lambda world: ["choose", *AT, "--drill", world.config, "--requests", world.results, world.root],
        _sampled,
    ),
    "hand-over": Command(
        _chosen_for_drill,
        lambda world: [
            *("hand-over", *AT, "--database", "app", "--seconds", "3600", "--scratch-size", "1Gi"),
            *(word for name in ("config", "results", "run", "scratch") for word in (f"--{name}", world.top / name)),
            world.root,
        ],
        _handed_over,
    ),
    "drill": Command(
        _drilled,
        lambda world: ["drill", *AT, "--config", world.config, "--results", world.results, world.root],
        # One archive's drill failed: it never ends with 0.
        lambda _world, _out: False,
    ),
    "list": Command(_common, lambda world: ["list", *AT, world.root], _all_named),
    "status": Command(_common, lambda world: ["status", *AT, world.root], lambda _, out: "app" in out),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command ended."""

    code: int | str
    out: str
    calls: list[tuple[str, str]]
    hit: str


class Server:
    """The process that runs commands with faults."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.server"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, world: World, commands: Sequence[str], **request: Any) -> list[Answer]:
        """Run commands at once; `request` says what goes wrong in them."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        answers = [self._top / f"answer-{index}" for index in range(len(commands))]
        requests = []
        for index, name in enumerate(commands):
            answers[index].unlink(missing_ok=True)
            more = {"seed": request["seed"] * 10 + index} if "seed" in request else {}
            folders = [str(world.root), str(world.results), str(world.config), str(world.top / "scratch")]
            arguments = [str(argument) for argument in COMMANDS[name].arguments(world)]
            facts = {"arguments": arguments, "folders": folders, "answer": str(answers[index])}
            made = {"patience": 0.05, **facts, **request, **more}
            requests.append(made)
        self._process.stdin.write(json.dumps(requests) + "\n")
        self._process.stdin.flush()
        return [
            _answer(code, path) for code, path in zip(json.loads(self._process.stdout.readline()), answers, strict=True)
        ]

    def close(self) -> None:
        self._process.communicate(timeout=30)


def _answer(code: int | str, path: Path) -> Answer:
    if not path.exists():
        return Answer(code, "", [], "")
    answer = json.loads(path.read_text())
    calls = [(operation, place) for operation, place in answer.get("calls", [])]
    return Answer(HUNG if code == HUNG else answer["code"], answer["out"], calls, answer["hit"])


@contextmanager
def server(top: Path) -> Iterator[Server]:
    """Yield a running server."""
    started = Server(top)
    yield started
    started.close()


class Stage:
    """Makes the same volume again and again."""

    def __init__(self, top: Path, prepare: Callable[[World], None]) -> None:
        self._template, self._copy = top / "template", top / "world"
        for folder in (self._template, self._copy):
            shutil.rmtree(folder, ignore_errors=True)
        self._template.mkdir(parents=True)
        prepare(World(self._template))

    def world(self) -> World:
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self._template, self._copy)
        world = World(self._copy)
        (world.config / "policy.json").write_text(POLICY)
        return world


def sound(world: World, database: str) -> dict[str, tuple[str, Kind]]:
    """Return base and kind of each archive that is published or staged, by the sum of its content."""
    grammar = Grammar(database)
    found: dict[str, tuple[str, Kind]] = {}
    for path in (world.root / database).iterdir():
        parsed = grammar.parse(path.name)
        if parsed is not None and parsed.kind in (Kind.ARCHIVE, Kind.STAGED):
            found[hashlib.sha256(path.read_bytes()).hexdigest()] = (parsed.base, parsed.kind)
    return found


def sidecars(world: World, database: str) -> dict[str, bytes]:
    """Return the content of every file next to a published archive."""
    folder = world.root / database
    return {
        name: (folder / name).read_bytes()
        for base, kind in sound(world, database).values()
        if kind is Kind.ARCHIVE
        for name in (file_name(base, one) for one in SIDECARS)
        if (folder / name).exists()
    }


def false_backups(world: World, database: str) -> list[str]:
    """Return the archives that count as backups and are not what their sha256 says."""
    folder = world.root / database
    with Folder.open(folder) as opened:
        backups = scan(opened, database).backups
    wrong = (b for b in backups if hashlib.sha256((folder / b.name).read_bytes()).hexdigest() != b.sha256)
    return [backup.name for backup in wrong]


def leftovers(world: World, database: str) -> list[str]:
    """Return our own files that nothing needs."""
    with Folder.open(world.root / database) as opened:
        found = scan(opened, database)
    return [*found.leftovers, *found.tombstones, *found.staged]
