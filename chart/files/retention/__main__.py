# Comments are left out here; they are in retention/__main__.py of the project.
import gc
import os
from retention.cli.main import main
gc.disable()
os._exit(main())
