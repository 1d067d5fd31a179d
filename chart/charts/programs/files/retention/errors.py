# Without comments: they are in the project's file of this name.
import enum
class ExitCode(enum.IntEnum):
 DONE = 0
 FAILED = 1
 USAGE = 2
 REFUSED = 3
 INTERRUPTED = 130
 STOPPED = 143
class RetentionError(Exception):
 exit_code = ExitCode.FAILED
 def __init__(self, problem, remedy = ""):
  super().__init__(problem, remedy)
  self.problem = problem
  self.remedy = remedy
 def __str__(self):
  return f"{self.problem}; {self.remedy}" if self.remedy else self.problem
class UsageError(RetentionError):
 exit_code = ExitCode.USAGE
class ConfigError(RetentionError):
 exit_code = ExitCode.USAGE
class PolicyError(ConfigError):
 pass
class TimeInputError(RetentionError, ValueError):
 exit_code = ExitCode.USAGE
class VolumeError(RetentionError):
 def __init__(self, problem, remedy = "", errno = 0):
  super().__init__(problem, remedy)
  self.errno = errno
  self.reason = problem.rpartition(": ")[2]
class LockedError(RetentionError):
 pass
class StoppedError(RetentionError):
 exit_code = ExitCode.STOPPED
def unexpected(error):
 if isinstance(error, MemoryError):
  return RetentionError("not enough memory", "raise the memory limit of the container")
 if isinstance(error, OSError) and error.strerror:
  return RetentionError(f"{error.filename or 'the volume'}: {error.strerror}", "check the storage first")
 place = error.__traceback__
 while place is not None and place.tb_next is not None:
  place = place.tb_next
 where = "" if place is None else f" at {place.tb_frame.f_code.co_filename.rpartition('/')[2]}:{place.tb_lineno}"
 return RetentionError(f"fault in the program: {type(error).__name__}{where}: {error}", "please report this")
