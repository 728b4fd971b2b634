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

ROUNDS = 5
CLI = ("-m", "imbal_book.build.cli")
#: Name -> arguments of Python, target in seconds.
COMMANDS = {
    "plan": ((*CLI, "plan"), 0.3),
    "records-list": ((*CLI, "records", "list"), 0.3),
    "help": ((*CLI, "--help"), 0.3),
    "import": (("-c", "import imbal_core"), 0.1),
}


def seconds(arguments: tuple[str, ...]) -> float:
    def used() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return children.ru_utime + children.ru_stime

    before = used()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return used() - before


def main() -> int:
    rounds = [
        {name: seconds(arguments) for name, (arguments, _) in COMMANDS.items()} for _ in range(1 + ROUNDS)
    ][1:]
    best = {name: min(taken[name] for taken in rounds) for name in COMMANDS}
    print(f"lowest (highest) of {ROUNDS} rounds, seconds of processor time")
    for name, value in best.items():
        print(f"{name:<14}{value:>6.3f} ({max(taken[name] for taken in rounds):.3f})")
    for name, (_, target) in COMMANDS.items():
        print(f"start-{name}: {best[name]:.2f} (target {target})")
    return int(any(best[name] > target for name, (_, target) in COMMANDS.items()))


if __name__ == "__main__":
    sys.exit(main())
