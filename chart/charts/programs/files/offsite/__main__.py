# Without comments: they are in the project's file of this name.
import sys
from offsite.cli import main
sys.exit(main())
