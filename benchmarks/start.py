"""Seconds of processor time that a command takes which only looks at runs and records, its start included.

Each command runs in a process of its own, in turn with the others; the lowest of all rounds counts, since other
processes only ever add time. One round before them leaves byte code and the index of the records.

Of a plan .09 s are Python and typer, .06 s pydantic, which typer loads for the first argument of a command, and .04 s
NumPy, which the class counts of a grid need.
"""

from __future__ import annotations

import resource
import subprocess
import sys

from benchmarks.measured import Measured, report

ROUNDS = 5
CLI = ("-m", "imbal_book.build.cli")
#: Name -> arguments of Python.
COMMANDS = {
    "plan": (*CLI, "plan"),
    "records-list": (*CLI, "records", "list"),
    "help": (*CLI, "--help"),
    "import": ("-c", "import imbal_core"),
}


def seconds(arguments: tuple[str, ...]) -> float:
    def used() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return children.ru_utime + children.ru_stime

    before = used()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return used() - before


def main() -> int:
    rounds = [{name: seconds(arguments) for name, arguments in COMMANDS.items()} for _ in range(1 + ROUNDS)]
    taken = {name: [each[name] for each in rounds[1:]] for name in COMMANDS}
    print(f"lowest (highest) of {ROUNDS} rounds, seconds of processor time")
    for name, values in taken.items():
        print(f"{name:<14}{min(values):>6.3f} ({max(values):.3f})")
    return report(
        {f"start-{name}": Measured(min(values), min(values), max(values)) for name, values in taken.items()}
    )


if __name__ == "__main__":
    sys.exit(main())
