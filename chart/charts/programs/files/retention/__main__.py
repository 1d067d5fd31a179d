# Without comments: they are in the project's file of this name.
import gc
import os
from retention.cli.main import main
gc.disable()
os._exit(main())
