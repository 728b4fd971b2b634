"""The whole way from a folder of images to a report and a model."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from imbal_book.compare.aim import Aim, aim_at
from imbal_book.compare.curve import Curve, learning_curves
from imbal_book.compare.decide import Decision, decide, with_more_images
from imbal_book.compare.features import load_backbone, read_features
from imbal_book.compare.fine_tune import fine_tune
from imbal_book.compare.look import CompareError, check_images, list_images
from imbal_book.compare.measured import Measured, measure_remedies
from imbal_book.compare.outcome import Comparison
from imbal_book.compare.pipeline import REFERENCES, Pipeline
from imbal_book.compare.report import write_report
from imbal_book.heads.parts import FEWEST, Parts, draw_parts
from imbal_book.heads.remedies import PLAIN
from imbal_book.heads.side_by_side import project, unit_rows
from imbal_core.data.root import data_root
from imbal_core.models.networks import Network
from imbal_core.post_hoc import fit_temperature

__all__ = ["REPEATS", "compare"]

#: Repeated splits.
REPEATS = 15
_PACKAGES = ("imbal-core", "torch", "scikit-learn", "numpy")


def compare(
    folder: Path | str,
    out: Path | str | None = None,
    *,
    backbone: str | None = None,
    metric: str = "balanced-accuracy",
    focus: str | None = None,
    repeats: int = REPEATS,
    seed: int = 0,
    minutes: float | None = None,
    priors: Mapping[str, float] | None = None,
    costs: Path | str | None = None,
    root: Path | None = None,
    cache: Path | None = None,
    overwrite: bool = False,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> Comparison:
    """Measure every remedy on a folder of images, write a report, and save the recommended model.

    Parameters
    ----------
    folder : path
        Class folders, train/(val/)test folders with class folders in them, or a CSV of path, label and, optionally,
        group and side.
    out : path, optional
        Where the report goes. Default: ``compare-NAME`` in the current folder.
    backbone : str, optional
        A network of `imbal_core.build_model` with published weights.
    metric : str, default="balanced-accuracy"
        One of `imbal_book.heads.scores.METRICS`.
    focus : str, optional
        A class whose F1 is what counts, instead of the metric.
    repeats : int, default=15
        Repeated splits, at least 3.
    seed : int, default=0
    minutes : float, optional
        Time in which the two best remedies and plain training are measured with the whole network trained, too; without
        one, on fixed features alone. The saved model is one on fixed features either way.
    priors : mapping of str to float, optional
        Share of each class where the model will be used, for the metric "accuracy" or with `costs`.
    costs : path, optional
        CSV of what each mistake costs: a row for each true class, a column for each predicted one. It replaces the
        metric: what counts is which part of the largest cost is avoided.
    root, cache : path, optional
        Data root, and the folder of cached features; default: ``features`` in the data root.
    overwrite : bool, default=False
        Replace a report that is there.
    progress : bool, default=True
    say : callable
        Told each step in a sentence.

    Raises
    ------
    CompareError
        If the folder cannot be compared, or a report is there already.
    """
    start = time.perf_counter()
    source = Path(folder).expanduser()
    target = _free_target(source, out, overwrite)
    if repeats < 3:
        raise CompareError(f"repeats is {repeats}: an interval over splits needs at least 3")
    settings: dict[str, Any] = {"backbone": backbone, "metric": metric, "focus": focus, "repeats": repeats}
    settings |= {"seed": seed, "costs": costs and str(costs), "priors": priors, "minutes": minutes}
    listing = list_images(source)
    known = sorted(set(listing.files["label"]))
    given = metric, focus, priors, None if costs is None else Path(costs)
    aim_at(*given, classes=known, measured=np.ones(len(known), bool), known=known)  # before anything is read
    say(f"{len(listing.files)} files in {listing.files['label'].nunique()} classes")
    network = load_backbone(backbone, root=root)
    cache = data_root(root) / "features" if cache is None else cache
    features, facts = read_features(network, list(listing.files["path"]), cache=cache, progress=progress)
    files, classes, features = _usable(listing.files, facts, features, listing.problems)
    labels = np.searchsorted(np.array(classes), files["label"].to_numpy(str))
    parts = _parts(files, classes, labels, repeats, seed, listing.problems)
    aim = aim_at(*given, classes=classes, measured=parts.measured, known=known)
    measured = measure_remedies(features, labels, parts, aim, seed=seed, step=lambda name: say(f"  {name}"))
    groups = files["group"].to_numpy()
    decision, curves = _decide(measured, features, labels, groups, parts, classes, aim, seed)
    files = files.assign(side="train")
    files.loc[parts.measure[-1], "side"] = "test"
    pipeline = _pipeline(network, measured, decision, features, labels, files, parts, classes)
    about = settings | {
        "folder": source.name,
        "metric": aim.called,
        "backbone": network.name,
        "command": _command(source, target, settings),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "seconds": round(time.perf_counter() - start, 1),
    }
    found = Comparison(
        decision, measured, curves, files, classes, parts, listing.problems, pipeline, target, about
    )
    write_report(found, features, labels)
    if minutes is not None:
        found = _fine_tuned(found, network, labels, aim, minutes, seed, say)
        write_report(found, features, labels)
    say(decision.sentence)
    return found


def _free_target(source: Path, out: Path | str | None, overwrite: bool) -> Path:
    """Return the folder of the report, which may hold one only if it may be replaced."""
    target = Path(out).expanduser() if out else Path(f"compare-{source.resolve().stem}")
    if (target / "report.json").exists() and not overwrite:
        raise CompareError(
            f"{target} holds a report already: add --overwrite, or write elsewhere with --out DIR"
        )
    return target


def _parts(
    files: pd.DataFrame,
    classes: Sequence[str],
    labels: np.ndarray,
    repeats: int,
    seed: int,
    problems: list[str],
) -> Parts:
    """Return the parts of a comparison, after saying which classes are too small to be measured."""
    test = (files["side"] == "test").to_numpy()
    if (files["side"] != "").any() and not test.any():
        problems.append("no image in test can be used: test images are drawn from those of train")
    given = test if test.any() else None
    parts = draw_parts(labels, files["group"].to_numpy(), given, repeats=repeats, validations=2, seed=seed)
    _say_what_is_measured(classes, labels, parts, problems)
    return parts


def _decide(
    measured: Measured,
    features: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    parts: Parts,
    classes: Sequence[str],
    aim: Aim,
    seed: int,
) -> tuple[Decision, list[Curve]]:
    """Return the recommendation, and how recall grows with the images of the weakest classes under it."""
    counts = np.bincount(labels[parts.train[-1]], minlength=len(classes))
    recalls = {name: measured.recalls(name) for name in measured.tables}
    decision = decide(
        measured.table,
        measured.by_validation,
        recalls,
        counts,
        parts.measured,
        classes,
        measured.remedies,
        metric=aim.called,
        portable=list(measured.fitted),
    )
    name = decision.remedy if measured.remedies[decision.remedy].objective else PLAIN
    curves = learning_curves(
        measured.remedies[name],
        measured.fitted[name].settings,
        project(features, parts)[1],
        torch.from_numpy(labels),
        groups,
        parts,
        recalls[name],
        shares=aim.shares,
        seed=seed,
    )
    return with_more_images(decision, curves, classes), curves


def _usable(
    files: pd.DataFrame, facts: pd.DataFrame, features: np.ndarray, problems: list[str]
) -> tuple[pd.DataFrame, tuple[str, ...], np.ndarray]:
    """Return the images that are used, their classes and features."""
    files = files.rename(columns={"group": "group_name"}).reset_index(drop=True)
    whole = pd.concat([files, facts], axis=1).assign(row=np.arange(len(files)))
    kept = check_images(whole, problems)
    if (kept["side"] != "").any():
        learned = set(kept.loc[kept["side"] == "train", "label"])
        for label in sorted(set(kept["label"]) - learned):
            problems.append(
                f"the class {label!r} has images in test but none in train: it cannot be learned, and was left out"
            )
        kept = kept[kept["label"].isin(learned)].reset_index(drop=True)
    classes = tuple(sorted(kept["label"].unique()))
    if len(classes) < 2:
        raise CompareError(
            f"only {len(classes)} class has images that can be used, at least 2 are needed: {'; '.join(problems[:3])}"
        )
    return kept, classes, features[kept["row"].to_numpy()]


def _say_what_is_measured(
    classes: Sequence[str], labels: np.ndarray, parts: Parts, problems: list[str]
) -> None:
    counts = np.bincount(labels, minlength=len(classes))
    for c in np.flatnonzero(~parts.measured):
        problems.append(
            f"{classes[int(c)]!r} is too small to be measured: {counts[c]} images in separate groups, at least "
            f"{FEWEST} are needed. Its images train every remedy, and no number here speaks of its recall"
        )
    tested = np.bincount(labels[parts.measure[-1]], minlength=len(classes))
    for c in np.flatnonzero(parts.measured & (tested == 0)):
        problems.append(f"{classes[int(c)]!r} has no images in test: only the repeated splits measure it")
    if parts.measured.sum() < 2:
        raise CompareError(
            f"fewer than 2 classes have the {FEWEST} images that it takes to measure them: {'; '.join(problems[-3:])}"
        )


def _pipeline(
    network: Network,
    measured: Measured,
    decision: Decision,
    features: np.ndarray,
    labels: np.ndarray,
    files: pd.DataFrame,
    parts: Parts,
    classes: Sequence[str],
) -> Pipeline:
    """Return the recommended remedy's head of the final split with what predictions need."""
    fitted, rows = measured.fitted[decision.remedy], parts.train[-1]
    units = unit_rows(features[rows])
    rng = np.random.default_rng(0)
    kept = np.sort(rng.permutation(len(rows))[:REFERENCES])
    cosines = units @ units[kept].T
    groups = files["group"].to_numpy()[rows]
    cosines[groups[:, None] == groups[kept][None]] = -1.0
    description = {
        "classes": list(classes),
        "remedy": measured.remedies[decision.remedy].name,
        "counts": np.bincount(labels[rows], minlength=len(classes)).tolist(),
        "sentence": decision.sentence,
    }
    head = (fitted.heads.weight[-1].numpy(), fitted.heads.bias[-1].numpy())
    return Pipeline(
        network,
        *head,
        _temperature(fitted.out_of_fit),
        units[kept].astype(np.float16),
        float(np.quantile(cosines.max(1), 0.01)),
        description,
    )


