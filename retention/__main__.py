"""`python3 -m retention`: see `retention.cli`."""

import gc
import sys

from retention.cli import main

# A large volume makes hundreds of thousands of records without a cycle among them, which the collector would look
# through again and again.
gc.disable()
sys.exit(main())
