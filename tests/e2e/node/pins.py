"""Versions of everything Go: `tools/*/go.mod` is the only place that names them."""

import hashlib
import logging
import os
import re
import subprocess
from pathlib import Path

from tests.e2e.node.errors import NodeError
from tests.e2e.node.paths import TOOLS

_log = logging.getLogger(__name__)


def version(tool: str, module: str) -> str:
    """Return the version, such as `v1.30.0`, at which `tools/<tool>/go.mod` pins a module.

    Raises:
        NodeError: that go.mod does not name the module.
    """
    text = (TOOLS / tool / "go.mod").read_text()
    found = re.search(rf"^\s*(?:require\s+)?{re.escape(module)}\s+(v\S+)", text, re.MULTILINE)
    if found is None:
        raise NodeError(f"tools/{tool}/go.mod does not pin {module}")
    return found[1]


def build(tool: str) -> Path:
    """Build `tools/<tool>` unless that was done before, and return the folder of its binaries.

    Raises:
        NodeError: the build failed; the message holds the end of its output.
    """
    with subprocess.Popen(
        [str(TOOLS / "build"), tool],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    ) as process:
        errors = []
        for line in process.stderr or ():
            errors.append(line)
            if line.startswith("tools/build: "):
                _log.info("%s", line.strip())
        output = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise NodeError(f"tools/build {tool} failed:\n{''.join(errors)[-2000:]}")
    return Path(output.strip())


def module_folder(tool: str, module: str) -> Path:
    """Return the unpacked source of a module that a tool pins, checked against its go.sum."""
    folder = TOOLS / tool
    env = {**os.environ, "GOFLAGS": "-mod=mod"}
    for command in (["go", "mod", "download", module], ["go", "list", "-m", "-f", "{{.Dir}}", module]):
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NodeError(f"{' '.join(command)} in tools/{tool} failed:\n{done.stderr[-2000:]}")
    return Path(done.stdout.strip())


def digest(*parts: str | bytes) -> str:
    """Return a short hash over all that pins something, to name it in the cache."""
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        whole.update(len(data).to_bytes(8, "big") + data)
    return whole.hexdigest()[:16]
