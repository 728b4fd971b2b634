"""The study of category centers: its grids, what is measured on one network, and its long frames."""

import dataclasses
from collections import Counter

import measured_runs
import numpy as np
import pandas as pd
import pytest
import torch
from sample_records import run_config
from sklearn.metrics import accuracy_score, precision_score, recall_score
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import Normalizer, normalize

from imbal_book.grid import batch
from imbal_book.run import trained
from imbal_book.studies import PROFILES, build_grid
from imbal_book.studies import category_centers as study
from imbal_book.studies.grids import category_centers as grids
from imbal_core.data.class_counts import zhang_counts
from imbal_core.models.build import build_model
from imbal_core.training.prediction import predict

pytestmark = pytest.mark.filterwarnings(
    "ignore:self.within_class_std_dev_"
)  # features that ReLU has cut to 0

CPU = torch.device("cpu")
TAPS = {"C": "last convolution", "F": "fully connected"}
# images in all labels of Table I, and of Table II
TOTALS = {"zhang-a": 22_000, "zhang-b": 11_800, "zhang-c": 20_300}


BOTH = ("shuffle", "over-sample")


def cells(profile):
    """Return (form, data set, type, sampler) -> the pairs of seeds."""
    found = {}
    for config in build_grid("category_centers", profile):
        cell = (grids.form(config), config.dataset, config.imbalance, config.sampler)
        found.setdefault(cell, []).append((config.split_seed, config.train_seed))
    return found


@pytest.mark.parametrize("profile", PROFILES)
def test_every_form_has_all_three_types_with_the_same_pairs_of_seeds(profile):
    by_form = {}
    for (form, dataset, kind, sampler), pairs in cells(profile).items():
        by_form.setdefault((form, dataset, sampler), {})[kind] = pairs
    for kinds in by_form.values():
        assert set(kinds) == {"zhang-a", "zhang-b", "zhang-c"}
        assert len({tuple(pairs) for pairs in kinds.values()}) == 1
        assert len(kinds["zhang-a"]) >= (2 if profile == "smoke" else 3), "an interval needs several pairs"


def test_over_sampling_stands_beside_every_form_that_claims_are_made_of():
    for profile in PROFILES:
        for form, dataset, kind, _ in cells(profile):
            samplers = {cell[3] for cell in cells(profile) if cell[:3] == (form, dataset, kind)}
            all_cnn = form == "from scratch" and profile != "smoke"
            assert samplers == ({"shuffle"} if all_cnn else set(BOTH)), "Table VII has no over-sampling"


def test_a_fair_head_is_trained_on_crossed_pairs_so_that_draws_and_trainings_can_be_told_apart():
    pairs = cells("laptop")["fine-tuned, fair head", "cifar10", "zhang-a", "shuffle"]
    by_draw = Counter(split for split, _ in pairs)
    assert len(by_draw) >= 3 and set(by_draw.values()) == {2}
    plain = {c.digest() for c in build_grid("category_centers", "laptop") if grids.form(c) == "fine-tuned"}
    fair = [c for c in build_grid("category_centers", "laptop") if c.head_start == "linear"]
    same = [c for c in fair if dataclasses.replace(c, head_start="own").digest() in plain]
    assert {(c.split_seed, c.train_seed) for c in same} == {(0, 0), (1, 1)}, "both starts on the same draws"


def test_the_paper_grid_has_the_papers_networks_rates_and_batches():
    found = {
        (c.model, c.pretrained, c.image_size, c.learning_rate, c.batch_size, c.schedule, c.optimizer)
        for c in build_grid("category_centers", "paper")
    }
    assert found == {
        ("all_cnn", False, None, 0.005, 256, "plateau-zhang", "sgd"),
        ("vgg16", True, 224, 0.001, 50, "plateau-zhang", "sgd"),
    }
    assert {(form, dataset) for form, dataset, _, _ in cells("paper")} == {
        ("from scratch", "cifar10"),
        ("fine-tuned", "cifar10"),
        ("fine-tuned", "cifar100"),
    }


