"""The plugin as krew installs it: a manifest, which an index of plugins holds."""

from __future__ import annotations

import hashlib
from pathlib import Path

import yaml

from lab.release.project import Project

CAVEATS = """\
The plugin is a Python program: it needs Python 3.11 or newer as `python3` on PATH.
At its first start it unpacks itself into ~/.shiv; set SHIV_ROOT for another folder.
"""

DESCRIPTION = """\
Runs, lists, verifies and restores the logical backups that the Helm chart cnpg-backup
makes of CloudNativePG databases: run, status, list, restore, undelete, drill, download,
open, discover, doctor and more.
"""


def manifest(project: Project, archive: Path, downloads: str) -> str:
    """Return the manifest of the plugin, whose archive can be downloaded from an address.

    One archive serves all systems: it is a Python program, and what is compiled in it is replaced by Python where it
    does not fit.
    """
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    platform = {
        "selector": {"matchExpressions": [{"key": "os", "operator": "In", "values": ["linux", "darwin"]}]},
        "uri": f"{downloads}/{archive.name}",
        "sha256": digest,
        "bin": "kubectl-cnpg_backup",
        "files": [{"from": "kubectl-cnpg_backup", "to": "."}, {"from": "LICENSE", "to": "."}],
    }
    return yaml.safe_dump(
        {
            "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
            "kind": "Plugin",
            "metadata": {"name": "cnpg-backup"},
            "spec": {
                "version": project.tag,
                "homepage": project.home,
                "shortDescription": "Backups of CloudNativePG databases that restore",
                "description": DESCRIPTION,
                "caveats": CAVEATS,
                "platforms": [platform],
            },
        },
        sort_keys=False,
        width=120,
    )
