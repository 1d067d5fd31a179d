"""The part of `doctor` that looks at NetworkPolicies."""

from collections.abc import Sequence

from kubectl_cnpg_backup.model.findings import Facts, Finding, Level, Unreadable
from kubectl_cnpg_backup.model.objects import Object, dig, labels, name_of, selects
from kubectl_cnpg_backup.model.release import BACKUP


def network(facts: Facts) -> list[Finding]:
    """Return whether NetworkPolicies isolate the backup pods, and let them reach their clusters."""
    if isinstance(facts.policies, Unreadable):
        return [Finding(Level.UNKNOWN, "network policy", facts.policies.reason)]
    cronjobs = facts.release.of(BACKUP)
    if not cronjobs:
        return []
    template = cronjobs[0].source["spec"]["jobTemplate"]["spec"]["template"]
    selecting = [policy for policy in facts.policies if selects(policy, labels(template))]
    own = [policy for policy in selecting if labels(policy).get("app") == facts.release.name]
    # A policy without rules only denies: nothing is added to what the release's own policy allows.
    strangers = [name_of(policy) for policy in selecting if policy not in own and _allows(policy)]
    if not own:
        return [
            Finding(
                Level.CAREFUL if selecting else Level.WRONG,
                "network policy",
                f"the release has none; {', '.join(strangers)} selects its pods"
                if strangers
                else "none selects the backup pods",
                "set networkPolicy.enabled: true, unless other policies isolate these pods",
            )
        ]
    if strangers:
        return [
            Finding(
                Level.CAREFUL,
                "network policy",
                f"{', '.join(strangers)} selects the backup pods as well; what any policy allows is allowed",
                f"see what it allows: kubectl describe networkpolicy {strangers[0]}; narrow its rules or its selector",
            ),
            *_ingress(facts, facts.policies, labels(template)),
        ]
    return [
        Finding(
            Level.GOOD,
            "network policy",
            f"{', '.join(map(name_of, own))}; whether the CNI enforces it cannot be checked from here",
        ),
        *_ingress(facts, facts.policies, labels(template)),
    ]


def _allows(policy: Object) -> bool:
    spec = dig(policy, "spec")
    return bool(spec.get("ingress") or spec.get("egress"))


def _ingress(facts: Facts, policies: Sequence[Object], backup: Object) -> list[Finding]:
    """Return the clusters of this namespace that network policies guard without letting the backup pods in."""
    found, namespace = [], facts.release.namespace
    for cluster in sorted(facts.clusters):
        its_namespace, _, name = cluster.partition("/")
        instance = {"cnpg.io/cluster": name, "cnpg.io/podRole": "instance"}
        guards = [
            policy
            for policy in policies
            if its_namespace == namespace
            and selects(policy, instance)
            and "Ingress" in (dig(policy, "spec").get("policyTypes") or ["Ingress"])
        ]
        if guards and not any(_lets_in(policy, backup, namespace) for policy in guards):
            found.append(
                Finding(
                    Level.CAREFUL,
                    f"cluster {cluster}",
                    f"{', '.join(map(name_of, guards))} selects its pods and lets no backup pod in",
                    f"allow ingress from pods with the label app={facts.release.name} on the port of PostgreSQL",
                )
            )
    return found


def _lets_in(policy: Object, pod: Object, namespace: str) -> bool:
    """Tell whether an ingress rule may admit a pod of the policy's own namespace; addresses count as a yes."""
    for rule in dig(policy, "spec").get("ingress") or ():
        peers: Sequence[Object] = rule.get("from") or ({},)
        for peer in peers:
            where = peer.get("namespaceSelector")
            there = where is None or selects(
                {"spec": {"podSelector": where}}, {"kubernetes.io/metadata.name": namespace}
            )
            if "ipBlock" in peer or (there and selects({"spec": {"podSelector": peer.get("podSelector") or {}}}, pod)):
                return True
    return False
