"""The report: one HTML file that asks for nothing else, the table as CSV, everything as JSON, and the model."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageOps

from imbal_book.compare.outcome import Comparison
from imbal_book.compare.script import plain_script
from imbal_book.heads import LENGTHS, RATES
from imbal_book.heads.remedies import PLAIN
from imbal_book.heads.scores import rare_classes
from imbal_core._checks.files import write_atomically
from imbal_core.metrics import expected_calibration_error

__all__ = ["report_context", "write_report"]

#: Test images of a class below which its recall is flagged as uncertain.
FEW = 5
_MISTAKES, _THUMBNAIL = 12, 112


def write_report(comparison: Comparison, features: np.ndarray, labels: np.ndarray) -> None:
    """Write ``report.html``, ``remedies.csv``, ``test.csv``, ``model/`` and, last, ``report.json``."""
    out = comparison.out
    context = report_context(comparison, features, labels)
    environment = Environment(
        loader=PackageLoader("imbal_book.compare", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.jinja").render(context)
    comparison.pipeline.save(out / "model")
    table = comparison.measured.table.rename_axis("remedy")
    write_atomically(out / "remedies.csv", table.to_csv().encode())
    rows = comparison.parts.measure[-1]
    test = comparison.pipeline.table(features[rows], comparison.files["name"].iloc[rows])
    test.insert(1, "true_label", comparison.files["label"].iloc[rows].to_numpy())
    write_atomically(out / "test.csv", test.to_csv(index=False).encode())
    write_atomically(out / "report.html", page.encode())
    write_atomically(out / "report.json", json.dumps(_summary(comparison, context), indent=1).encode())


def _summary(comparison: Comparison, context: dict[str, Any]) -> dict[str, Any]:
    """Return plain values of everything that the page shows, without the pictures."""
    measured = comparison.measured
    return {
        "sentence": comparison.decision.sentence,
        "remedy": comparison.decision.remedy,
        "remedies": json.loads(measured.table.to_json(orient="index")),
        "recalls": {name: measured.recalls(name).tolist() for name in measured.tables},
        "test": {
            "confusion": {name: tables[-1].tolist() for name, tables in measured.tables.items()},
            "images": context["test_counts"],
            "mean_recall": context["test_mean"],
        },
        "classes": list(comparison.classes),
        "counts": context["counts"],
        "measured": comparison.parts.measured.tolist(),
        "calibration": context["calibration"],
        "fine_tuned": context["fine_tuned"],
        "problems": comparison.problems,
        "facts": comparison.facts,
    }


def report_context(comparison: Comparison, features: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Return what the template is filled with."""
    measured, parts, classes = comparison.measured, comparison.parts, comparison.classes
    best = comparison.decision.remedy
    compared = [PLAIN] if best == PLAIN else [PLAIN, best]
    counts = np.bincount(labels[parts.train[-1]], minlength=len(classes))
    tested = np.bincount(labels[parts.measure[-1]], minlength=len(classes))
    rare = rare_classes(counts) & parts.measured
    return {
        "c": comparison,
        "best": best,
        "plain": PLAIN,
        "names": {key: remedy.name for key, remedy in measured.remedies.items()},
        "counts": counts.tolist(),
        "test_counts": tested.tolist(),
        "few": FEW,
        "looks": _looks(comparison.files, comparison.pipeline.network.image_size),
        "rare": rare.tolist(),
        "rows": _rows(measured.table, comparison),
        "axis": _axis(comparison),
        "scatter": _scatter(_dots(comparison, rare)),
        "test_mean": {
            key: float(measured.recalls(key, test=True)[parts.measured & (tested > 0)].mean())
            for key in compared
        },
        "recalls": {key: measured.recalls(key).tolist() for key in measured.table.index},
        "test_recalls": {key: measured.recalls(key, test=True).tolist() for key in compared},
        "confusions": {key: measured.tables[key][-1].tolist() for key in compared},
        "mistakes": _mistakes(comparison, features, labels),
        "calibration": _calibration(comparison, features, labels),
        "settings": [
            (measured.remedies[key].name, fitted.by_setting.tolist())
            for key in compared
            if (fitted := measured.fitted[key]).by_setting is not None
        ],
        "fine_tuned": _fine_tuned(comparison),
        "script": plain_script(comparison.pipeline.network.name),
        "rates": RATES,
        "lengths": LENGTHS,
    }


def _looks(files: pd.DataFrame, side: int) -> str:
    """Return sizes, modes and frames of the images in a sentence."""
    shorter = files[["width", "height"]].min(axis=1)
    modes = ", ".join(f"{mode} {number}" for mode, number in files["mode"].value_counts().items())
    moving = int((files["frames"] > 1).sum())
    return (
        f"Shorter sides of {shorter.min()} to {shorter.max()} pixels (median {shorter.median():.0f}), of which the "
        f"network sees {side}; {modes}"
        + (f"; {moving} with several frames, of which it sees the first." if moving else ".")
    )


