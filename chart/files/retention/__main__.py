"""`python3 -m retention`: see `retention.cli`."""

import gc
import os

from retention.cli.main import main

# A large volume makes hundreds of thousands of records that contain no cycles: the garbage collector would search them
# again and again for nothing. No finalizers need to run either, and `main` has flushed its output.
gc.disable()
os._exit(main())