def _temperature(out_of_fit: tuple[torch.Tensor, torch.Tensor] | None) -> float:
    """Return the temperature that fits best; 1 where no image is mistaken, for which the smallest always fits best."""
    if out_of_fit is None or bool((out_of_fit[0].argmax(1) == out_of_fit[1]).all()):
        return 1.0
    return fit_temperature(*out_of_fit)


def _fine_tuned(
    found: Comparison,
    network: Network,
    labels: np.ndarray,
    aim: Aim,
    minutes: float,
    seed: int,
    say: Callable[[str], None],
) -> Comparison:
    """Return the comparison with what training the whole network brings."""
    trained = fine_tune(
        network,
        list(found.files["path"]),
        labels,
        found.parts,
        found.measured,
        aim,
        minutes=minutes,
        seed=seed,
        step=lambda text: say(f"  {text}"),
    )
    return dataclasses.replace(found, fine_tuned=trained)


def _command(source: Path, target: Path, given: Mapping[str, object]) -> str:
    words = ["imbal", "compare", str(source), "--out", str(target)]
    defaults = {"metric": "balanced-accuracy", "repeats": REPEATS, "seed": 0}
    for name, value in given.items():
        if isinstance(value, Mapping):
            words += [word for key, share in value.items() for word in ("--prior", f"{key}={share}")]
        elif value != defaults.get(name):
            words += ["--fine-tune"] * (name == "minutes") + [f"--{name}", str(value)]
    return shlex.join(words)
