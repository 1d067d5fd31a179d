"""Imports from a mounted ConfigMap, which has no folders: `retention.cli.main` is the file `retention.cli.main.py`.

Python imports a module of this name by itself when it starts, and finds it here by PYTHONPATH. A package is the file
`<its name>.__init__.py`. All other modules are found as always: these files come last.
"""

import os.path
import sys
from importlib.machinery import ModuleSpec, SourceFileLoader

_FOLDER = os.path.dirname(__file__)


class FlatFolder:
    """Finds modules whose file is called by their full name."""

    @staticmethod
    def find_spec(name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """Return where a module is, or None if it is not here."""
        for module, is_package in ((f"{name}.__init__", True), (name, False)):
            file = f"{_FOLDER}/{module}.py"
            if os.path.isfile(file):
                spec = ModuleSpec(name, SourceFileLoader(name, file), origin=file, is_package=is_package)
                # A traceback names the file, and shows its lines.
                spec.has_location = True
                return spec
        return None


sys.meta_path.append(FlatFolder)
