import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sample_records import run_config

from imbal_book.run.prepared import prepare
from imbal_book.run.trained import train_run
from imbal_core.models.heads import NormedLinear
from imbal_core.training.start import build_network, loss_of, seeded_init

TINY = run_config(dataset="mnist5k", imbalance="step-10", imbalance_scale=0.05, epochs=2, batch_size=32)
CPU = torch.device("cpu")


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def build(config, **options):
    with seeded_init(config.train_seed):
        return build_network(config, 10, **options)


def test_the_network_of_a_run_has_the_head_that_its_loss_needs_and_the_final_batch_norm():
    plain = build(TINY)
    assert not isinstance(plain.classifier(), NormedLinear)
    assert isinstance(build(dataclasses.replace(TINY, loss="ldam")).classifier(), NormedLinear)
    layers = dict.fromkeys(type(m).__name__ for m in build(TINY).modules())
    assert "BatchNorm1d" not in layers
    normed = build(
        dataclasses.replace(
            TINY, final_batch_norm=True, final_batch_norm_momentum=0.2, final_batch_norm_affine=False
        )
    )
    (last,) = [m for m in normed.modules() if isinstance(m, torch.nn.BatchNorm1d)]
    assert (last.num_features, last.momentum, last.affine) == (10, 0.2, False)
    assert torch.equal(weights(normed), weights(plain))  # the rest starts from the same numbers


def test_given_features_are_read_by_a_linear_classifier():
    network = build(TINY, in_features=7)
    assert network(torch.zeros(2, 7)).shape == (2, 10)


def test_the_loss_of_a_run_knows_its_options_and_counts():
    config = dataclasses.replace(TINY, loss="logit-adjustment", loss_options={"tau": 2})
    loss = loss_of(config, [3, 1])
    logits, targets = torch.tensor([[0.3, -0.2], [1.0, 2.0]]), torch.tensor([0, 1])
    shifted = logits + 2 * torch.tensor([0.75, 0.25]).log()
    torch.testing.assert_close(loss(logits, targets), F.cross_entropy(shifted, targets))


@pytest.fixture(scope="module")
def ldam_run():
    config = dataclasses.replace(TINY, loss="ldam", imbalance="zhang-a", imbalance_scale=0.02)
    score = lambda labels, logits: {"accuracy": (logits.argmax(1) == labels).mean()}  # noqa: E731
    return train_run(prepare(config), device=CPU, progress=False, score=score, score_on=("valid", "test"))


def test_a_run_gives_its_sides_their_counts_and_the_scores_of_every_epoch(ldam_run):
    prepared = ldam_run.prepared
    for side, (inputs, labels) in ldam_run.sides.items():
        dataset = prepared.test if side == "test" else prepared.train
        indices = getattr(prepared.split, side)
        assert np.array_equal(inputs, dataset.images[indices])
        assert np.array_equal(labels, dataset.labels[indices])
    measured = ldam_run.measurements()
    assert measured["train_counts"] == prepared.train_counts.tolist()
    assert measured["valid_counts"] == prepared.valid_counts.tolist()
    assert sum(measured["test_counts"]) == len(prepared.split.test)
    history = measured["history"]
    assert len(history["test_accuracy"]) == 2
    labels = ldam_run.sides["test"][1]
    last = (ldam_run.predict("test")["logits"].argmax(1) == labels).mean()
    assert history["test_accuracy"][-1] == pytest.approx(last)


def test_logits_of_a_cosine_head_are_scaled_to_what_the_loss_takes_for_probabilities(ldam_run):
    found = ldam_run.predict("test", ("fully connected",))
    features = torch.from_numpy(found["fully connected"])
    weight = ldam_run.network.classifier().weight.detach()
    cosines = F.normalize(features, dim=1) @ F.normalize(weight, dim=1).T
    np.testing.assert_allclose(found["logits"], 30 * cosines.numpy(), atol=1e-4)


def test_a_side_without_images_is_not_scored():
    score = lambda labels, logits: {"n": len(labels)}  # noqa: E731
    config = dataclasses.replace(TINY, epochs=1)
    run = train_run(prepare(config), device=CPU, progress=False, score=score, score_on=("valid", "test"))
    assert run.result.history["test_n"] == [1000]
    assert "valid_n" not in run.result.history
