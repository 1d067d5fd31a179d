# Without comments: they are in the project's file of this name.
import argparse
import functools
import sys
from collections.abc import Sequence
from retention.cli import adopt, clean, describe, listing, pin, plan, pod, simulate, status, verify
from retention.cli.common import EPILOG, Parser, print_error, silence_output
from retention.errors import ExitCode, RetentionError, unexpected
from retention.volume.folder import volume_error
def main(arguments = None):
 for stream in (sys.stdout, sys.stderr):
  if hasattr(stream, "reconfigure"):
   stream.reconfigure(errors="backslashreplace")
 try:
  options = _parser().parse_args(arguments)
  code = int(options.run(options))
  sys.stdout.flush()
 except BrokenPipeError:
  silence_output()
  code = _failed("standard output was closed before everything was written")
 except RetentionError as error:
  code = _failed(str(error), error.exit_code)
 except KeyboardInterrupt:
  code = _failed("stopped by Ctrl-C", ExitCode.INTERRUPTED)
 except OSError as error:
  code = _failed(str(volume_error(error, str(error.filename or "standard output"))))
  silence_output()
 except Exception as error:
  code = _failed(str(unexpected(error)))
 return code if _flushed() else code or ExitCode.FAILED
@functools.cache
def _parser():
 parser = Parser(
  prog="python3 -m retention",
  description="Keep database backups in tiers: plan, prune, list, verify and pin them.",
  epilog=EPILOG,
  formatter_class=argparse.RawDescriptionHelpFormatter,
  allow_abbrev=False,
 )
 commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
 for module in (plan, listing, describe, status, verify, pin, adopt, clean, simulate, pod):
  module.add(commands)
 return parser
def _failed(text, code = ExitCode.FAILED):
 print_error(text)
 return code
def _flushed():
 try:
  sys.stdout.flush()
 except OSError:
  silence_output()
  return False
 return True
