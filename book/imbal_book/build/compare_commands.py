"""The commands ``imbal compare``, which remedy helps on a folder of images, and of its model: predict and export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option, echo

__all__ = ["compare_app"]

compare_app = typer.Typer(rich_markup_mode=None)
_Model = Annotated[Path, Argument(help="The folder that imbal compare wrote, or its folder model.")]


@compare_app.command()
def compare(
    folder: Annotated[
        Path,
        Argument(help="Class folders, train/ and test/ with class folders, or a CSV of path,label[,group]."),
    ],
    out: Annotated[
        Path | None, Option(help="The folder of the report; by default compare-NAME here.", metavar="DIR")
    ] = None,
    metric: Annotated[
        str, Option(help="balanced-accuracy, worst-class, harmonic-mean, macro-f1 or accuracy.")
    ] = "balanced-accuracy",
    focus: Annotated[str | None, Option(help="A class whose F1 is what counts.", metavar="CLASS")] = None,
    prior: Annotated[
        list[str] | None,
        Option(
            help="Share of a class where the model will be used, for accuracy and costs.",
            metavar="CLASS=SHARE",
        ),
    ] = None,
    costs: Annotated[
        Path | None,
        Option(help="CSV of costs, true classes down, predicted ones across: they count.", metavar="FILE"),
    ] = None,
    backbone: Annotated[
        str | None, Option(help="The network that reads the images, such as resnet34 or timm:NAME.")
    ] = None,
    repeats: Annotated[int, Option(min=3, help="Repeated splits.")] = 15,
    seed: Annotated[int, Option(help="Of splits and first weights.")] = 0,
    fine_tune: Annotated[
        bool, Option("--fine-tune", help="Train the whole network, too: plain and the two best remedies.")
    ] = False,
    minutes: Annotated[
        float | None, Option(min=0, help="Time for --fine-tune; by default 30.", metavar="M")
    ] = None,
    cache: Annotated[
        Path | None, Option(help="Where features are kept; by default in the data root.", metavar="DIR")
    ] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace a report that is there.")] = False,
) -> None:
    """Measure which remedy against class imbalance helps on your images, and save the fitted model.

    \b
    imbal compare my_images
    imbal compare my_images --focus melanoma --out report
    imbal compare my_images --fine-tune --minutes 60
    imbal compare images.csv                       columns path, label and, where images belong together, group
    """
    from imbal_book.compare.comparison import compare as run

    if minutes is not None and not fine_tune:
        raise ValueError("--minutes is the time for --fine-tune: add --fine-tune, or leave it out")
    found = run(
        folder,
        out,
        metric=metric,
        focus=focus,
        backbone=backbone,
        repeats=repeats,
        seed=seed,
        priors=dict(_share(item) for item in prior or []),
        costs=costs,
        minutes=(30.0 if minutes is None else minutes) if fine_tune else None,
        cache=cache,
        overwrite=overwrite,
        say=lambda text: echo(text, err=True),
    )
    echo(found.decision.sentence)
    echo(found.out / "report.html")


@compare_app.command()
def predict(
    model: _Model,
    folder: Annotated[Path, Argument(help="A folder with images, in sub-folders or not.")],
    out: Annotated[Path, Option(help="The table to write.", metavar="FILE")] = Path("predictions.csv"),
    cache: Annotated[Path | None, Option(help="Where features are kept.", metavar="DIR")] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace a table that is there.")] = False,
) -> None:
    """Write class, probabilities and whether it is unlike the training images for each image of a folder.

    \b
    imbal predict compare-my_images new_images --out predictions.csv
    """
    from imbal_book.compare.pipeline import predict_folder

    _check_free(out, overwrite)
    table, problems = predict_folder(model, folder, cache=cache)
    for problem in problems:
        echo(f"left out: {problem}", err=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(out, index=False)
    unlike = int(table["unlike_training"].sum())
    echo(f"{len(table)} images, {unlike} unlike the training images: {out}")


@compare_app.command()
def export(
    model: _Model,
    out: Annotated[Path, Option(help="The file to write.", metavar="FILE")] = Path("model.onnx"),
    overwrite: Annotated[bool, Option("--overwrite", help="Replace a file that is there.")] = False,
) -> None:
    """Write the model as one ONNX file, checked against PyTorch (needs the extra onnx).

    \b
    imbal export compare-my_images --out model.onnx
    """
    from imbal_book.compare.onnx_file import write_onnx
    from imbal_book.compare.pipeline import load_pipeline

    _check_free(out, overwrite)
    pipeline = load_pipeline(model)
    largest, side = write_onnx(pipeline, out), pipeline.network.image_size
    echo(f"{out}: uint8 images (N, {side}, {side}, 3) to probabilities, {largest:.0e} from PyTorch at most")


def _share(text: str) -> tuple[str, float]:
    name, _, share = text.rpartition("=")
    try:
        return name, float(share)
    except ValueError:
        raise ValueError(f"--prior {text!r}: expected CLASS=SHARE, such as sea=0.2") from None


def _check_free(out: Path, overwrite: bool) -> None:
    if out.exists() and not overwrite:
        raise ValueError(f"{out} is there already: add --overwrite, or write elsewhere with --out FILE")