@pytest.mark.parametrize("profile", PROFILES)
def test_whole_seeds_come_first(profile):
    blocks = {}
    for config in build_grid("category_centers", profile):
        pairs = blocks.setdefault((grids.form(config), config.dataset), [])
        pairs.append((config.split_seed, config.train_seed))
    for pairs in blocks.values():
        places = [list(dict.fromkeys(pairs)).index(pair) for pair in pairs]
        assert places == sorted(places)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_arms_of_a_seed_differ_in_the_sampler_alone(profile):
    arms = {}
    for config in build_grid("category_centers", profile):
        plain = dataclasses.replace(config, sampler="shuffle", epoch_images=None)
        arms.setdefault(plain.digest(), []).append(config.sampler)
    assert {tuple(samplers) for samplers in arms.values()} <= {BOTH, ("shuffle",)}


def test_a_fine_tuned_over_sampled_run_on_the_laptop_costs_what_its_plain_twin_costs():
    grid = build_grid("category_centers", "laptop")
    over = [c for c in grid if grids.form(c) == "fine-tuned" and c.sampler == "over-sample"]
    assert {(c.imbalance, c.epoch_images) for c in over} == set(TOTALS.items())
    assert all(c.epoch_images is None for c in grid if c.sampler == "shuffle")


@pytest.mark.parametrize("num_classes", [10, 100])
def test_few_are_labels_0_to_4_of_types_a_and_c_and_0_to_5_of_type_b(num_classes):
    for kind, few in {"A": 5, "B": 6, "C": 5}.items():
        train_counts, _ = zhang_counts(num_classes, kind)
        groups = few * num_classes // 10
        assert study.few_labels(train_counts).tolist() == [True] * groups + [False] * (num_classes - groups)


@pytest.fixture(scope="module")
def measured(tiny_config, tiny_data):
    """Return (prepared, trained network, measurements) of a plain and an over-sampled run."""
    found = {}
    for sampler in BOTH:
        prepared = batch.prepare(tiny_config(sampler=sampler), root=tiny_data[1])
        run, measurements = measured_runs.measured(study, prepared)
        found[sampler] = (prepared, run.network, measurements)
    return found


