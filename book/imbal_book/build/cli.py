"""The command ``imbal``: each command calls one function of the package and prints what came of it.

The package itself is imported inside the commands, because torch takes seconds and ``--help`` should not.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option, echo
from typer.core import TyperGroup

from imbal_book.build.compare_commands import compare_app
from imbal_book.build.data_commands import data_app

if TYPE_CHECKING:
    from imbal_book.run.config import RunConfig
    from imbal_book.run.record_format import Record
    from imbal_book.run.records import RecordStore

__all__ = ["app"]


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP stop a command as Ctrl-C does: with what is kept said, and no process left behind."""

    def stop(number: int, _: object) -> None:
        raise KeyboardInterrupt(number)

    names = ("SIGTERM", "SIGHUP") if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.getsignal(number) for name in names if (number := getattr(signal, name, None))}
    # what nohup has this process ignore stays ignored
    before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _PlainErrors(TyperGroup):
    """Prints an error as one message and exits with 2; ``imbal --debug`` shows the traceback."""

    def invoke(self, ctx: Any) -> Any:
        with warnings.catch_warnings(), _stoppable():
            for stream in (sys.stdout, sys.stderr):  # a console may lack what the name of a file holds
                with contextlib.suppress(AttributeError):
                    stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
            warnings.showwarning = lambda message, *_, **__: echo(f"imbal: note: {message}", err=True)
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt as stop:
                number = stop.args[0] if stop.args else signal.SIGINT
                echo(f"imbal: stopped by {signal.Signals(number).name}", err=True)
                raise typer.Exit(128 + number) from None
            except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
                if ctx.params.get("debug") or isinstance(error, typer.Exit | typer.Abort | BrokenPipeError):
                    raise
                text = str(error) or type(error).__name__
                if isinstance(error, ModuleNotFoundError):
                    text = f"{error.name} is not installed; pip install 'imbal-core[notebooks,book,timm]' brings it"
                echo(f"imbal: {text}", err=True)
                raise typer.Exit(2) from error


_PLAIN: dict[str, Any] = {"add_completion": False, "rich_markup_mode": None, "no_args_is_help": True}
app = typer.Typer(cls=_PlainErrors, pretty_exceptions_enable=False, **_PLAIN)
records_app = typer.Typer(**_PLAIN)
app.add_typer(compare_app)
app.add_typer(data_app, name="data")
app.add_typer(records_app, name="records")

_AnyStudy = Annotated[str | None, Argument(help="A study; without one, all of them.")]
_Profile = Annotated[str, Option(help="The scale: smoke (minutes), laptop (hours) or paper (a GPU).")]
_Only = Annotated[
    str,
    Option(
        help="Only these runs of the grid: FIELD=VALUE, comma-separated. A field given twice accepts both "
        "values. Example: sampler=over-sample,split_seed=0,split_seed=1"
    ),
]
_Results = Annotated[
    Path | None, Option(help="The folder of records; by default results/ of the checkout.", metavar="DIR")
]


@app.callback()
def main(debug: Annotated[bool, Option(help="Show the traceback of an error.")] = False) -> None:
    """Experiments on imbalanced image classification: data, runs, records and the book.

    A study is the grid of runs behind one chapter. A profile is its scale. A run that is recorded is never
    trained again, so every command can be stopped and started again.

    \b
    imbal plan category_centers --profile smoke    what there is to do
    imbal run category_centers --profile smoke     do it
    imbal book                                     build the book

    Exit codes: 0 all went well, 1 a run failed or numbers disagree, 2 something in the command is wrong,
    130 stopped by Ctrl-C, 143 by SIGTERM.
    """


def _store(results: Path | None) -> RecordStore:
    from imbal_book.run.records import RecordStore

    return RecordStore(results)


def _grid(study: str, profile: str, only: str) -> list[RunConfig]:
    from imbal_book import studies
    from imbal_book.grid.selection import select_runs

    return select_runs(studies.build_grid(study, profile), only)


