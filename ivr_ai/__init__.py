"""An AI voice IVR that lives inside FreeSWITCH."""

import sys
from pathlib import Path

__version__ = "0.1.0"

# mod_python3 finds this package by a link in the script directory; its dependencies lie beside the real one.
_site = str(Path(__file__).resolve().parent.parent)
if _site not in sys.path:
    sys.path.append(_site)