def same_scores(scores, labels, predicted):
    assert scores["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    options = {"labels": range(10), "average": None, "zero_division": 0}
    np.testing.assert_allclose(scores["recall"], recall_score(labels, predicted, **options))
    np.testing.assert_allclose(scores["precision"], precision_score(labels, predicted, **options))


def arrays(prepared, side):
    part = prepared.test if side == "test" else prepared.train
    chosen = getattr(prepared.split, side)
    return part.images[chosen], part.labels[chosen]


@pytest.mark.parametrize("sampler", BOTH)
def test_d_is_the_largest_logit_of_the_trained_network(measured, sampler):
    prepared, network, found = measured[sampler]
    images, labels = arrays(prepared, "test")
    same_scores(found["readouts"]["D"], labels, predict(network, images)["logits"].numpy().argmax(1))


def centroid_predictions(prepared, network, tap, sides):
    inputs = [arrays(prepared, side) for side in sides]
    features = [predict(network, images, taps=(tap,))[tap].numpy() for images, _ in inputs]
    scaled = Normalizer().fit_transform(np.concatenate(features).astype(np.float64))
    model = NearestCentroid().fit(scaled, np.concatenate([labels for _, labels in inputs]))
    test = predict(network, arrays(prepared, "test")[0], taps=(tap,))[tap].numpy().astype(np.float64)
    return model, Normalizer().transform(test)


@pytest.mark.parametrize("sampler", BOTH)
@pytest.mark.parametrize("letter", ["C", "F"])
def test_c_and_f_are_nearest_centroids_of_scaled_features(measured, sampler, letter):
    prepared, network, found = measured[sampler]
    _, labels = arrays(prepared, "test")
    model, test = centroid_predictions(prepared, network, TAPS[letter], ("train", "valid"))
    same_scores(found["readouts"][letter], labels, model.predict(test))
    renormalized = normalize(model.centroids_)
    nearest = np.linalg.norm(test[:, None] - renormalized, axis=2).argmin(1)
    same_scores(found["readouts"][f"{letter}, renormalized"], labels, nearest)


@pytest.mark.parametrize("letter", ["C", "F"])
def test_training_images_only_leaves_the_validation_images_out(measured, letter):
    prepared, network, found = measured["shuffle"]
    _, labels = arrays(prepared, "test")
    only, test = centroid_predictions(prepared, network, TAPS[letter], ("train",))
    both, _ = centroid_predictions(prepared, network, TAPS[letter], ("train", "valid"))
    assert np.abs(only.centroids_ - both.centroids_).max() > 1e-3, "otherwise this test decides nothing"
    same_scores(found["readouts"][f"{letter}, training images only"], labels, only.predict(test))


def test_la_takes_the_log_of_the_training_prior_out_of_the_logits(measured):
    prepared, network, found = measured["shuffle"]
    images, labels = arrays(prepared, "test")
    counts = [2] * 5 + [20] * 5
    predicted = []
    for logits in predict(network, images)["logits"].numpy():
        adjusted = [logit - np.log(count / 110) for logit, count in zip(logits, counts, strict=True)]
        predicted.append(int(np.argmax(adjusted)))
    same_scores(found["readouts"]["LA"], labels, predicted)


def test_an_over_sampled_run_has_no_adjusted_logits(measured):
    names = {sampler: set(found["readouts"]) for sampler, (_, _, found) in measured.items()}
    assert names["shuffle"] - names["over-sample"] == {"LA"}
    assert names["over-sample"] == {"D"} | {
        f"{letter}{suffix}" for letter in "CF" for suffix in ("", ", renormalized", ", training images only")
    }


def test_counts_and_history_are_recorded(measured):
    _, _, found = measured["shuffle"]
    assert found["train_counts"] == [2] * 5 + [20] * 5
    assert found["valid_counts"] == [1] * 5 + [5] * 5
    assert found["test_counts"] == [4] * 10
    assert {len(values) for values in found["history"].values()} == {2}
    assert "feature_sketch" not in found


@pytest.fixture(scope="module")
def frozen(tiny_config, tiny_data):
    """Measure frozen features of an untrained network, for there are no pretrained weights here."""

    def build(name, num_classes, *, pretrained=False, root=None, **options):
        if name == "linear":
            return build_model(name, num_classes, **options)
        assert pretrained
        torch.manual_seed(5)
        return build_model(name, num_classes, **options)

    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trained, "build_model", build)
        for seed in (0, 1):
            config = tiny_config(seed, pretrained=True, frozen=True, optimizer="adamw", learning_rate=0.01)
            prepared = batch.prepare(config, root=tiny_data[1])
            found.append(study.measure(prepared, device=CPU, progress=False))
    torch.manual_seed(5)
    network = build_model("small_cnn", 10, image_size=8)
    images = prepared.train.images
    features = predict(network, images, taps=("fully connected",))["fully connected"].numpy()
    return found, features, prepared


def test_frozen_features_are_computed_once_for_all_runs(frozen, tiny_data):
    assert len(list((tiny_data[1] / "features").glob("*.npz"))) == 2, (
        "one array for the pool, one for the test images"
    )


def test_frozen_features_have_no_last_convolution(frozen):
    assert set(frozen[0][0]["readouts"]) == {"D", "LA", "F", "F, renormalized", "F, training images only"}


