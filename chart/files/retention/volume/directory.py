"""The directory of one database, together with how a command locks it."""

from contextlib import AbstractContextManager
from dataclasses import dataclass

from retention.names import LOCK
from retention.rule.backup import Scan
from retention.volume import locks, scan
from retention.volume.folder import Folder


@dataclass(frozen=True, slots=True)
class Directory:
    """The open directory of one database, as one command works on it.

    Attributes:
        folder: The open directory.
        database: Whose directory it is.
        holder: How the lock names the command, for the messages of others.
        lock_seconds: How long the command waits for the lock; 0 tries once.
    """

    folder: Folder
    database: str
    holder: str
    lock_seconds: float

    def scan(self) -> Scan:
        """Return everything in the directory.

        Raises:
            VolumeError: When the directory cannot be read.
        """
        return scan.scan(self.folder, self.database)

    def locked(self, stop: locks.Stop | None = None) -> AbstractContextManager[None]:
        """Return a context that holds the lock of the directory.

        Args:
            stop: Ends the waiting early.

        Raises:
            LockedError: On entry, when another command held the lock all the time.
            VolumeError: On entry, when the lock file cannot be made, as on a read-only volume.
            StoppedError: On entry, when the waiting was stopped.
        """
        return locks.locked(self.folder, LOCK, seconds=self.lock_seconds, holder=self.holder, stop=stop)
