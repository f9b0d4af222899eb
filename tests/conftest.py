"""Makes what tests of several kinds share, which lies beside this file, importable."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
