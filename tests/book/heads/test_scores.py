import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score

from imbal_book.heads.scores import (
    METRICS,
    compare_with_plain,
    confusions,
    corrected_interval,
    holm,
    metric_of,
)


def test_confusions_are_scikit_learns():
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 4, 50), rng.integers(0, 4, (2, 3, 50))
    found = confusions(labels, predictions, 4)
    for i in np.ndindex(2, 3):
        np.testing.assert_array_equal(found[i], confusion_matrix(labels, predictions[i], labels=range(4)))


def test_metrics_are_scikit_learns():
    rng = np.random.default_rng(1)
    labels, predictions = np.arange(90) % 3, rng.integers(0, 3, 90)
    table, measured = confusion_matrix(labels, predictions), np.ones(3, bool)
    recalls = np.diag(table) / table.sum(1)
    expected = {
        "balanced-accuracy": balanced_accuracy_score(labels, predictions),
        "worst-class": recalls.min(),
        "harmonic-mean": 3 / (1 / recalls).sum(),
        "macro-f1": f1_score(labels, predictions, average="macro"),
        "accuracy": (labels == predictions).mean(),
    }
    assert expected.keys() == METRICS.keys()
    for name, value in expected.items():
        assert metric_of(name, measured=measured)(table) == pytest.approx(value)
    focus = metric_of("accuracy", measured=measured, focus=2)(table)
    assert focus == pytest.approx(f1_score(labels, predictions, labels=[2], average="macro"))


def test_priors_and_costs_weigh_the_classes():
    table, measured = np.array([[8, 2], [5, 5]]), np.ones(2, bool)
    assert metric_of("accuracy", measured=measured, priors=np.array([0.9, 0.1]))(table) == pytest.approx(0.77)
    costs = np.array([[0, 1], [10, 0]])
    assert metric_of("accuracy", measured=measured, costs=costs)(table) == pytest.approx(
        -(0.5 * 0.2 + 0.5 * 5)
    )


def test_a_class_that_is_not_measured_counts_nowhere():
    table = np.array([[9, 1, 0], [1, 3, 0], [0, 0, 0]])
    measured = np.array([True, True, False])
    assert metric_of("balanced-accuracy", measured=measured)(table) == pytest.approx((0.9 + 0.75) / 2)
    assert metric_of("worst-class", measured=measured)(table) == pytest.approx(0.75)


def test_the_corrected_interval_is_that_of_the_formula():
    """Numbers worked out by hand: mean 2, variance 2.5, t(4, 0.975) = 2.7764."""
    interval = corrected_interval([0.0, 1.0, 2.0, 3.0, 4.0], 0.25)
    half = 2.776445 * np.sqrt((1 / 5 + 0.25) * 2.5)
    assert (interval.low, interval.high) == pytest.approx((2 - half, 2 + half), rel=1e-6)
    assert interval.p == pytest.approx(0.1326, abs=2e-3)
    assert corrected_interval([0.0, 0.0], 0.3).p == 1.0


def ridge_accuracies(features, labels, train, test):
    """Return the accuracy of a nearest-mean rule and of a least-squares rule on the test rows."""
    x, y = features[train], labels[train]
    means = [x[y == c].mean(0) for c in (-1, 1)]
    middle = features[test] - (means[0] + means[1]) / 2
    first = np.sign(middle @ (means[1] - means[0]))
    weight = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ y)
    second = np.sign(features[test] @ weight)
    return (first == labels[test]).mean(), (second == labels[test]).mean()


@pytest.mark.parametrize(("size", "share"), [(60, 0.25), (120, 0.25)])
def test_the_corrected_interval_covers_the_true_difference_and_the_plain_one_does_not(size, share):
    """Fresh data sets of one population: the interval of ten overlapping splits, against the mean over many sets."""
    rng = np.random.default_rng(3)
    scales, shift = np.linspace(0.3, 3, 8), 0.25

    def draw(count):
        labels = np.where(np.arange(count) % 2, 1, -1)
        return rng.normal(0, 1, (count, 8)) * scales + shift * labels[:, None], labels

    held = round(share * size)
    found = []
    for _ in range(300):
        features, labels = draw(size)
        splits = [rng.permutation(size) for _ in range(10)]
        pairs = [ridge_accuracies(features, labels, p[held:], p[:held]) for p in splits]
        found.append([second - first for first, second in pairs])
    truth = np.mean(
        [
            np.subtract(
                *ridge_accuracies(*draw(size - held + 2000), slice(0, size - held), slice(size - held, None))[
                    ::-1
                ]
            )
            for _ in range(300)
        ]
    )
    ends = [corrected_interval(row, held / (size - held)) for row in found]
    covered = np.mean([end.low <= truth <= end.high for end in ends])
    plain = [corrected_interval(row, 0.0) for row in found]
    naive = np.mean([end.low <= truth <= end.high for end in plain])
    assert covered >= 0.93
    assert naive < 0.85


def test_holm_is_that_of_the_paper():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1, 1])


def test_tie_groups_and_holm_follow_the_differences():
    rng = np.random.default_rng(0)
    base = rng.normal(0.5, 0.02, 10)
    scores = {
        "plain": base,
        "good": base + 0.20 + rng.normal(0, 0.005, 10),
        "as good": base + 0.20 + rng.normal(0, 0.005, 10),
        "noise": base + rng.normal(0, 0.01, 10),
        "bad": base - 0.2 + rng.normal(0, 0.005, 10),
    }
    table = compare_with_plain(scores, "plain", 1 / 3)
    assert table["tie"].to_dict() == {"good": 1, "as good": 1, "plain": 2, "noise": 2, "bad": 3}
    assert set(table.index[table["p"] < 0.05]) == {"good", "as good", "bad"}
    assert table.loc["plain", ["change", "low", "high"]].tolist() == [0, 0, 0]
