"""On real photographs: what compare promises is what images give that it never saw."""

import os
from pathlib import Path

import numpy as np
import pytest

from imbal_book.compare import compare
from imbal_book.compare.features import load_backbone, read_features
from imbal_book.heads.remedies import PLAIN
from imbal_book.heads.side_by_side import unit_rows

COUNTS = (150, 75, 40, 24, 15, 10)
SCENES = Path(os.environ.get("IMBAL_DATA", "/nowhere")) / "scenes6"


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.skipif(not (SCENES / "test").is_dir(), reason="IMBAL_DATA holds no scenes6")
def test_the_promised_change_holds_on_images_that_compare_never_saw(tmp_path):
    for folder, count in zip(sorted((SCENES / "train").iterdir()), COUNTS, strict=True):
        (tmp_path / "scenes" / folder.name).mkdir(parents=True)
        for file in sorted(folder.iterdir())[:count]:
            (tmp_path / "scenes" / folder.name / file.name).symlink_to(file)
    found = compare(
        tmp_path / "scenes", tmp_path / "out", cache=tmp_path / "cache", progress=False, say=lambda text: None
    )
    files, labels = [], []
    for label, folder in enumerate(sorted((SCENES / "test").iterdir())):
        files += sorted(folder.iterdir())[:40]
        labels += [label] * 40
    features, _ = read_features(load_backbone(), files, cache=tmp_path / "cache", progress=False)
    units, truth = unit_rows(features), np.array(labels)

    def recall(name: str) -> float:
        """Return the mean recall on the unseen images over the heads of the repeated splits."""
        heads = found.measured.fitted[name].heads
        return float(
            np.mean(
                [
                    ((units @ weight.numpy() + bias.numpy()).argmax(1) == truth).mean()
                    for weight, bias in zip(heads.weight[:-1], heads.bias[:-1], strict=True)
                ]
            )
        )

    table = found.measured.table
    best = (
        found.decision.remedy
        if found.decision.remedy != PLAIN
        else next(n for n in table.index if n != PLAIN)
    )
    row = table.loc[best]
    assert row["low"] <= recall(best) - recall(PLAIN) <= row["high"]
    assert recall(PLAIN) > 0.5
