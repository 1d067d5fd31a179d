"""Where things lie: the repository's pins, and the cache of what was built from them."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
TOOLS = REPOSITORY / "tools"
CONTAINERFILES = REPOSITORY / "tests" / "e2e" / "images"
MANIFESTS = Path(__file__).resolve().parent / "manifests"


def cache(*parts: str) -> Path:
    """Return a folder of the cache, made where it is missing.

    It is the cache of `tools/build`: `${XDG_CACHE_HOME:-~/.cache}/cnpg-backup`. Nothing in it belongs to a checkout;
    each entry is named after the hash of all that pins it.
    """
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(base, "cnpg-backup", *parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
