"""A volume, a destination, rclone between them, and the commands run on them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import signal
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from offsite.age import Identity, bech32, decrypted
from offsite.cli import main
from offsite.rule import names
from offsite.rule.marker import Marker, parse_marker
from offsite.rule.names import Part
from retention.rule.policy import Policy, Tier
from tests.offsite.stores import Carrier, Store, carrier
from tests.retention.world import DAY, HOUR, T0, Ran
from tests.retention.world import World as Volume

NOW = T0 + 30 * DAY
CLUSTER = "main"

REMOTE_POLICY = Policy((Tier("Daily", DAY, 7, 7 * DAY), Tier("Weekly", 7 * DAY, 8)), timedelta(seconds=-900))


def text_of(identity: Identity) -> str:
    return bech32.encode("age-secret-key-", identity.key).upper()


@dataclass(slots=True)
class World:
    """All that a run touches."""

    top: Path
    store: Store
    carrier: Carrier = field(init=False)
    volume: Volume = field(init=False)
    config: Path = field(init=False)
    identity: Identity = field(init=False)
    key_file: Path = field(init=False)
    settings: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.top.mkdir(exist_ok=True)
        self.carrier = carrier(self.top, self.store)
        self.volume = Volume(self.top)
        self.config = self.top / "offsite"
        self.config.mkdir(exist_ok=True)
        self.identity = Identity(os.urandom(32))
        self.key_file = self.top / "key.txt"
        self.key_file.write_text(f"# created by a test\n{text_of(self.identity)}\n")
        self.settings = {
            "type": self.store.type,
            "path": self.store.path,
            "cluster_id": CLUSTER,
            "owner": "release-1",
            "encryption": "age",
            "recipients": f"{self.identity.recipient} {Identity(os.urandom(32)).recipient}",
            "max_parts": "0",
            "verify": "auto",
            "readback_every": "",
            "copy": "tiers",
            "prune": "false",
            "allow_shrunk": "false",
            "allow_large_prune": "false",
            "accept_loss_until": "",
            "object_lock_mode": "",
            "object_lock_days": "0",
            "large_prune_percent": "50",
            "timeout": "600",
            "chart_version": "0.1.0",
            **self.store.settings,
        }
        (self.config / "policy.json").write_text(REMOTE_POLICY.to_json())
        self.configure()

    def configure(self, **changes: str) -> None:
        self.settings |= changes
        text = "".join(f"{key}={value}\n" for key, value in self.settings.items())
        (self.config / "offsite.conf").write_text(text)

    def run(self, command: str, *arguments: object, now: datetime = NOW) -> Ran:
        """Run a command of the room in this process."""
        words = [command, "--config", self.config, "--socket", self.carrier.socket, "--wait", 5]
        words += ["--termination-log", self.top / "termination-log", "--now", now.isoformat(), *arguments]
        out, err, handler = io.StringIO(), io.StringIO(), signal.getsignal(signal.SIGTERM)
        umask = os.umask(0o022)  # the command changes that of its process
        os.umask(umask)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main([str(word) for word in words])
        finally:
            signal.signal(signal.SIGTERM, handler)
            os.umask(umask)
        ran = Ran(code, out.getvalue(), err.getvalue())
        assert "Traceback" not in ran.out + ran.err
        return ran

    def copy(self, now: datetime = NOW) -> Ran:
        return self.run("copy", self.volume.root, now=now)

    def fetch(self, database: str, *arguments: object, root: Path | None = None, now: datetime = NOW) -> Ran:
        words = ["--identity", self.key_file, "--database", database, *arguments, root or self.volume.root]
        return self.run("fetch", *words, now=now)

    def message(self) -> str:
        return (self.top / "termination-log").read_text()

    def objects(self, database: str) -> dict[str, Path]:
        """The objects of a database, by their names."""
        prefix = f"{CLUSTER}/{database}/"
        return {name.removeprefix(prefix): path for name, path in self.store.files().items() if name.startswith(prefix)}

    def markers(self, database: str) -> dict[str, Marker]:
        """The markers of a database by the base of their backups, without those of copies that were found damaged."""
        found = {}
        objects = {name: (names.parse(database, name), path) for name, path in self.objects(database).items()}
        harmed = {parsed.attempt for parsed, _ in objects.values() if parsed and parsed.part is Part.DAMAGED}
        for name, (parsed, path) in objects.items():
            if parsed is not None and parsed.part is Part.MARKER and parsed.attempt not in harmed:
                assert parsed.base not in found, f"two copies of {parsed.base}"
                found[parsed.base] = parse_marker(path.read_bytes(), name)
        return found

    def copied(self, database: str) -> set[str]:
        """The bases of the copies that count; each is read, decrypted, and compared with marker and volume."""
        objects, bases = self.objects(database), set()
        for base, marker in self.markers(database).items():
            for stored in marker.objects.values():
                content = objects[stored.name].read_bytes()
                assert (len(content), sum_of(content)) == (stored.stored_bytes, stored.stored_sha256), stored.name
                plain = self.decrypt(content) if marker.encryption == "age" else content
                assert (len(plain), sum_of(plain)) == (stored.bytes, stored.sha256), stored.name
            archive = self.volume.root / database / f"{base}.dump"
            if archive.exists():
                assert sum_of(archive.read_bytes()) == marker.archive.sha256, base
            bases.add(base)
        return bases

    def decrypt(self, content: bytes) -> bytes:
        return b"".join(map(bytes, decrypted(io.BytesIO(content).readinto, [self.identity])))

    def leftovers(self, database: str) -> set[str]:
        """The names of objects that no marker names; evidence of checks aside."""
        named = {stored.name for marker in self.markers(database).values() for stored in marker.objects.values()}
        return {name for name in self.objects(database) if name not in named and not name.endswith(".json")}

    def listed(self, now: datetime = NOW) -> list[dict[str, Any]]:
        documents: list[dict[str, Any]] = json.loads(self.run("list", "--format", "json", now=now).out)
        return documents


def sum_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def publish_days(world: World, database: str, days: int, *, now: datetime = NOW, size: int = 3000) -> list[str]:
    """Publish a backup a day, the newest an hour ago; return the bases, newest first."""
    bases = []
    for day in range(days):
        time = now - HOUR - day * DAY
        content = os.urandom(size) if size else b""
        bases.append(world.volume.publish(database, time, content=content))
    return bases
