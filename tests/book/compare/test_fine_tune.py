"""The whole network trained, in a given time; on a tiny network and tiny images."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from tinted_images import untrained_network
from typer.testing import CliRunner

from imbal_book.build.cli import app
from imbal_book.compare import comparison, fine_tune
from imbal_book.compare.aim import Aim
from imbal_book.compare.features import read_features
from imbal_book.compare.report import write_report
from imbal_book.heads.remedies import PLAIN, REMEDIES
from imbal_book.heads.scores import metric_of

SHARES = np.full(3, 1 / 3)
SCORE = metric_of("balanced-accuracy", measured=np.ones(3, bool))
ABLE = [name for name, remedy in REMEDIES.items() if remedy.objective != "cosine"]


@pytest.fixture
def short(monkeypatch):
    """Train for 3 epochs, by a clock that goes on by a minute whenever it is read; return the counts of each fit."""
    trained, fit = [], fine_tune.fit

    def counted(network, images, labels, recipe, **options):
        trained.append(recipe.loss)
        return fit(network, images, labels, recipe, **options)

    clock = iter(range(0, 6000, 60))
    monkeypatch.setattr(fine_tune, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(fine_tune, "TRAINED", fine_tune.TRAINED | {"epochs": 3})
    monkeypatch.setattr(fine_tune, "fit", counted)
    return trained


def run(compared, order, minutes):
    found = compared[0]
    measured = dataclasses.replace(found.measured, table=found.measured.table.loc[order])
    labels = np.searchsorted(found.classes, found.files["label"].to_numpy(str))
    options = {"minutes": minutes, "seed": 0, "step": lambda text: None}
    files = list(found.files["path"])
    return fine_tune.fine_tune(
        untrained_network(), files, labels, found.parts, measured, Aim(SCORE, "recall", SHARES), **options
    ), labels


def test_the_two_best_that_can_be_trained_and_plain_go_as_far_as_the_time(compared, short, tmp_path):
    order = ["logistic", "cosine", "adjust-after", "weights", "centers", PLAIN]
    result, labels = run(compared, order, minutes=16)
    assert result.sentence.startswith("3 of 4 splits, 3 epochs of each training, ")
    assert set(result.table.index) == {PLAIN, "adjust-after", "weights"}
    # once to see how long an epoch takes, then in each split; what differs after training alone is trained once
    assert short == ["cross-entropy", "inverse-frequency"] * 4
    tables = compared[0].measured.tables["weights"][:3]
    assert result.table.loc["weights", "frozen"] == pytest.approx(np.mean([SCORE(table) for table in tables]))

    found = dataclasses.replace(compared[0], fine_tuned=result, out=tmp_path)
    cached = {"cache": compared[1] / "cache", "progress": False}
    write_report(found, read_features(untrained_network(), list(found.files["path"]), **cached)[0], labels)
    assert result.sentence.replace("'", "&#39;") in (tmp_path / "report.html").read_text(encoding="utf-8")
    told = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["fine_tuned"]
    assert [row["key"] for row in told["rows"]] == list(result.table.index)


def test_a_time_that_is_too_short_is_said_with_one_that_is_not(compared, short):
    result, _ = run(compared, ["centers", "tau", PLAIN], minutes=11)
    assert result.table is None and "(--minutes 13)" in result.sentence
    assert short == ["cross-entropy"]


def test_every_remedy_that_is_a_loss_a_layer_or_an_adjustment_can_be_trained(compared):
    parts, labels = compared[0].parts, np.searchsorted(compared[0].classes, compared[0].files["label"])
    images = np.random.default_rng(0).integers(0, 255, (len(labels), 16, 16, 3), np.uint8)
    remedies = {name: REMEDIES[name] for name in ABLE}
    work = fine_tune._Work(untrained_network(), images, labels, remedies, SHARES)
    tables = work.confusions(parts, 0, epochs=1, seed=0)
    assert list(tables) == ABLE
    assert {table.sum() for table in tables.values()} == {len(parts.measure[0])}


def test_a_training_starts_from_the_network_with_a_new_classifier(monkeypatch):
    monkeypatch.setattr(fine_tune, "fit", lambda *_, **__: None)
    given = untrained_network()
    images, labels = np.zeros((4, 16, 16, 3), np.uint8), np.array([0, 0, 1, 1])
    started = fine_tune._Work(given, images, labels, {}, SHARES)._trained("final bn", np.arange(4), 3, seed=1)
    for name, value in given.state_dict().items():
        assert torch.equal(started.state_dict()[name], value) != name.startswith("head.")


def test_a_time_without_fine_tuning_is_refused_and_the_command_repeats_it(tmp_path):
    result = CliRunner().invoke(app, ["compare", str(tmp_path), "--minutes", "5"])
    assert result.exit_code == 2 and "add --fine-tune" in result.output
    command = comparison._command(
        tmp_path / "a", tmp_path / "b", {"seed": 0, "minutes": 5.0, "priors": {"a b": 0.2}}
    )
    assert command.endswith("--fine-tune --minutes 5.0 --prior 'a b=0.2'")
