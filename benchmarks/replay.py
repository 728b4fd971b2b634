"""Seconds on the clock that the book takes from a clean build without live training: notebooks, figures and pages.

What was built before is deleted first, as by ``make clean``.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measured import Measured, report


def main() -> int:
    root = Path(__file__).parents[1]
    shutil.rmtree(root / "_build", ignore_errors=True)
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "imbal_book.build.cli", "book", "--no-live"], cwd=root, check=True)
    taken = time.perf_counter() - start
    return report({"replay-book": Measured(taken, taken, taken)})


if __name__ == "__main__":
    sys.exit(main())
