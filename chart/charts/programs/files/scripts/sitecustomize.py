# Without comments: they are in the project's file of this name.
import os.path
import sys
from importlib.machinery import ModuleSpec, SourceFileLoader
_FOLDER = os.path.dirname(__file__)
class FlatFolder:
 @staticmethod
 def find_spec(name, _path = None, _target = None):
  for module, is_package in ((f"{name}.__init__", True), (name, False)):
   file = f"{_FOLDER}/{module}.py"
   if os.path.isfile(file):
    spec = ModuleSpec(name, SourceFileLoader(name, file), origin=file, is_package=is_package)
    spec.has_location = True
    return spec
  return None
sys.meta_path.append(FlatFolder)
