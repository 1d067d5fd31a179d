"""`python3 -m retention`: see `retention.cli`."""

import gc
import os

from retention.cli.main import main

# A large volume makes hundreds of thousands of records without a cycle among them, which the collector would look
# through again and again. Nor is there anything in them whose end has to be waited for: `main` has flushed its output.
gc.disable()
os._exit(main())
