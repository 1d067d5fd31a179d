"""The one error that leaves this package."""


class NodeError(Exception):
    """Something about the node failed: what, where, and what to do about it, in one message."""
