"""The RBAC rules that the plugin needs, and what for."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Right:
    """An RBAC rule that the plugin needs, and what it needs it for."""

    verb: str
    group: str
    resource: str
    purpose: str


RIGHTS = (
    Right("list", "batch", "cronjobs", "every command"),
    Right("list", "batch", "jobs", "status, logs"),
    Right("get", "batch", "jobs", "run"),
    Right("create", "batch", "jobs", "run, and every command that reads the volume"),
    Right("delete", "batch", "jobs", "run, and every command that reads the volume"),
    Right("list", "", "pods", "status, logs, and every command that reads the volume"),
    Right("get", "", "pods", "inspect"),
    Right("get", "", "pods/log", "run, logs"),
    Right("get", "", "pods/exec", "every command that reads the volume"),
    Right("create", "", "pods/exec", "every command that reads the volume"),
    Right("get", "", "pods/portforward", "open --port"),
    Right("create", "", "pods/portforward", "open --port"),
    Right("get", "", "configmaps", "which databases a CronJob backs up"),
    Right("list", "", "events", "the reason why a pod does not start"),
    Right("get", "", "persistentvolumeclaims", "doctor"),
    Right("get", "", "serviceaccounts", "doctor"),
    Right("get", "", "namespaces", "doctor"),
    Right("list", "networking.k8s.io", "networkpolicies", "doctor"),
    Right("patch", "batch", "cronjobs", "suspend, resume"),
    Right("list", "postgresql.cnpg.io", "clusters", "discover, diff"),
    Right("list", "postgresql.cnpg.io", "databases", "discover"),
)
"""What the plugin needs, which the chart's Role grants with `accessPolicy.operatorRights`; Secrets are not included."""

NEW_CLUSTER_RIGHTS = (
    Right("get", "postgresql.cnpg.io", "clusters", "new-cluster"),
    Right("create", "postgresql.cnpg.io", "clusters", "new-cluster"),
    Right("create", "networking.k8s.io", "networkpolicies", "new-cluster"),
)
"""What one command needs in addition, which the Role grants with `accessPolicy.newClusterRights`."""
