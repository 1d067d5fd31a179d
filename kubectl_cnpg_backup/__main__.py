"""`python -m kubectl_cnpg_backup`, for a checkout that is not installed."""

import sys

from kubectl_cnpg_backup.cli import main

sys.exit(main())
