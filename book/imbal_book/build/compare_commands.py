"""The commands ``imbal compare``, which remedy helps on a folder of images, and ``imbal predict``, the model of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option, echo

__all__ = ["compare_app"]

compare_app = typer.Typer(rich_markup_mode=None)


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
    backbone: Annotated[
        str | None, Option(help="The network that reads the images, such as resnet34 or timm:NAME.")
    ] = None,
    repeats: Annotated[int, Option(min=3, help="Repeated splits.")] = 15,
    seed: Annotated[int, Option(help="Of splits and first weights.")] = 0,
    cache: Annotated[
        Path | None, Option(help="Where features are kept; by default in the data root.", metavar="DIR")
    ] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace a report that is there.")] = False,
) -> None:
    """Measure which remedy against class imbalance helps on your images, and save the fitted model.

    \b
    imbal compare my_images
    imbal compare my_images --focus melanoma --out report
    imbal compare images.csv                       columns path, label and, where images belong together, group
    """
    from imbal_book.compare.comparison import compare as run

    found = run(
        folder,
        out,
        metric=metric,
        focus=focus,
        backbone=backbone,
        repeats=repeats,
        seed=seed,
        cache=cache,
        overwrite=overwrite,
        say=lambda text: echo(text, err=True),
    )
    echo(found.decision.sentence)
    echo(found.out / "report.html")


@compare_app.command()
def predict(
    model: Annotated[Path, Argument(help="The folder that imbal compare wrote, or its folder model.")],
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

    if out.exists() and not overwrite:
        raise ValueError(f"{out} is there already: add --overwrite, or write elsewhere with --out FILE")
    table, problems = predict_folder(model, folder, cache=cache)
    for problem in problems:
        echo(f"left out: {problem}", err=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(out, index=False)
    unlike = int(table["unlike_training"].sum())
    echo(f"{len(table)} images, {unlike} unlike the training images: {out}")