@app.command()
def plan(
    study: _AnyStudy = None,
    profile: _Profile = "smoke",
    only: _Only = "",
    probe: Annotated[
        bool,
        Option("--probe", help="Train each kind of run that was never recorded for 20 s, to tell its time."),
    ] = False,
    results: _Results = None,
) -> None:
    """Show how many runs a study has, how many are recorded, and how long the missing ones may take.

    \b
    imbal plan
    imbal plan category_centers --profile laptop
    """
    from imbal_book.grid import planning
    from imbal_book.studies import STUDIES

    if probe:
        from imbal_book.grid import probe as probing
    store = _store(results)
    seconds = planning.recorded_seconds(store)
    for name in [study] if study else STUDIES:
        it = planning.plan(_grid(name, profile, only), store, seconds, probing.probe if probe else None)
        counts = f"{it.total} runs, {it.recorded} recorded, {len(it.missing)} missing"
        echo(f"{name}, profile {profile}: {counts if it.total else 'no runs'}")
        if it.missing:
            hours = None if it.estimated_seconds is None else it.estimated_seconds / 3600
            echo(f"  {'' if hours is None else f'about {hours:.2f} device-hours: '}{it.basis}")


@app.command()
def run(
    study: Annotated[str | None, Argument(help="A study; not needed with --bundle.")] = None,
    profile: _Profile = "smoke",
    jobs: Annotated[str, Option(help="Processes at once, or auto.", metavar="N|auto")] = "1",
    only: _Only = "",
    minutes: Annotated[
        float | None, Option(min=0, help="Start no run that would end later than this.")
    ] = None,
    bundle: Annotated[
        list[Path] | None,
        Option(help="A file made by `imbal pack`; once per part. No data root is needed.", metavar="FILE"),
    ] = None,
    part: Annotated[
        str,
        Option("--shard", help="Every N-th run from the I-th on: one job of an array of N.", metavar="I/N"),
    ] = "",
    results: _Results = None,
) -> None:
    """Train the runs of a study that are not recorded yet; stop it whenever you like and start it again.

    With --bundle the runs, images and weights come from files, and the records go to ./results, to be brought
    home with `imbal records add`.

    \b
    imbal run category_centers --profile smoke
    imbal run category_centers --profile laptop --only sampler=over-sample,imbalance=zhang-a
    imbal run category_centers --profile paper --shard 2/8
    imbal run --bundle grid-1of2.zip --bundle grid-2of2.zip --minutes 8 --jobs auto
    """
    from imbal_book.grid import batch, selection

    if jobs != "auto" and (not jobs.isdecimal() or int(jobs) < 1):
        raise ValueError(f"--jobs {jobs!r}: expected a positive number or auto")
    root = None
    if bundle:
        from imbal_book.grid.unpacking import open_bundle

        contents = open_bundle(bundle, Path("_build") / "bundles")
        root, results = contents.root, results or Path("results")
        asked = f"study={study},profile={profile}" if study else ""
        grid = selection.select_runs(contents.configs, f"{asked},{only}")
    elif study is None:
        raise ValueError("which study? Give its name (`imbal plan` lists them), or --bundle FILE")
    else:
        grid = _grid(study, profile, only)
    if part:
        grid = selection.shard(grid, part)
    at_once: Any = jobs if jobs == "auto" else int(jobs)
    store = _store(results)
    try:
        report = batch.run_grid(grid, store, jobs=at_once, minutes=minutes, root=root)
    except KeyboardInterrupt:
        kept = f"{len(grid) - len(store.missing(grid))} of {len(grid)} runs are recorded"
        echo(f"stopped: {kept}; a run that was under way keeps the epochs", err=True)
        echo("that it finished. The same command goes on from there.", err=True)
        raise
    left = f", {report.left} left for the next start" if report.left else ""
    echo(f"{report.done} trained, {report.kept} recorded before, {len(report.failed)} failed{left}")
    if report.failed:
        echo("\nfailed runs:", err=True)
        for number, failure in enumerate(report.failed, start=1):
            echo(f"\n{number}. {failure.config.label()}\n{indent(failure.tail, '   | ')}", err=True)
        raise typer.Exit(1)


@app.command()
def pack(
    study: Annotated[str, Argument(help="A study, such as category_centers.")],
    out: Annotated[Path, Option(help="The file to write, such as grid.zip.", metavar="FILE")],
    profile: _Profile = "smoke",
    max_mb: Annotated[float, Option(help="Largest size of a part, in megabytes.")] = 60,
    only: _Only = "",
    results: _Results = None,
) -> None:
    """Write the missing runs of a study with their images and weights into files for another machine.

    There, a checkout of this repository is enough: python -m imbal_book.build.cli run --bundle FILE

    \b
    imbal pack category_centers --profile paper --out grid.zip
    """
    from imbal_book.grid import bundle

    for path in bundle.pack(_grid(study, profile, only), _store(results), out, max_mb=max_mb):
        echo(f"{path}  {path.stat().st_size / 1e6:.1f} MB")


