"""The fuzz campaign: every parser of files from elsewhere reads damaged files, and what it makes of them is counted.

A case is a parser's intact files with one of them damaged. Its number and the seed of the campaign decide it, so that
each can be made again by itself. Cases are read in a process of their own: what ends that process, or never ends, is
counted as well, and a new one goes on with the next case.
"""

from __future__ import annotations

import collections
import contextlib
import multiprocessing
import os
import shutil
import sys
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults.damage import Damage, damage_bytes, damage_for

#: Seconds after which a case is a hang; a busy machine needs some.
LIMIT = 90.0
#: No more than this may be allocated for a small file, in bytes.
MEMORY = 4 * 2**30
OUTCOMES = ("accepted", "refused", "traceback", "wrong", "hang")
#: What may lie in the place of a file, beside damaged content.
PLACES = ("pipe", "folder", "dangling link", "device")
#: Where a file that leads out of its folder would leave something, beside the neighbours of the folder.
OUTSIDE = Path("/x")


class Refused(Exception):
    """A refusal that is no exception of the parser: a warning, an entry in a list."""


@dataclass(frozen=True)
class Parser:
    """A parser of files from elsewhere, and how it is asked.

    ``write`` leaves intact files in a folder. ``read`` reads them, may write into a second folder, and returns what it
    took from them, comparable by ``==``. ``refusal`` are the exceptions that the parser's documentation names.
    ``damaged`` is a pattern of the files to damage, ``summed`` the kinds of damage that a checksum shows ("bytes",
    "fields"), ``fields`` how fields are damaged if not by the suffix of the file, ``share`` the cases of this parser as
    a share of those of others. ``irregular`` says whether pipes and the like are put in the place of a file.
    """

    name: str
    write: Callable[[Path], object]
    read: Callable[[Path, Path], object]
    refusal: tuple[type[Exception], ...] = ()
    damaged: str = "**/*"
    summed: tuple[str, ...] = ()
    fields: Damage | None = None
    share: float = 1.0
    irregular: bool = True


@dataclass
class Tally:
    """What became of the cases of one parser: counts by outcome, and of each kind of fault the first case."""

    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    faults: dict[str, int] = field(default_factory=dict)

    def add(self, number: int, outcome: str, note: str) -> None:
        """Count a case."""
        self.counts[outcome] += 1
        if outcome in ("traceback", "wrong", "hang"):
            self.faults.setdefault(f"{outcome}: {note}", number)


