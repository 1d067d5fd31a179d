"""What a release is called and where it is published: all of it follows from chart/Chart.yaml and from the commit."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


class ReleaseError(Exception):
    """A release cannot be made; the message names what is in the way and what to do about it."""


@dataclass(frozen=True)
class Project:
    """The addresses of a release.

    Attributes:
        home: The public repository; the one address from which the others follow.
        version: Of the chart, the Python package and the plugin alike.
    """

    home: str
    version: str

    @property
    def owner(self) -> str:
        """Who owns the repository."""
        return self.home.split("/")[-2]

    @property
    def registry(self) -> str:
        """The OCI registry and folder of the chart."""
        return f"oci://ghcr.io/{self.owner}/charts"

    @property
    def tag(self) -> str:
        """The tag of git that publishes this version."""
        return f"v{self.version}"

    @property
    def python_version(self) -> str:
        """The version as Python writes it, and so as the plugin does: 1.0.0rc1 for 1.0.0-rc.1."""
        return self.version.replace("-rc.", "rc").replace("-beta.", "b").replace("-alpha.", "a")

    @property
    def downloads(self) -> str:
        """Where the files of this version can be downloaded."""
        return f"{self.home}/releases/download/{self.tag}"

    def page(self, path: str) -> str:
        """Return the address of a page of the repository, as it is at this version."""
        return f"{self.home}/blob/{self.tag}/{path}"

    def folder(self, path: str) -> str:
        """Return the address of a folder of the repository, as it is at this version."""
        return f"{self.home}/tree/{self.tag}/{path}"

    def raw(self, path: str) -> str:
        """Return the address of a file itself, such as a picture."""
        return f"{self.home}/raw/{self.tag}/{path}"


def read(root: Path = ROOT) -> Project:
    """Read the names of a checkout.

    Raises:
        ReleaseError: `home` is not the address of a repository.
    """
    chart = yaml.safe_load((root / "chart" / "Chart.yaml").read_text())
    home = str(chart.get("home", "")).rstrip("/")
    if not home.startswith("https://") or home.count("/") < 4:
        raise ReleaseError(f"home of chart/Chart.yaml is {home!r}; write https://HOST/OWNER/REPOSITORY")
    return Project(home, str(chart["version"]))


def epoch(root: Path = ROOT) -> int:
    """Return the time that all files of a release have: SOURCE_DATE_EPOCH, or else that of the commit.

    Raises:
        ReleaseError: there is neither.
    """
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given:
        return int(given)
    done = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout.strip():
        raise ReleaseError("this is not a clone of git; set SOURCE_DATE_EPOCH to the seconds of the release's time")
    return int(done.stdout)
