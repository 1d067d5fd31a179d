"""`python3 -m offsite`: see `offsite.cli`."""

import sys

from offsite.cli import main

sys.exit(main())
