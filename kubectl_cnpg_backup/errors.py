"""What goes wrong in the plugin, as one line: what, and what to do about it."""

from retention.errors import ExitCode, RetentionError


class PluginError(RetentionError):
    """Something could not be done."""


class UsageError(PluginError):
    """The command line asks for something that does not exist or makes no sense."""

    exit_code = ExitCode.USAGE


class ForbiddenError(PluginError):
    """The API server does not let this user do it; the remedy names the rule that is missing."""


class NotFoundError(PluginError):
    """An object does not exist."""


class ConflictError(PluginError):
    """Someone else has set the field that was to be changed."""


class RefusedError(PluginError):
    """The user, or a safety rule, said no."""

    exit_code = ExitCode.REFUSED
