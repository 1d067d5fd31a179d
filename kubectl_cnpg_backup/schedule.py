"""When a CronJob was due, and is due next."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from kubectl_cnpg_backup.errors import PluginError

_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
EARLY = timedelta(minutes=15)
"""How much before its due time a backup counts for it, as the chart's retention has it."""


def _simulate(expression: str, zone: str, moment: datetime, *, reverse: bool) -> CronSim:
    try:
        local = moment.astimezone(ZoneInfo(zone))
        return CronSim(_MACROS.get(expression.strip(), expression), local, reverse=reverse)
    except (CronSimError, ZoneInfoNotFoundError, ValueError) as error:
        raise PluginError(f"schedule {expression!r} in {zone}: {error}", "correct schedule and timeZone") from None


def next_run(expression: str, zone: str, now: datetime) -> datetime | None:
    """Return when a schedule is due next after `now`, UTC; None when it never is.

    Raises:
        PluginError: When the expression or the zone means nothing.
    """
    moment = next(_simulate(expression, zone, now, reverse=False), None)
    return None if moment is None else moment.astimezone(UTC)


def due_before(expression: str, zone: str, now: datetime, count: int) -> datetime | None:
    """Return when a schedule was due for the `count`-th last time before `now`, UTC; None when it never was.

    Raises:
        PluginError: When the expression or the zone means nothing.
    """
    moment = None
    simulation = _simulate(expression, zone, now, reverse=True)
    for _ in range(count):
        moment = next(simulation, None)
    return None if moment is None else moment.astimezone(UTC)


def is_late(newest: datetime | None, expression: str, zone: str, now: datetime) -> bool:
    """Tell whether a backup is overdue: there is none for the due time before the last one, nor a newer one.

    The run that was due last may still be under way, so that its backup is not missed yet.
    """
    due = due_before(expression, zone, now, 2)
    if due is None:
        return False
    return newest is None or newest < due - EARLY
