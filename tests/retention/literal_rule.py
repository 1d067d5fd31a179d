"""The written rule, sentence by sentence, without a thought for speed: what the fast one is held against."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from retention import Policy

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def unix(time: datetime) -> Fraction:
    return Fraction((time - EPOCH) // timedelta(microseconds=1), 1_000_000)


def slot(time: datetime, every: timedelta, phase: timedelta) -> int:
    """Slot = floor((unix seconds - phase) / every)."""
    return (unix(time) - int(phase.total_seconds())) // int(every.total_seconds())


def literal_plan(times: Iterable[datetime], policy: Policy) -> dict[datetime, tuple[str, str]]:
    """Return tier and place of each backup that stays."""
    backups = set(times)
    tiers, phase = policy.tiers, policy.phase

    def newest_of_slots(candidates: set[datetime], every: timedelta) -> set[datetime]:
        newest: dict[int, datetime] = {}
        for time in candidates:
            index = slot(time, every, phase)
            newest[index] = max(time, newest.get(index, time))
        return set(newest.values())

    # In a slot of the first tier only the newest backup is a candidate (a rep).
    reps = newest_of_slots(backups, tiers[0].every)
    # A rep is a mark of a tier when it is the newest rep of its slot of that tier's width.
    marks = [newest_of_slots(reps, tier.every) for tier in tiers]

    kept: dict[datetime, tuple[str, str]] = {}
    begin = timedelta(0)
    walk = sorted(reps, reverse=True)
    full = True
    for index, tier in enumerate(tiers):
        # span = (until - until of the tier before) / every; marks = min(keep, span); transit = keep - marks.
        if tier.until is None:
            places = tier.keep
        else:
            places = min(tier.keep, (tier.until - begin) // tier.every)
            begin = tier.until
        transit = tier.keep - places
        # A tier takes the marks of its own width until its places are full; the next begins with the next older rep.
        own = [rep for rep in walk if rep in marks[index]][:places]
        full = len(own) == places
        stretch = [rep for rep in walk if not full or rep >= own[-1]]
        kept |= dict.fromkeys(own, (tier.name, "mark"))
        # Until then it takes the newest reps that are marks of the tier before but not of its own.
        passing = [rep for rep in stretch if index and rep in marks[index - 1] and rep not in marks[index]]
        kept |= dict.fromkeys(passing[:transit], (tier.name, "transit"))
        walk = [rep for rep in walk if full and rep < own[-1]]
    # When the walk ends and the last tier still has free places, the oldest backup of all is kept too.
    if backups and not full:
        kept.setdefault(min(backups), ("oldest", "oldest"))
    return kept
