"""`python3 -m retention`: see `retention.cli`."""

import sys

from retention.cli import main

sys.exit(main())
