"""A folder in memory, as for the other tests of the package."""

from tests.retention.conftest import quick_path

__all__ = ["quick_path"]
