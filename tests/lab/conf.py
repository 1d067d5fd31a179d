"""`<database>.conf` as the chart writes it, for tests that run its readers without a chart.

No test lists the keys by hand: a new key reaches all of them, and a key that the chart no longer writes is missing.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from tests.lab import chart

_STAND_IN = "name-of-the-database"


@functools.cache
def _text() -> str:
    values = {"databases": [{"name": _STAND_IN, "cluster": f"{_STAND_IN}-postgresql-cnpg"}]}
    (text,) = {
        manifest["data"][f"{_STAND_IN}.conf"]
        for manifest in chart.render(values)
        if manifest["kind"] == "ConfigMap" and f"{_STAND_IN}.conf" in manifest["data"]
    }
    return str(text)


def conf(database: str, changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """The configuration of a database that has the chart's default values, by key; `extra_arg` lines are left out.

    Args:
        database: Its name; the cluster is `<database>-postgresql-cnpg` of namespace `default`.
        changes: Values of keys that replace the chart's; each key must be one that the chart writes.

    Raises:
        KeyError: A key that the chart does not write.
    """
    pairs = dict(
        line.split("=", 1)
        for line in _text().replace(_STAND_IN, database).splitlines()
        if not line.startswith("extra_arg=")
    )
    for key, value in (changes or {}).items():
        if key not in pairs:
            raise KeyError(f"the chart writes no {key!r} into {database}.conf")
        pairs[key] = value
    return pairs


def conf_text(database: str, changes: Mapping[str, str] | None = None) -> str:
    """The same as the file's text."""
    return "".join(f"{key}={value}\n" for key, value in conf(database, changes).items())
