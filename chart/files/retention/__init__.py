"""Tiered retention of database backups: which to keep, and the second half of a backup run.

The layers, from below; each imports from itself and from those before it:

* `errors`, `names`, `text`, `keyvalue`: what all others use.
* `rule`: which backups to keep; `plan` is a pure function of aware UTC datetimes and a policy.
* `volume`: the files of the backups, and their locks.
* `pod`: the steps of the chart's pods, such as `finish`.
* `cli`: the command line, `python3 -m retention`.
"""

from retention.rule.plan import Deleted, Kept, Place, Plan, Rule, plan
from retention.rule.policy import Policy, Tier

__all__ = ["Deleted", "Kept", "Place", "Plan", "Policy", "Rule", "Tier", "plan"]