def _rows(table: pd.DataFrame, comparison: Comparison) -> list[dict[str, Any]]:
    rows = table.rename_axis("key").reset_index().to_dict(orient="records")
    remedies = comparison.measured.remedies
    return [{"name": remedies[row["key"]].name, **{str(k): v for k, v in row.items()}} for row in rows]


def _fine_tuned(comparison: Comparison) -> dict[str, Any] | None:
    """Return how far the training of the whole network got, and its rows."""
    found = comparison.fine_tuned
    if found is None:
        return None
    return {"sentence": found.sentence, "rows": [] if found.table is None else _rows(found.table, comparison)}


def _axis(comparison: Comparison) -> dict[str, float]:
    """Return the ends of the axis of changes, which holds 0 and every interval."""
    table = comparison.measured.table
    low, high = min(0.0, float(table["low"].min())), max(0.0, float(table["high"].max()))
    pad = 0.03 * (high - low) + 1e-6
    return {"low": low - pad, "high": high + pad}


def _dots(comparison: Comparison, rare: np.ndarray) -> list[dict[str, Any]]:
    """Return change of recall on rare and on common classes for each remedy, in points."""
    measured, common = comparison.measured, comparison.parts.measured & ~rare
    if not rare.any() or not common.any():
        return []
    plain = measured.recalls(PLAIN)
    found = []
    for key in measured.table.index:
        change = 100 * (measured.recalls(str(key)) - plain)
        name = measured.remedies[str(key)].name
        found.append({"key": key, "name": name, "rare": change[rare].mean(), "common": change[common].mean()})
    return found


def _scatter(dots: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the places of a drawing in pixels: right what common classes gain, up what rare classes gain."""
    width, height, edge = 640, 400, 40
    places: dict[str, Any] = {"width": width, "height": height, "edge": edge, "dots": []}
    if not dots:
        return places
    ends = {}
    for axis in ("common", "rare"):
        values = [0.0, *(dot[axis] for dot in dots)]
        room = max(1.0, 0.12 * (max(values) - min(values)))
        ends[axis] = (min(values) - room, max(values) + room)

    def place(common: float, rare: float) -> tuple[float, float]:
        across = (common - ends["common"][0]) / (ends["common"][1] - ends["common"][0])
        up = (rare - ends["rare"][0]) / (ends["rare"][1] - ends["rare"][0])
        return edge + across * (width - 2 * edge), height - edge - up * (height - 2 * edge)

    places["zero"] = zero = place(0.0, 0.0)
    places["ticks"] = [
        {"x": place(v, 0.0)[0], "y": zero[1] + 15, "anchor": "middle", "text": f"{v:+.0f}"}
        for v in MaxNLocator(6, integer=True).tick_values(*ends["common"])
        if ends["common"][0] < v < ends["common"][1] and v
    ] + [
        {"x": zero[0] - 6, "y": place(0.0, v)[1] + 4, "anchor": "end", "text": f"{v:+.0f}"}
        for v in MaxNLocator(6, integer=True).tick_values(*ends["rare"])
        if ends["rare"][0] < v < ends["rare"][1] and v
    ]
    labels: list[tuple[float, float]] = []
    for dot in dots:
        x, y = place(dot["common"], dot["rare"])
        below = y
        while any(abs(x - a) < 18 and abs(below - b) < 12 for a, b in labels):
            below += 12
        labels.append((x, below))
        places["dots"].append({**dot, "x": x, "y": y, "label_y": below + 4})
    return places


def _mistakes(comparison: Comparison, features: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
    """Return the most confident mistakes of the saved model on the test part, with thumbnails."""
    rows = comparison.parts.measure[-1]
    table = comparison.pipeline.table(features[rows], comparison.files["name"].iloc[rows])
    chance = table.filter(like="p:").to_numpy()
    wrong = np.flatnonzero(chance.argmax(1) != labels[rows])
    worst = wrong[np.argsort(-chance[wrong].max(1), kind="stable")][:_MISTAKES]
    files = comparison.files.iloc[rows[worst]]
    return [
        {
            "name": name,
            "label": label,
            "found": comparison.classes[chance[i].argmax()],
            "chance": chance[i].max(),
            "picture": _thumbnail(path),
        }
        for i, name, label, path in zip(worst, files["name"], files["label"], files["path"], strict=True)
    ]


def _thumbnail(path: Path) -> str:
    with Image.open(path) as opened:
        small = ImageOps.exif_transpose(opened).convert("RGB")
        small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _calibration(comparison: Comparison, features: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the expected calibration error of the saved model on the test part, without and with its temperature."""
    rows, pipeline = comparison.parts.measure[-1], comparison.pipeline
    after = pipeline._probabilities(features[rows])
    # Softmax without the temperature: probabilities to the power T, scaled to sum to 1.
    before = after.clip(1e-300) ** pipeline.temperature
    before /= before.sum(1, keepdims=True)
    return {
        "temperature": pipeline.temperature,
        "before": expected_calibration_error(before, labels[rows]),
        "after": expected_calibration_error(after, labels[rows]),
    }