def test_the_sketch_of_frozen_features_keeps_the_geometry_of_the_two_classes(frozen):
    (first_seed, second_seed), features, prepared = frozen
    assert "feature_sketch" not in second_seed, "one run is enough"
    sketch = first_seed["feature_sketch"]
    assert sketch["class_names"] == ["class3", "class5"]
    points = [np.array(group) for group in sketch["points"]]
    scaled = normalize(features.astype(np.float64))
    groups = [scaled[prepared.train.labels == label] for label in (3, 5)]
    apart = np.linalg.norm(groups[1].mean(0) - groups[0].mean(0))
    np.testing.assert_allclose(points[1].mean(0) - points[0].mean(0), [apart, 0], atol=2e-3)
    np.testing.assert_allclose(np.concatenate(points).mean(0), 0, atol=2e-3)


def test_the_axes_of_the_sketch_are_at_right_angles_and_the_second_shows_the_largest_spread():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(1, 1, (40, 6)), np.repeat([3, 5], 20)
    points = np.concatenate(study._feature_sketch(features, labels, tuple("abcdefghij"))["points"])
    scaled = normalize(features)
    centered = scaled - scaled.mean(0)
    # points = centered @ axes, so the axes follow by least squares
    axes = np.linalg.lstsq(centered, points, rcond=None)[0]
    np.testing.assert_allclose(axes.T @ axes, np.eye(2), atol=2e-3)
    between = scaled[20:].mean(0) - scaled[:20].mean(0)
    between /= np.linalg.norm(between)
    rest = centered @ (np.eye(6) - np.outer(between, between))
    assert np.linalg.norm(points[:, 1]) == pytest.approx(np.linalg.svd(rest)[1][0], abs=2e-3)


def row(kind, counts, readouts, **changes):
    config = run_config(4, study="category_centers", imbalance=f"zhang-{kind}", model="all_cnn", **changes)
    scores = {
        name: {"accuracy": 0.6, "recall": recall, "precision": [0.5, 0.7]}
        for name, recall in readouts.items()
    }
    return config.to_dict() | {
        "key": f"key-{kind}",
        "config": config,
        "measurements": {"train_counts": counts, "readouts": scores},
    }


def test_frame_holds_accuracy_precision_and_the_recall_of_few_and_many():
    found = study.frame(pd.DataFrame([row("b", [10, 100, 90], {"D": [0.2, 0.8, 0.6]})]))
    assert set(found.drop(columns=["metric", "value"]).itertuples(index=False, name=None)) == {
        ("key-b", "laptop", "from scratch", "all_cnn", "cifar10", "B", 4, 4, "D")
    }
    values = found.set_index("metric")["value"]
    assert dict(values) == pytest.approx(
        {"accuracy": 0.6, "recall_few": 0.2, "recall_many": 0.7, "precision": 0.6}
    )


def test_label_frame_holds_the_recall_of_every_label():
    found = study.label_frame(pd.DataFrame([row("c", [10, 100], {"D": [0.2, 0.8], "C": [0.4, 0.6]})]))
    assert found[["imbalance", "readout", "label", "train_count", "recall"]].to_numpy().tolist() == [
        ["C", "D", 0, 10, 0.2],
        ["C", "D", 1, 100, 0.8],
        ["C", "C", 0, 10, 0.4],
        ["C", "C", 1, 100, 0.6],
    ]


def test_over_sampled_readouts_have_the_prefix_o_and_frozen_ones_keep_only_od():
    recalls = {name: [0.5, 0.5] for name in ("D", "F", "F, renormalized")}
    frozen = {"pretrained": True, "frozen": True}
    records = pd.DataFrame(
        [
            row("a", [5, 50], recalls, sampler="over-sample"),
            row("b", [5, 50], recalls, sampler="over-sample", **frozen),
            row("c", [5, 50], recalls, **frozen),
        ]
    )
    for long in (study.frame(records), study.label_frame(records)):
        names = long.drop_duplicates(["imbalance", "readout"])
        assert Counter(zip(names["imbalance"], names["form"], names["readout"], strict=True)) == Counter(
            [
                *(("A", "from scratch", name) for name in ("OD", "OF", "OF, renormalized")),
                ("B", "frozen", "OD"),
                *(("C", "frozen", name) for name in ("D", "F", "F, renormalized")),
            ]
        )
