"""The command ``imbal``: each command calls one function of the package and prints what came of it.

The package itself is imported inside the commands, because torch takes seconds and ``--help`` should not.
"""

# A backspace in a docstring keeps the lines below it as they are in --help; a raw string could not hold it.
# ruff: noqa: D301

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from imbal_core._checks.names import unknown_name

if TYPE_CHECKING:
    from imbal_book.grid.batch import GridReport
    from imbal_book.run.config import RunConfig
    from imbal_core.data.datasets import ImageDataset

__all__ = ["app"]


class _PlainErrors(TyperGroup):
    """Prints an error as one message and exits with 2; ``imbal --debug`` shows the traceback."""

    def invoke(self, ctx: Any) -> Any:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            try:
                return super().invoke(ctx)
            except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
                if ctx.params.get("debug") or isinstance(error, typer.Exit | typer.Abort):
                    raise
                typer.echo(f"imbal: {_message(error)}", err=True)
                raise typer.Exit(2) from error


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    typer.echo(f"imbal: note: {message}", err=True)


def _message(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed; pip install 'imbal-core[notebooks,book,timm]' brings it"
    return str(error) or type(error).__name__


class _DataGroup(TyperGroup):
    """``imbal data NAME`` is short for the hidden command ``imbal data show NAME``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = ["show", *args]
        return super().parse_args(ctx, args)


_PLAIN: dict[str, Any] = {"add_completion": False, "rich_markup_mode": None, "no_args_is_help": True}
app = typer.Typer(cls=_PlainErrors, pretty_exceptions_enable=False, **_PLAIN)
data_app = typer.Typer(cls=_DataGroup, rich_markup_mode=None)
records_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(records_app, name="records")

_Study = Annotated[str, typer.Argument(help="A study, such as category_centers.")]
_AnyStudy = Annotated[str | None, typer.Argument(help="A study; without one, all of them.")]
_Profile = Annotated[str, typer.Option(help="The scale: smoke (minutes), laptop (hours) or paper (a GPU).")]
_Only = Annotated[
    str,
    typer.Option(
        help="Only these runs of the grid: FIELD=VALUE, comma-separated. A field given twice accepts both "
        "values. Example: sampler=over-sample,split_seed=0,split_seed=1"
    ),
]
_Results = Annotated[
    Path | None,
    typer.Option(help="The folder of records; by default results/ of the checkout.", metavar="DIR"),
]


@app.callback()
def main(debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False) -> None:
    """Experiments on imbalanced image classification: data, runs, records and the book.

    A study is the grid of runs behind one chapter. A profile is its scale. A run that is recorded is never
    trained again, so every command can be stopped and started again.

    \b
    imbal plan category_centers --profile smoke    what there is to do
    imbal run category_centers --profile smoke     do it
    imbal book                                     build the book

    Exit codes: 0 all went well, 1 a run failed or numbers disagree, 2 something in the command is wrong.
    """


@data_app.callback()
def data() -> None:
    """Prepare images in the data root ($IMBAL_DATA, else ~/.cache/imbal_core), or list what there is.

    \b
    imbal data                                     list the data sets
    imbal data cifar10                             download and prepare one
    imbal data cifar10 --from cifar-10-python.tar.gz
    imbal data plantvillage                        download leaves (2.2 GB), and list what is odd about them
    imbal data folder:my_images                    check a folder with one sub-folder per class
    imbal data splits cifar10 --imbalance exponential-100 --seeds 0-2 --out splits
    """


@data_app.command("show", hidden=True)
def data_show(
    name: Annotated[str | None, typer.Argument(help="A data set, or folder:PATH.")] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="An archive or a folder with the files, instead of a download."),
    ] = None,
    sha256: Annotated[
        str | None,
        typer.Option(help="Of PlantVillage's archive: what it must have, instead of what is recorded."),
    ] = None,
    list_all: Annotated[
        bool, typer.Option("--list", help="List the data sets and whether they are here.")
    ] = False,
) -> None:
    """Prepare a data set and show its classes, counts and fingerprint.

    \b
    imbal data cifar10
    imbal data cifar10 --from cifar-10-python.tar.gz
    imbal data plantvillage --from PlantVillage-Dataset/raw/color
    imbal data plantvillage-apple:Black_rot
    """
    from imbal_core.data.datasets import has_test_side, list_datasets, load_dataset, prepared_path
    from imbal_core.data.plantvillage import is_plantvillage
    from imbal_core.data.root import data_root

    if name is None or list_all:
        typer.echo(f"data root: {data_root()}")
        for known in list_datasets():
            sides = ("train", "test") if has_test_side(known) else ("train",)
            here = all(prepared_path(known, split).is_file() for split in sides)
            typer.echo(f"  {known:19} {'prepared' if here else 'not here yet'}")
        typer.echo("  folder:PATH         your own images, one sub-folder per class")
        return
    if name == "plantvillage" or is_plantvillage(name):
        _show_plantvillage(data_root(), name, source, sha256)
        return
    if sha256 is not None:
        raise ValueError(f"--sha256: only PlantVillage's archive is checked by it, not {name}")
    own = name.startswith("folder:")
    if not own and name not in list_datasets():
        raise unknown_name("dataset", name, [*list_datasets(), "plantvillage", "folder:PATH"])
    if source is not None:
        _copy_into(data_root(), name, source)
    train = load_dataset(name, "train", download=source is None)
    _show_dataset(train)
    # a folder without train/ and test/ has no test images, and a run says so; here it is no error
    folder = Path(name.removeprefix("folder:")).expanduser()
    if (folder / "test").is_dir() if own else has_test_side(name):
        _show_dataset(load_dataset(name, "test", download=source is None))


def _show_plantvillage(root: Path, name: str, source: Path | None, sha256: str | None) -> None:
    """Take PlantVillage into the data root where that is asked for or needed; show one plant, or all there are."""
    from imbal_core.data.datasets import load_dataset
    from imbal_core.data.plantvillage import PLANT_FOLDERS, describe, prepared_name
    from imbal_core.data.plantvillage_files import download_plantvillage, install_plantvillage

    if name != "plantvillage":
        prepared_name(name, 128)  # names a mistyped disease before anything is copied
    color = root / "plantvillage" / "color"
    if source is not None:
        install_plantvillage(source, root, sha256=sha256)
    elif not color.exists():
        download_plantvillage(root, sha256=sha256)
    elif sha256 is not None:
        raise ValueError(
            f"--sha256: nothing is downloaded, the images are in {color}; remove it to start anew"
        )
    names = [name]
    if name == "plantvillage":
        here = [p for p, prefix in PLANT_FOLDERS.items() if (color / f"{prefix}___healthy").is_dir()]
        names = [f"plantvillage-{plant}" for plant in here or PLANT_FOLDERS]
    for plant in names:
        _show_dataset(load_dataset(plant, "train"))
        for line in describe(plant, root):
            typer.echo(f"  {line}")


def _copy_into(root: Path, name: str, source: Path) -> None:
    """Unpack an archive into the data root, or copy a folder (such as cifar-10-batches-py) or a file."""
    import shutil
    import tarfile
    import zipfile

    from imbal_core.data.archives import safe_extract

    if not source.exists():
        raise FileNotFoundError(f"--from {source}: no such file or folder")
    if source.is_dir():
        shutil.copytree(source, root / source.resolve().name, dirs_exist_ok=True)
    elif tarfile.is_tarfile(source) or zipfile.is_zipfile(source) and source.suffix != ".npz":
        safe_extract(source, root)
    else:
        (root / name).mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, root / name / source.name)


def _show_dataset(dataset: ImageDataset) -> None:
    number, height, width, _ = dataset.images.shape
    counts = dataset.class_counts
    typer.echo(
        f"{dataset.name} {dataset.split}: {number:,} images of {width}x{height}, {dataset.num_classes} classes "
        f"of {counts.min():,} to {counts.max():,}, fingerprint {dataset.fingerprint[:16]}"
    )


@data_app.command("splits")
def data_splits(
    name: Annotated[str, typer.Argument(help="A data set, or folder:PATH.")],
    imbalance: Annotated[
        list[str],
        typer.Option(help="zhang-a, exponential-100, step-10, balanced, natural ...; may be repeated."),
    ],
    out: Annotated[Path, typer.Option(help="The folder to write to.", metavar="DIR")],
    seeds: Annotated[str, typer.Option(help="Split seeds: 0, or 0-2, or 0,3,7.")] = "0",
    by_group: Annotated[
        bool, typer.Option(help="Keep the images of one group, such as a leaf, on one side.")
    ] = False,
) -> None:
    """Write the image indices of splits as JSON files, for others to cite and to use with plain torchvision.

    \b
    imbal data splits cifar10 --imbalance zhang-a --imbalance exponential-100 --seeds 0-2 --out splits
    """
    from imbal_core.data.datasets import load_dataset
    from imbal_core.data.split_files import export_splits

    numbers = _parse_seeds(seeds)
    dataset = load_dataset(name, "train")
    for path in export_splits(dataset, name, imbalance, numbers, out, by_group=by_group):
        typer.echo(path)


def _parse_seeds(text: str) -> list[int]:
    """Return whole numbers from ``0-2,5``."""
    numbers: list[int] = []
    for item in text.split(","):
        first, dash, last = item.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"seeds {text!r}: expected whole numbers such as 0, 0-2 or 0,3,7")
        numbers += range(int(first), int(last if dash else first) + 1)
    if not numbers:
        raise ValueError(f"seeds {text!r}: the range is empty")
    return numbers


@app.command()
def plan(
    study: _AnyStudy = None, profile: _Profile = "smoke", only: _Only = "", results: _Results = None
) -> None:
    """Show how many runs a study has, how many are recorded, and how long the missing ones may take.

    \b
    imbal plan
    imbal plan category_centers --profile laptop
    """
    from imbal_book.grid import batch
    from imbal_book.run.records import RecordStore
    from imbal_book.studies import STUDIES, build_grid

    store = RecordStore(results)
    for name in [study] if study else STUDIES:
        grid = build_grid(name, profile)
        if not grid:
            typer.echo(f"{name}, profile {profile}: no runs")
            continue
        it = batch.plan(_filtered(grid, only), store)
        typer.echo(
            f"{name}, profile {profile}: {it.total} runs, {it.recorded} recorded, {len(it.missing)} missing"
        )
        if it.missing:
            hours = (
                ""
                if it.estimated_seconds is None
                else f"about {it.estimated_seconds / 3600:.2f} device-hours: "
            )
            typer.echo(f"  {hours}{it.basis}")


def _filtered(grid: list[RunConfig], only: str) -> list[RunConfig]:
    """Return the runs whose fields have the asked values, ``only`` being ``FIELD=VALUE,FIELD=VALUE``."""
    if not only.strip():
        return grid
    wanted: dict[str, set[str]] = {}
    for item in only.split(","):
        field, equals, value = (text.strip() for text in item.partition("="))
        if not equals:
            raise ValueError(f"--only {only!r}: {item!r} is not FIELD=VALUE, such as sampler=over-sample")
        if field not in grid[0].to_dict():
            raise unknown_name("field of a run", field, grid[0].to_dict())
        values = {str(config.to_dict()[field]).lower() for config in grid}
        if value.lower() not in values:
            raise unknown_name(f"{field} in this grid", value, values)
        wanted.setdefault(field, set()).add(value.lower())
    kept = [
        config
        for config in grid
        if all(str(config.to_dict()[field]).lower() in values for field, values in wanted.items())
    ]
    if not kept:
        raise ValueError(f"--only {only!r}: each value occurs in the grid, but no run has all of them")
    return kept


@app.command()
def run(
    study: Annotated[str | None, typer.Argument(help="A study; not needed with --bundle.")] = None,
    profile: _Profile = "smoke",
    jobs: Annotated[str, typer.Option(help="Processes at once, or auto.", metavar="N|auto")] = "1",
    only: _Only = "",
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Start no run that would end later than this.")
    ] = None,
    bundle: Annotated[
        list[Path] | None,
        typer.Option(
            help="A file made by `imbal pack`; once per part. No data root is needed.", metavar="FILE"
        ),
    ] = None,
    results: _Results = None,
) -> None:
    """Train the runs of a study that are not recorded yet; stop it whenever you like and start it again.

    With --bundle the runs, images and weights come from files, and the records go to ./results, to be brought
    home with `imbal records add`.

    \b
    imbal run category_centers --profile smoke
    imbal run category_centers --profile laptop --only sampler=over-sample,imbalance=zhang-a
    imbal run --bundle grid-1of2.zip --bundle grid-2of2.zip --minutes 8 --jobs auto
    """
    from imbal_book.grid.batch import run_grid
    from imbal_book.run.records import RecordStore
    from imbal_book.studies import build_grid

    root = None
    if bundle:
        from imbal_book.grid.bundle import open_bundle

        contents = open_bundle(bundle, Path("_build") / "bundles")
        grid, root = contents.configs, contents.root
        results = results or Path("results")
        if study is not None:
            build_grid(study, profile)  # refuses a mistyped name
            grid = [config for config in grid if (config.study, config.profile) == (study, profile)]
            if not grid:
                raise ValueError(f"the bundle has no runs of {study}, profile {profile}")
    elif study is None:
        raise ValueError("which study? Give its name (`imbal plan` lists them), or --bundle FILE")
    else:
        grid = build_grid(study, profile)
    report = run_grid(
        _filtered(grid, only), RecordStore(results), jobs=_parse_jobs(jobs), minutes=minutes, root=root
    )
    _show_report(report)


def _parse_jobs(text: str) -> Any:
    if text == "auto":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"--jobs {text!r}: expected a positive number or auto")
    return int(text)


def _show_report(report: GridReport) -> None:
    left = f", {report.left} left for the next start" if report.left else ""
    typer.echo(f"{report.done} trained, {report.kept} recorded before, {len(report.failed)} failed{left}")
    if report.failed:
        typer.echo("\nfailed runs:", err=True)
        for number, failure in enumerate(report.failed, start=1):
            typer.echo(f"\n{number}. {failure.config.label()}", err=True)
            typer.echo("\n".join(f"   | {line}" for line in failure.tail.splitlines()), err=True)
        raise typer.Exit(1)


@app.command()
def pack(
    study: _Study,
    out: Annotated[Path, typer.Option(help="The file to write, such as grid.zip.", metavar="FILE")],
    profile: _Profile = "smoke",
    max_mb: Annotated[float, typer.Option(help="Largest size of a part, in megabytes.")] = 60,
    only: _Only = "",
    results: _Results = None,
) -> None:
    """Write the missing runs of a study with their images and weights into files for another machine.

    There, a checkout of this repository is enough: python -m imbal_book.build.cli run --bundle FILE

    \b
    imbal pack category_centers --profile paper --out grid.zip
    """
    from imbal_book.grid import bundle
    from imbal_book.run.records import RecordStore
    from imbal_book.studies import build_grid

    grid = _filtered(build_grid(study, profile), only)
    for path in bundle.pack(grid, RecordStore(results), out, max_mb=max_mb):
        typer.echo(f"{path}  {path.stat().st_size / 1e6:.1f} MB")


@records_app.callback()
def records() -> None:
    """List records, or add those that come back from another machine."""


@records_app.command("add")
def records_add(
    path: Annotated[Path, typer.Argument(help="A zip or a folder of records.")], results: _Results = None
) -> None:
    """Add the records of a zip or a folder; foreign, torn and contradicting ones are refused by name.

    \b
    imbal records add results-from-the-gpu.zip
    """
    from imbal_book.run.records import RecordStore

    report = RecordStore(results).add(path)
    typer.echo(f"{len(report.added)} added, {len(report.same)} there already, {len(report.refused)} refused")
    for name, reason in report.refused:
        typer.echo(f"  refused {name}: {reason}", err=True)
    if report.refused:
        raise typer.Exit(1)


@records_app.command("list")
def records_list(study: _AnyStudy = None, results: _Results = None) -> None:
    """Show one line per record: study, profile, key, what it is and how many seconds it took.

    \b
    imbal records list category_centers
    """
    from imbal_book.run.records import RecordStore
    from imbal_book.studies import get_study

    if study is not None:
        get_study(study)
    found = RecordStore(results).read(study)
    for record in found:
        config = record.run_config()
        seconds = float(record.provenance["seconds"])
        typer.echo(f"{config.study}  {config.profile:6}  {record.key}  {seconds:8.1f} s  {config.label()}")
    typer.echo(f"{len(found)} records")


@app.command()
def notebook(
    name: Annotated[str, typer.Argument(help="A chapter, such as category_centers.")],
    parameter: Annotated[
        list[str] | None, typer.Option("-p", "--parameter", help="KEY=VALUE; may be given several times.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Where the executed copy goes; by default below _build/.", metavar="FILE"),
    ] = None,
) -> None:
    """Execute one chapter with papermill, with parameters of your own.

    \b
    imbal notebook category_centers -p PROFILE=smoke -p LIVE=false
    """
    from imbal_book.build import execute

    source = execute.find_notebook(name)
    target = out or source.parents[1] / "_build" / "notebooks" / source.name
    typer.echo(execute.run_notebook(source, target, execute.parse_parameters(parameter or [])))


@app.command()
def book(
    live: Annotated[bool, typer.Option(help="Train each chapter's small live section.")] = True,
    profile: Annotated[str, typer.Option(help="The records to show: best, smoke, laptop or paper.")] = "best",
    train: Annotated[bool, typer.Option("--train", help="Train what the profile lacks.")] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Notebooks at once; by default one per core, one with --train.")
    ] = None,
) -> None:
    """Execute every chapter and build the book: _build/html/index.html.

    \b
    imbal book                                     with a live run on the embedded digits
    imbal book --no-live                           replay the records only
    """
    from imbal_book.build.execute import build_book

    build_book(live=live, profile=profile, train=train, jobs=jobs)


@app.command()
def verify(
    study: _AnyStudy = None,
    sample: Annotated[int, typer.Option(min=1, help="How many records to run again.")] = 3,
    seed: Annotated[int, typer.Option(help="Which sample.")] = 0,
    profile: _Profile = "laptop",
    results: _Results = None,
) -> None:
    """Run a sample of records again and compare the numbers with the recorded ones.

    On the same kind of CPU with the same versions they must be equal to the last digit; elsewhere within a
    tolerance, and the output says so.

    \b
    imbal verify --sample 3
    """
    from imbal_book.grid import verify as verification
    from imbal_book.run.record_format import Record
    from imbal_book.run.records import RecordStore

    def announce(record: Record) -> None:
        label = record.run_config().label()
        typer.echo(f"{record.key}  {label} (took {record.provenance['seconds']:.0f} s)", err=True)

    report = verification.verify(
        RecordStore(results), sample, study=study, profile=profile, seed=seed, announce=announce
    )
    for check in report.checks:
        typer.echo(f"{'agrees  ' if check.agrees else 'DIFFERS '} {check.key}  {check.label}: {check.detail}")
    agreeing = sum(check.agrees for check in report.checks)
    typer.echo(f"{agreeing} of {len(report.checks)} agree (drawn from {report.population} records)")
    if not report.agrees:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
