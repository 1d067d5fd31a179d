"""The part of `doctor` that looks at NetworkPolicies."""

import hashlib
import json
from collections.abc import Mapping, Sequence

from kubectl_cnpg_backup.model.findings import Facts, Finding, Level, Unreadable
from kubectl_cnpg_backup.model.objects import Object, dig, labels, name_of, selects
from kubectl_cnpg_backup.model.release import (
    BACKUP,
    COPY,
    DRILL,
    FETCH,
    INSPECTOR,
    OFFSITE,
    OFFSITE_DRILL,
    OPEN,
    RESTORE,
    Release,
)


def network(facts: Facts) -> list[Finding]:
    """Return whether NetworkPolicies isolate the backup pods, and let them reach their clusters."""
    if isinstance(facts.policies, Unreadable):
        return [Finding(Level.UNKNOWN, "network policy", facts.policies.reason)]
    pods = {
        component: labels(dig(cronjob.source, "spec", "jobTemplate", "spec", "template"))
        for component in (BACKUP, RESTORE, DRILL, INSPECTOR, OPEN, OFFSITE, OFFSITE_DRILL, FETCH, COPY)
        for cronjob in facts.release.of(component)
    }
    if BACKUP not in pods:
        return []
    own = [policy for policy in facts.policies if is_own(policy, facts.release)]
    # A policy without rules only denies: nothing is added to what the release's own policy allows.
    strangers = {
        name_of(policy): [component for component in pods if selects(policy, pods[component])]
        for policy in facts.policies
        if policy not in own and _allows(policy)
    }
    strangers = {name: components for name, components in strangers.items() if components}
    bare = [component for component in pods if not any(selects(policy, pods[component]) for policy in own)]
    if bare:
        selecting = [policy for policy in facts.policies if selects(policy, pods[bare[0]])]
        return [
            Finding(
                Level.CAREFUL if selecting else Level.WRONG,
                "network policy",
                f"none of the release's own selects the {', '.join(bare)} pods"
                + (f"; {', '.join(map(name_of, selecting))} does" if selecting else ""),
                "set networkPolicy.enabled: true and upgrade, unless other policies isolate these pods",
            )
        ]
    found = [
        Finding(
            Level.CAREFUL,
            "network policy",
            f"{name} selects the {', '.join(components)} pods as well; what any policy allows is allowed",
            f"see what it allows: kubectl describe networkpolicy {name}; narrow its rules or selector, or delete it",
        )
        for name, components in strangers.items()
    ]
    found += _altered(own, facts.access)
    good = Finding(
        Level.GOOD,
        "network policy",
        f"{', '.join(map(name_of, own))}; whether the CNI enforces it cannot be checked from here",
    )
    return [*(found or [good]), *_ingress(facts, facts.policies, pods[BACKUP])]


def is_own(policy: Object, release: Release) -> bool:
    """Tell whether a NetworkPolicy is the release's, by its name: anyone who may write one can label it."""
    own = ("isolated", "offsite", "copies")
    return name_of(policy) in (release.name, *(f"{release.name}-{suffix}" for suffix in own))


def _altered(own: Sequence[Object], record: object) -> list[Finding]:
    """Return the release's own NetworkPolicies whose rules are not those that the chart rendered, by their digests."""
    digests = record.get("networkPolicies", "") if isinstance(record, Mapping) else ""
    rendered = dict(entry.split(" ", 1) for entry in str(digests).split(", ") if " " in entry)
    found = []
    for policy in own:
        name = name_of(policy)
        if rendered.get(name, digest(policy)) == digest(policy):
            continue
        entries = dig(policy, "metadata").get("managedFields") or ()
        writers = sorted({str(one.get("manager")) for one in entries if "f:spec" in dig(one, "fieldsV1")})
        found.append(
            Finding(
                Level.CAREFUL,
                "network policy",
                f"the rules of {name} are not those that the chart rendered"
                + (f"; they were written by {', '.join(writers)}" if writers else ""),
                f"compare: helm get manifest, kubectl get networkpolicy {name} -o yaml; "
                "restore it with `helm upgrade` (Helm 4: with --force-conflicts)",
            )
        )
    return found


def digest(policy: Object) -> str:
    """Return the digest of a NetworkPolicy's rules, as the chart computes it."""
    text = json.dumps(dig(policy, "spec"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


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