@records_app.callback()
def records() -> None:
    """List records, or add those that come back from another machine."""


@records_app.command("add")
def records_add(
    path: Annotated[Path, Argument(help="A zip or a folder of records.")], results: _Results = None
) -> None:
    """Add the records of a zip or a folder; foreign, torn and contradicting ones are refused by name.

    \b
    imbal records add results-from-the-gpu.zip
    """
    report = _store(results).add(path)
    echo(f"{len(report.added)} added, {len(report.same)} there already, {len(report.refused)} refused")
    for name, reason in report.refused:
        echo(f"  refused {name}: {reason}", err=True)
    if report.refused:
        raise typer.Exit(1)


@records_app.command("list")
def records_list(study: _AnyStudy = None, results: _Results = None) -> None:
    """Show one line per record: study, profile, key, what it is and how many seconds it took.

    \b
    imbal records list category_centers
    """
    from imbal_book.run.config import RunConfig
    from imbal_book.studies import known_study

    found = _store(results).listing(study and known_study(study))
    for key, fields, seconds in found:
        config = RunConfig.from_dict(fields)
        echo(f"{config.study}  {config.profile:6}  {key}  {seconds:8.1f} s  {config.label()}")
    echo(f"{len(found)} records")


@app.command()
def notebook(
    name: Annotated[str, Argument(help="A chapter, such as category_centers.")],
    parameter: Annotated[
        list[str] | None, Option("-p", "--parameter", help="KEY=VALUE; may be given several times.")
    ] = None,
    out: Annotated[
        Path | None, Option(help="Where the executed copy goes; by default below _build/.", metavar="FILE")
    ] = None,
) -> None:
    """Execute one chapter with papermill, with parameters of your own.

    \b
    imbal notebook category_centers -p PROFILE=smoke -p LIVE=false
    """
    from imbal_book.build import book, notebooks
    from imbal_book.build.parameters import parse_parameters

    source = book.find_notebook(name)
    root = source.parents[1]
    target = out or root / "_build" / "notebooks" / source.name
    # with the checkout's records in its digest, `imbal book` keeps the copy that a cluster's job made
    echo(notebooks.run_notebook(source, target, parse_parameters(parameter or []), repo=root))


@app.command("book")
def build(
    live: Annotated[bool, Option(help="Train each chapter's small live section.")] = True,
    profile: Annotated[str, Option(help="The records to show: best, smoke, laptop or paper.")] = "best",
    train: Annotated[bool, Option("--train", help="Train what the profile lacks.")] = False,
    jobs: Annotated[
        int | None, Option(min=1, help="Notebooks at once; by default one per core, one with --train.")
    ] = None,
) -> None:
    """Execute every chapter and build the book: _build/html/index.html.

    \b
    imbal book                                     with a live run on the embedded digits
    imbal book --no-live                           replay the records only
    """
    from imbal_book.build import book

    book.build_book(live=live, profile=profile, train=train, jobs=jobs)


@app.command()
def verify(
    study: _AnyStudy = None,
    sample: Annotated[int, Option(min=1, help="How many records to run again.")] = 3,
    seed: Annotated[int, Option(help="Which sample.")] = 0,
    profile: _Profile = "laptop",
    results: _Results = None,
) -> None:
    """Run a sample of records again and compare the numbers with the recorded ones.

    On the same kind of CPU with the same versions they must be equal to the last digit; elsewhere what they
    lead to may differ as two seeds do, and the output says by how much it does and might.

    \b
    imbal verify --sample 3
    """
    from imbal_book.grid import verify as verification

    def announce(chosen: list[Record], expected: tuple[float, float]) -> None:
        for record in chosen:
            seconds = record.provenance["seconds"]
            echo(f"{record.key}  {record.run_config().label()} (took {seconds:.0f} s)", err=True)
        recorded, most = (f"{seconds / 60:.1f} min" for seconds in expected)
        frozen = f", up to {most} where features of a frozen network are not at hand"
        echo(f"about {recorded} on a machine like theirs{frozen if most != recorded else ''}", err=True)

    store = _store(results)
    report = verification.verify(store, sample, study=study, profile=profile, seed=seed, announce=announce)
    for check in report.checks:
        echo(f"{'agrees  ' if check.agrees else 'DIFFERS '} {check.key}  {check.label}: {check.detail}")
    agreeing = sum(check.agrees for check in report.checks)
    echo(f"{agreeing} of {len(report.checks)} agree (drawn from {report.population} records)")
    if not report.agrees:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
