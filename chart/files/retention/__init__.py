# Comments are left out here; they are in retention/__init__.py of the project.
from retention.rule.plan import Deleted, Kept, Place, Plan, Rule, plan
from retention.rule.policy import Policy, Tier
__all__ = ["Deleted", "Kept", "Place", "Plan", "Policy", "Rule", "Tier", "plan"]
