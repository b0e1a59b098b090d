"""`python -m skimjit` is the program `skimjit`: the one beside this Python, or in PATH.

The package has the engine, not the program: that would be a second copy of it, with a command line's libraries.
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import Optional

MISSING = """\
error: found no program skimjit beside this Python or in PATH, expected one
Build it from a clone with Rust: cargo install --path . --root {root}
In Python, skimjit.inspect, explain, verify, benchmark and report tell the same: help("skimjit")."""


def program() -> Optional[str]:
    """The path of the program."""
    beside = os.path.dirname(os.path.abspath(sys.executable))
    return shutil.which("skimjit", path=beside) or shutil.which("skimjit")


def main() -> int:
    """Becomes the program; returns where there is none."""
    found = program()
    if found is None:
        print(MISSING.format(root=sys.prefix), file=sys.stderr)
        return 2
    sys.stdout.flush()
    os.execv(found, ["skimjit", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
