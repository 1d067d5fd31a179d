"""Where things lie: the repository's pins, and the cache of what was built from them."""

import fcntl
import os
from collections.abc import Callable
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


def made_once(path: Path, make: Callable[[Path], object]) -> Path:
    """Return a file of the cache, made first where it is missing: complete or absent, never half.

    Several processes may ask for it at once (two workers of a run, two clones): one makes it, the others wait for
    that one and find it.

    Args:
        path: The file, named after all that pins it.
        make: Writes the file that it is given; what it raises leaves nothing behind.
    """
    if path.exists():
        return path
    with path.with_name(f".{path.name}.lock").open("w") as making:
        fcntl.flock(making, fcntl.LOCK_EX)
        if not path.exists():
            partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
            try:
                make(partial)
                partial.rename(path)
            finally:
                partial.unlink(missing_ok=True)
    return path
