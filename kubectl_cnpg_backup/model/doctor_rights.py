"""The part of `doctor` that looks at who may mount the claim by a Role with every verb."""

from kubectl_cnpg_backup.model.findings import Facts, Finding, Level, Unreadable
from kubectl_cnpg_backup.model.objects import Object, name_of

_CLAIMS = "persistentvolumeclaims"


def holds_every_verb(role: Object, claim: str) -> bool:
    """Tell whether a role has a rule with every verb, `mount` among them, on a claim."""
    return any(
        "*" in rule.get("verbs", ())
        and {"", "*"} & set(rule.get("apiGroups") or ())
        and {_CLAIMS, "*"} & set(rule.get("resources") or ())
        and (not rule.get("resourceNames") or claim in rule["resourceNames"])
        for rule in role.get("rules") or ()
    )


def wildcards(facts: Facts) -> list[Finding]:
    """Return who holds every verb on the claim by a RoleBinding; the cluster's administrators do anyway."""
    subject = "every verb"
    if isinstance(facts.roles, Unreadable):
        return [Finding(Level.UNKNOWN, subject, facts.roles.reason)]
    found = []
    for binding in facts.bindings if facts.roles else ():
        reference = binding["roleRef"]
        role = f"{reference['kind']}/{reference['name']}"
        if not holds_every_verb((facts.roles or {}).get(role, {}), facts.release.claim):
            continue
        who = ", ".join(_described(one, facts.release.namespace) for one in binding.get("subjects") or ())
        found.append(
            Finding(
                Level.CAREFUL,
                subject,
                f"{who or 'nobody yet'} may mount the claim by rolebinding/{name_of(binding)}: "
                f"{role} has the verbs [*], and so also mount",
                f"list the verbs in {role}, or leave {_CLAIMS} out of it; "
                f"if this is meant, bind Role {facts.release.name}-operator instead",
            )
        )
    return found


def _described(subject: Object, namespace: str) -> str:
    kind, name = str(subject.get("kind") or ""), str(subject.get("name") or "")
    if kind == "ServiceAccount":
        return f"serviceaccount {subject.get('namespace') or namespace}/{name}"
    return f"{kind.lower()} {name}"
