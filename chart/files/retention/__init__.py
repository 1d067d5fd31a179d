"""Tiered retention of database backups: which to keep, and the second half of a backup run.

`plan` is a pure function of aware UTC datetimes and a policy; everything else is at the package's edges.
"""

from retention.rule.plan import Deleted, Kept, Place, Plan, Rule, plan
from retention.rule.policy import Policy, Tier

__all__ = ["Deleted", "Kept", "Place", "Plan", "Policy", "Rule", "Tier", "plan"]
