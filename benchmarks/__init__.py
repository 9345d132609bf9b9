"""What the live path and its networks reach on this machine; nothing imports this package."""

import sys
from importlib.util import find_spec

# Said here, in one line, before an import further down says it in twenty.
for _library in ("psutil", "matplotlib"):
    if find_spec(_library) is None:
        print(f"the benchmarks need {_library}; install it with: pip install -e .[dev]", file=sys.stderr)
        raise SystemExit(2)
