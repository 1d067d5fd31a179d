"""What goes wrong in the plugin, as one line for a person: what, and what to do."""

import enum


class ExitCode(enum.IntEnum):
    """The plugin's exit codes; they agree with those of `python3 -m retention`."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    INTERRUPTED = 130


class PluginError(Exception):
    """Something could not be done.

    Attributes:
        problem: What, naming the object.
        remedy: What a person can do about it; empty where there is nothing to say.
    """

    exit_code = ExitCode.FAILED

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem}; {remedy}" if remedy else problem)
        self.problem = problem
        self.remedy = remedy


class UsageError(PluginError):
    """The command line asks for something that does not exist or makes no sense."""

    exit_code = ExitCode.USAGE


class ForbiddenError(PluginError):
    """The API server does not let this user do it; the remedy names the rule that is missing."""


class NotFoundError(PluginError):
    """An object is not there."""


class RefusedError(PluginError):
    """A person, or a safety rule, said no."""

    exit_code = ExitCode.REFUSED
