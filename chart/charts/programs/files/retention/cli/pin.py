# Without comments: they are in the project's file of this name.
import argparse
from datetime import datetime
from pathlib import Path
from retention.cli.common import (
 Commands,
 add_command,
 add_lock_timeout,
 duration,
 moment,
 now_of,
 open_archives,
)
from retention.errors import ExitCode, UsageError
from retention.text import later
from retention.volume import pins
def add(commands):
 command = add_command(commands, "pin", _pin, "Protect backups from pruning.")
 _add_archives(command)
 command.add_argument("--reason", default="", help="why, in your own words")
 until = command.add_mutually_exclusive_group()
 until.add_argument(
  "--for", type=duration, dest="length", metavar="30d", help="how long the pin holds (default: forever)"
 )
 until.add_argument(
  "--until", type=moment, metavar="TIME", help="when the pin expires, such as 2026-01-01T00:00:00Z"
 )
 add_lock_timeout(command)
 command = add_command(commands, "unpin", _unpin, "Remove pins; the next run may prune these backups.")
 _add_archives(command)
 add_lock_timeout(command)
def _add_archives(command):
 command.add_argument(
  "archives", nargs="+", type=Path, metavar="ARCHIVE", help="path of an archive, <database>-YYYYMMDD-HHMMSS.dump"
 )
def _pin(options):
 now = now_of(options)
 expires: datetime | None = options.until if options.length is None else later(now, options.length)
 if expires is not None and expires <= now:
  raise UsageError(f"--until {expires.isoformat()} is in the past", "give a time in the future")
 for directory, name in open_archives(options):
  pins.pin(directory, name, reason=options.reason, expires=expires, now=now)
  print(f"{name}: pinned {'forever' if expires is None else f'until {expires:%Y-%m-%d %H:%M}Z'}")
 return ExitCode.DONE
def _unpin(options):
 for directory, name in open_archives(options):
  removed = pins.unpin(directory, name)
  print(f"{name}: {'unpinned' if removed else 'was not pinned'}")
 return ExitCode.DONE