def spoil(parser: Parser, folder: Path, number: int, seed: int) -> tuple[Path, str]:
    """Damage one of the intact files in a folder; return it and the kind of damage."""
    files = sorted(path for path in folder.glob(parser.damaged) if path.is_file())
    path, places = files[number % len(files)], PLACES if parser.irregular else ()
    if number < len(files) * len(places):
        kind = places[number // len(files)]
        path.unlink()
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to("/dev/null" if kind == "device" else folder / "nowhere")
        return path, kind
    rng = np.random.default_rng([seed, zlib.crc32(parser.name.encode()), number])
    kind = "bytes" if rng.random() < 0.5 else "fields"
    damage = damage_bytes if kind == "bytes" else parser.fields or damage_for(path.name)
    path.write_bytes(damage(path.read_bytes(), rng))
    return path, kind


def judge(
    parser: Parser, path: Path, kind: str, intact: object, folder: Path, scratch: Path
) -> tuple[str, str]:
    """Return what the parser makes of a damaged file, one of `OUTCOMES`, and a note on what is a fault."""
    try:
        found = parser.read(folder, scratch)
    except (Refused, *parser.refusal) as error:
        text = f"{type(error).__name__}: {error}"
        if path.name not in text:
            return "traceback", f"a refusal without the name of the file: {text[:160]}"
        if any(isinstance(cause, MemoryError) for cause in _causes(error)):
            return "traceback", f"the size in a header was believed: {text[:160]}"
        return "refused", ""
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return "traceback", _where(error)
    if kind in parser.summed and found != intact:
        return "wrong", f"{path.name} is read as something else than it was"
    return "accepted", ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _where(error: BaseException) -> str:
    """Return an exception with the last line of the project that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/imbal_" in frame.filename] or frames
    text = f"{error}".splitlines()[0][:100] if str(error) else ""
    return f"{type(error).__name__} in {Path(own[-1].filename).name}:{own[-1].name}: {text}"


def _read_cases(parser: Parser, base: Path, numbers: range, seed: int, answers: Any) -> None:
    """Read cases one after the other, and send what became of each."""
    import resource

    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, resource.RLIM_INFINITY))
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silence, stream)
    warnings.simplefilter("ignore")
    intact_files, folder, scratch = (base / name for name in ("intact", "files", "scratch"))
    shutil.copytree(intact_files, folder)
    scratch.mkdir(exist_ok=True)
    try:
        intact = parser.read(folder, scratch)
    except Exception as error:
        answers.send((-1, "", _where(error)))
        return
    for number in numbers:
        for place in (folder, scratch):
            shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(intact_files, folder)
        scratch.mkdir()
        path, kind = spoil(parser, folder, number, seed)
        outcome, note = judge(parser, path, kind, intact, folder, scratch)
        if {entry.name for entry in base.iterdir()} != {"intact", "files", "scratch"} or OUTSIDE.exists():
            outcome, note = "wrong", f"{path.name} made the parser write outside its folder"
        answers.send((number, outcome, note))


def campaign(parser: Parser, base: Path, cases: int, *, seed: int = 0, limit: float = LIMIT) -> Tally:
    """Return what one parser made of so many damaged files, in an empty folder ``base``."""
    tally, number = Tally(), 0
    (base / "intact").mkdir(parents=True)
    parser.write(base / "intact")
    context = multiprocessing.get_context("fork")
    while number < cases:
        for place in ("files", "scratch"):
            shutil.rmtree(base / place, ignore_errors=True)
        answers, sender = context.Pipe(duplex=False)
        reader = context.Process(target=_read_cases, args=(parser, base, range(number, cases), seed, sender))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
            reader.start()
        sender.close()
        with contextlib.suppress(EOFError):
            while answers.poll(limit):
                answer = answers.recv()
                if answer[0] < 0:
                    raise RuntimeError(f"{parser.name}: its intact files cannot be read: {answer[2]}")
                tally.add(*answer)
                number = answer[0] + 1
            if number < cases:
                tally.add(number, "hang", f"more than {limit:.0f} s")
                number += 1
        reader.kill() if reader.exitcode is None and number < cases else None
        reader.join()
        if number < cases and reader.exitcode and reader.exitcode != -9:
            tally.add(number, "traceback", f"the reading process ended with {reader.exitcode}")
            number += 1
    return tally


def table(tallies: dict[str, Tally]) -> Iterable[str]:
    """Yield the lines of a table, one for each parser, and below it each kind of fault with its first case."""
    yield f"{'parser':<28}" + "".join(f"{name:>11}" for name in ("cases", *OUTCOMES))
    for name, tally in tallies.items():
        counts = [sum(tally.counts.values()), *(tally.counts[outcome] for outcome in OUTCOMES)]
        yield f"{name:<28}" + "".join(f"{count:>11,}" for count in counts)
    for name, tally in tallies.items():
        for fault, number in tally.faults.items():
            yield f"  {name}, case {number}: {fault}"


def run(
    parsers: list[Parser], folder: Path, cases: int, *, seed: int = 0, limit: float = LIMIT
) -> dict[str, Tally]:
    """Return what each parser made of damaged files; their number is that of a parser whose share is 1."""
    tallies = {}
    for parser in parsers:
        number = max(8, round(cases * parser.share))
        base = folder / parser.name.replace(" ", "_")
        tallies[parser.name] = campaign(parser, base, number, seed=seed, limit=limit)
        counts = ", ".join(f"{count} {outcome}" for outcome, count in tallies[parser.name].counts.items())
        print(
            f"{parser.name}: {counts}",
            *tallies[parser.name].faults.items(),
            sep="\n  ",
            file=sys.stderr,
            flush=True,
        )
    return tallies
