"""The statements of the infrastructure document, which tests name by key; `table.py` makes docs/seed.md of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement.

    Attributes:
        section: The section of the document that makes it.
        text: The statement, in short.
        note: How it is meant here, where it is done otherwise or cannot be shown; empty where it simply holds.
        shown: Whether a test must show it. What only an outside system can show has False, and a note that says so.
        plugin: The command of `kubectl cnpg-backup` that does the same, where the statement is a thing that people do:
            a test must show that, too. It is run as it stands here.
    """

    section: str
    text: str
    note: str = ""
    shown: bool = True
    plugin: str = ""


_OVERVIEW = "Overview"
_ARCHITECTURE = "Architecture"
_RETENTION = "Backup schedule and retention"
_STORAGE = "Storage"
_NETWORK = "Network isolation"
_ACCESS = "Access to the claim (Kyverno)"
_OPERATIONS = "Operations"
_FILES = "Files reference"
_LONGHORN = "Longhorn backup"
_LIFE = "Not in the document: a release's life"

STATEMENTS: Mapping[str, Statement] = {
    "clusters": Statement(
        _OVERVIEW,
        "authelia-postgresql-cnpg, kutt-postgresql-cnpg and plausible-postgresql-cnpg are backed up",
        "they are the default values; any list of clusters replaces them",
    ),
    "pg-dump": Statement(_OVERVIEW, "by pg_dump, to a Longhorn volume"),
    "cronjob": Statement(
        _ARCHITECTURE, "CronJob cnpg-pg-dump-backup in the namespace default", "for a release cnpg-backup there"
    ),
    "image": Statement(
        _ARCHITECTURE,
        "image postgres:16-alpine",
        "a database of another major version names its own image, and gets its own CronJob",
    ),
    "port": Statement(_ARCHITECTURE, "each cluster is dumped over port 5432"),
    "claim": Statement(_ARCHITECTURE, "claim cnpg-backups-pvc of 15Gi"),
    "encrypted": Statement(
        _ARCHITECTURE,
        "encrypted, by the storage class longhorn-encrypted",
        "the section Storage says the opposite and why, so `longhorn` is the default; this one is a value",
    ),
    "layout": Statement(_ARCHITECTURE, "/backups/authelia/authelia-20241226-140000.dump, and so on for each database"),
    "schedule": Statement(_RETENTION, "every 2 hours (`0 */2 * * *`)"),
    "hourly": Statement(_RETENTION, "6 hourly backups of the last 12 hours"),
    "twelve-hourly": Statement(
        _RETENTION,
        "4 twelve-hourly backups from 12 to 48 hours",
        "three fit between the two ages; the fourth place is for a backup on its way to the next tier",
    ),
    "daily": Statement(_RETENTION, "5 daily backups older than 48 hours"),
    "reach": Statement(
        _RETENTION, "back to 7 days ago", "6 to 7 days, depending on the time of day: five daily ones after two days"
    ),
    "most": Statement(_RETENTION, "at most 15 backups of a database, 45 of all three"),
    "class": Statement(_STORAGE, "claim cnpg-backups-pvc of the storage class longhorn"),
    "unencrypted": Statement(_STORAGE, "unencrypted at rest: an archive is read without any key"),
    "guarded": Statement(_STORAGE, "access restricted by a Kyverno policy"),
    "selector": Statement(_NETWORK, "a NetworkPolicy selects the pods with app=cnpg-backup"),
    "ingress": Statement(_NETWORK, "nothing may connect to them"),
    "dns": Statement(
        _NETWORK,
        "they may ask name servers (UDP and TCP 53)",
        "and 5353, 8053 and 1053, where other platforms' name servers listen",
    ),
    "egress": Statement(_NETWORK, "they may reach the three clusters on port 5432"),
    "no-egress": Statement(_NETWORK, "they may reach nothing else"),
    "policy": Statement(
        _ACCESS,
        "ClusterPolicy restrict-cnpg-backup-pvc-access",
        "a ValidatingPolicy of that name, which Kyverno 1.17 and newer have, and a ValidatingAdmissionPolicy, which "
        "needs no Kyverno; a ClusterPolicy by value",
    ),
    "enforce": Statement(_ACCESS, "it blocks pods that violate it"),
    "allow": Statement(
        _ACCESS,
        "pods with the label app=cnpg-backup may mount the claim",
        "those of the CronJob, and those of people who hold a grant: anyone who creates a pod can write the label. "
        "With `accessPolicy.mode: weak-label` it is the label alone; [security.md](security.md) shows what that allows",
    ),
    "deny": Statement(_ACCESS, "all other pods may not", "except those of people who hold the grant"),
    "manual": Statement(
        _OPERATIONS,
        "`kubectl create job --from=cronjob/cnpg-pg-dump-backup cnpg-backup-manual -n default` makes a backup now",
        plugin="kubectl cnpg-backup run -n default",
    ),
    "logs": Statement(
        _OPERATIONS,
        "`kubectl logs -f job/cnpg-backup-manual -n default` shows its log",
        plugin="kubectl cnpg-backup logs -n default",
    ),
    "list": Statement(
        _OPERATIONS,
        'a temporary pod lists the backups: `find /backups -name "*.dump" -exec ls -lh {} \\;`',
        "for anyone who holds the grant; the document's own policy, which goes by the label, would refuse its own pod. "
        "The notes of `helm install` print one that satisfies Pod Security",
        plugin="kubectl cnpg-backup list -n default",
    ),
    "restore": Statement(
        _OPERATIONS,
        "an archive is restored into the cluster that it came from",
        "a CloudNativePG pod refuses `-U authelia`, because inside it only the system user may connect; "
        "[restore.md](restore.md) has the command that works",
        plugin="kubectl cnpg-backup restore authelia --replace --yes -n default",
    ),
    "new-cluster": Statement(
        _OPERATIONS,
        "an archive is copied out with `kubectl cp`, and a new cluster is created from it",
        "without `-U authelia`, for the same reason",
        plugin="kubectl cnpg-backup new-cluster authelia --name authelia-2 --yes -n default",
    ),
    "file-cronjob": Statement(
        _FILES, "cnpg-backup.cronjob.yaml: the backup job", "chart/templates/cronjob-backup.yaml"
    ),
    "file-pvc": Statement(_FILES, "cnpg-backup.pvc.yaml: storage for the dumps", "chart/templates/pvc.yaml"),
    "file-network": Statement(
        _FILES, "cnpg-backup.networkpolicy.yaml: network isolation", "chart/templates/networkpolicy.yaml"
    ),
    "file-policy": Statement(
        _FILES, "cnpg-backup-pvc.policy.yaml: who may mount the claim", "chart/templates/access-kyverno.yaml"
    ),
    "longhorn": Statement(
        _LONGHORN,
        "Longhorn backs the volume up to external storage",
        "Longhorn's work, not shown here; the labels that the chart sets on the claim for its recurring jobs are shown",
    ),
    "portable": Statement(
        _LONGHORN, "such a backup is unencrypted and portable: the files alone are enough to restore"
    ),
    "offsite": Statement(
        _LONGHORN,
        "offsite copies are encrypted by the backup target",
        "a setting of Longhorn, not of the chart",
        shown=False,
    ),
    "helm-test": Statement(_LIFE, "`helm test` reports for each database whether it could be dumped now"),
    "upgrade": Statement(_LIFE, "`helm upgrade` leaves a run under way alone, and the next one has the new values"),
    "uninstall": Statement(_LIFE, "`helm uninstall` keeps the claim and its backups; a reinstall adopts them"),
    "two": Statement(_LIFE, "two releases in one namespace share nothing, and Helm 3 installs as Helm 4 does"),
}
