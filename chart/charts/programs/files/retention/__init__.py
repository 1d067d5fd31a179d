# Without comments: they are in the project's file of this name.
from retention.rule.plan import Deleted, Kept, Place, Plan, Rule, plan
from retention.rule.policy import Policy, Tier
__all__ = ["Deleted", "Kept", "Place", "Plan", "Policy", "Rule", "Tier", "plan"]
