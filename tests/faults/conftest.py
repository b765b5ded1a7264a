"""The harness is a program of its own, ``python -m tests.faults``: its modules are found from the root."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
