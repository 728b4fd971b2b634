"""Post-hoc remedies: slow float64 oracles, cases worked out by hand, what is chosen and on which images."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score

import imbal_core.post_hoc
from imbal_core.losses.functional import adjust_logits
from imbal_core.post_hoc import (
    TAUS,
    TEMPERATURES,
    choose_tau,
    fit_temperature,
    retrain_classifier,
    shifted_threshold,
    tau_normalized_logits,
)
from imbal_core.training.prediction import predict
from imbal_core.training.recipe import Recipe
from imbal_core.training.schedules import learning_rate


def draw(rows=50, width=7, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    lengths = np.geomspace(3, 0.2, classes)[:, None]
    weight = lengths * rng.standard_normal((classes, width))
    return rng.standard_normal((rows, width)), weight, rng.integers(0, classes, rows)


def slow_tau_logits(features, weight, tau):
    """The formula, one number at a time in float64."""
    return np.array(
        [
            [
                sum(float(f) * float(w) for f, w in zip(row, vector, strict=True))
                / math.sqrt(sum(float(w) ** 2 for w in vector)) ** tau
                for vector in weight
            ]
            for row in features
        ]
    )


@pytest.mark.parametrize("tau", [0.0, 0.7, 1.0, 2.0])
@pytest.mark.parametrize("convert", [np.float32, np.float64, np.float16, "float32", "bfloat16"])
def test_tau_normalised_logits_are_those_of_the_formula(tau, convert):
    features, weight, _ = draw()
    if isinstance(convert, str):
        features, weight = (
            torch.tensor(v, requires_grad=True).to(getattr(torch, convert)) for v in (features, weight)
        )
        exact = slow_tau_logits(features.tolist(), weight.tolist(), tau)
    else:
        features, weight = features.astype(convert), weight.astype(convert)
        exact = slow_tau_logits(features, weight, tau)
    logits = tau_normalized_logits(features, weight, tau)
    assert isinstance(logits, type(features))
    logits = np.asarray(logits)
    assert logits.dtype == (np.float64 if convert is np.float64 else np.float32)
    assert_allclose(logits, exact, rtol=1e-4, atol=1e-5)


def test_tau_zero_gives_the_plain_weights_without_bias():
    layer = torch.nn.Linear(7, 4)
    features = torch.randn(20, 7, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = layer(features) - layer.bias
    assert_allclose(tau_normalized_logits(features, layer.weight, 0.0), plain, atol=1e-6)


def test_tau_one_makes_all_classes_weights_equally_long():
    features, weight, _ = draw()
    stretched = weight * np.array([[1.0], [20.0], [0.01], [3.0]])
    assert_allclose(tau_normalized_logits(features, stretched, 1), tau_normalized_logits(features, weight, 1))


@pytest.mark.parametrize("seed", range(8))
def test_the_chosen_tau_is_the_first_of_the_best_balanced_accuracy(seed):
    features, weight, labels = draw(seed=seed, rows=30)
    scores = {
        tau: round(balanced_accuracy_score(labels, slow_tau_logits(features, weight, tau).argmax(axis=1)), 9)
        for tau in TAUS
    }
    expected = min(tau for tau, score in scores.items() if score == max(scores.values()))
    assert choose_tau(torch.tensor(features), weight, labels) == expected


def test_taus_go_from_0_to_2_by_a_tenth_and_a_tie_of_all_leaves_the_classifier_alone():
    assert_allclose(TAUS, np.arange(21) * 0.1)
    # Class 0 always outscores class 1 whatever the lengths: every tau is as good.
    features, weight = np.array([[1.0, -1.0]] * 3), np.array([[5.0, 0.0], [0.0, 0.5]])
    assert choose_tau(features, weight, [0, 0, 1]) == 0.0


def test_balanced_accuracy_decides_about_tau_not_accuracy():
    # One axis per class, class 1 ten times shorter: tau 0 calls the only image of class 1 wrong, a large tau
    # calls two images of class 0 wrong, which is the smaller loss for balanced accuracy alone.
    weight = np.array([[10.0, 0.0], [0.0, 1.0]])
    features = np.array([[1.0, 0.0]] * 8 + [[0.4, 0.5]] * 2 + [[0.4, 0.5]])
    labels = np.array([0] * 10 + [1])
    tau = choose_tau(features, weight, labels)
    assert tau == 1.0  # 0.4 * 10 / 10^tau falls below 0.5 after tau = 0.903
    predicted = tau_normalized_logits(features, weight, tau).argmax(axis=1)
    assert predicted.tolist() == [0] * 8 + [1] * 3


def clouds(counts, seed=0, width=5):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    means = 1.5 * np.eye(len(counts), width)
    return (means[labels] + rng.standard_normal((len(labels), width))).astype(np.float32), labels


def test_the_new_layer_is_the_class_balanced_softmax_regression():
    features, labels = clouds([400, 80, 20])
    network = retrain_classifier(features, labels, 3, seed=0, epochs=60)
    # The minimum of the balanced cross entropy plus half the decay times the squared weights, bias included.
    wide = np.column_stack([features, np.ones(len(features))])
    oracle = LogisticRegression(
        C=1 / (5e-4 * len(labels)), class_weight="balanced", fit_intercept=False, tol=1e-8, max_iter=1000
    ).fit(wide, labels)
    queries, _ = clouds([200, 200, 200], seed=1)
    ours = predict(network, queries)["logits"].softmax(1).numpy()
    theirs = oracle.predict_proba(np.column_stack([queries, np.ones(len(queries))]))
    assert np.abs(ours - theirs).mean() < 0.02
    assert (ours.argmax(1) == theirs.argmax(1)).mean() > 0.97


def test_the_same_seed_gives_the_same_layer_and_leaves_the_global_random_state_alone():
    features, labels = clouds([40, 10])
    before = torch.get_rng_state()
    first, again, other = (
        retrain_classifier(torch.tensor(features), labels, 2, seed=seed, epochs=3) for seed in (3, 3, 4)
    )
    assert torch.equal(first.head.weight, again.head.weight)
    assert torch.equal(first.head.bias, again.head.bias)
    assert not torch.equal(first.head.weight, other.head.weight)
    assert not first.training
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("epochs", "cuts", "warm"), [(30, (10, 20), 5), (9, (3, 6), 1), (3, (1, 2), 0)])
def test_the_recipe_is_the_published_one_and_keeps_its_proportions(monkeypatch, epochs, cuts, warm):
    configs = []
    monkeypatch.setattr(
        imbal_core.post_hoc, "fit", lambda network, x, y, config, **options: configs.append(config)
    )
    retrain_classifier(np.zeros((4, 2), np.float32), np.array([0, 0, 0, 1]), 2, seed=7, epochs=epochs)
    (config,) = configs
    assert isinstance(config, Recipe)
    assert (config.sampler, config.batch_size, config.weight_decay) == ("class-balanced", 128, 5e-4)
    assert (config.optimizer, config.momentum, config.nesterov) == ("sgd", 0.9, True)
    assert (config.epochs, config.warmup_epochs, config.train_seed) == (epochs, warm, 7)
    rates = [learning_rate(config, epoch, 1) for epoch in range(epochs)]
    assert rates[warm : cuts[0]] == pytest.approx([0.1] * (cuts[0] - warm))
    assert rates[cuts[0] : cuts[1]] == pytest.approx([0.01] * (cuts[1] - cuts[0]))
    assert rates[cuts[1] :] == pytest.approx([0.001] * (epochs - cuts[1]))


def f1_at(threshold, scores, labels, *, balanced=False):
    true = np.asarray(labels, dtype=bool)
    weights = np.where(true, 1 / true.sum(), 1 / (~true).sum()) if balanced else None
    return f1_score(true, np.asarray(scores) > threshold, sample_weight=weights, zero_division=0)


# Few levels, so that ties are common.
scored = st.lists(st.tuples(st.booleans(), st.integers(-4, 4)), min_size=2, max_size=25).filter(
    lambda pairs: len({rare for rare, _ in pairs}) == 2
)


@given(scored, st.sampled_from([np.float32, np.float64]), st.booleans())
@settings(max_examples=80, deadline=None)
def test_the_threshold_is_the_middle_of_the_widest_interval_of_best_thresholds(pairs, dtype, balanced):
    labels = np.array([rare for rare, _ in pairs])
    scores = np.array([score for _, score in pairs], dtype)
    # Scores are whole: F1 is constant between two whole numbers and jumps, if at all, at one.
    levels = range(int(scores.min()), int(scores.max()))
    inside = {low: f1_at(low + 0.5, scores, labels, balanced=balanced) for low in levels}
    everything = f1_at(scores.min() - 1, scores, labels, balanced=balanced)
    found = shifted_threshold(scores, labels, balanced=balanced)
    best = max([everything, *inside.values()])
    assert f1_at(found, scores, labels, balanced=balanced) == pytest.approx(best)
    if best > max(inside.values(), default=0) + 1e-12:
        assert found == scores.min() - 0.5
        return
    intervals, start = [], None
    for low in [*levels, None]:
        good = low is not None and inside[low] > best - 1e-12
        if good and start is None:
            start = low
        if not good and start is not None:
            intervals.append((start, levels.stop if low is None else low))
            start = None
    low, high = max(intervals, key=lambda interval: (interval[1] - interval[0], -interval[0]))
    assert found == (low + high) / 2


def test_a_threshold_by_hand():
    scores, labels = [0.1, 0.2, 0.3, 0.7, 0.9], [0, 0, 1, 0, 1]
    # Above 0.2: 2 hits, 1 false, F1 .8; above 0.7: 1 hit, 1 missed, F1 .667; above 0.3: F1 .5.
    assert shifted_threshold(scores, labels) == pytest.approx(0.25)
    assert shifted_threshold(np.log(scores), labels) == pytest.approx((np.log(0.2) + np.log(0.3)) / 2)
    assert shifted_threshold([0.1, 0.2, 0.4, 0.9], [0, 0, 1, 1]) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.0, 0.5, 0.75, 0.875, 1.0], 0.25),
        ([0.0, 0.125, 0.25, 0.5, 1.0], 0.75),
        ([0.0, 0.25, 0.5, 0.75, 1.0], 0.125),
    ],
)
def test_of_two_best_intervals_the_widest_counts_then_the_lowest(scores, expected):
    # F1 is 2/3 above the lowest score (2 hits, 2 false) and above the fourth (1 hit, 1 missed), less elsewhere.
    assert shifted_threshold(scores, [0, 1, 0, 0, 1]) == expected


def test_scores_that_say_nothing_call_every_image_rare():
    assert shifted_threshold([0.25, 0.25, 0.25], [0, 1, 0]) == -0.25
    assert shifted_threshold([0.75, 0.25], [0, 1]) == -0.25


@pytest.mark.parametrize("low", [0.0, 1.0, np.nextafter(np.float32(1), np.float32(2)), -3.0, 1e9])
def test_a_threshold_between_neighbouring_floats_still_separates_them(low):
    low = np.float32(low)
    high = np.nextafter(low, np.float32(np.inf))
    scores, labels = np.array([low, low, high]), np.array([0, 0, 1])
    assert (scores > shifted_threshold(scores, labels)).tolist() == [False, False, True]
    upside_down = shifted_threshold(scores, 1 - labels)
    assert (scores > upside_down).all()


def test_a_threshold_found_on_validation_images_is_not_that_of_the_test_images():
    rng = np.random.default_rng(0)

    def images(counts):
        labels = np.repeat([0, 1], counts)
        return rng.standard_normal(len(labels)) + 1.5 * labels, labels

    valid, test = images([1500, 70]), images([1500, 1500])
    found, unfair = shifted_threshold(*valid), shifted_threshold(*test)
    assert f1_at(found, *valid) > f1_at(unfair, *valid)
    assert f1_at(found, *test) < f1_at(unfair, *test)
    weighed = shifted_threshold(*valid, balanced=True)
    assert weighed < found, "a false alarm costs less where rare images are many"
    assert f1_at(found, *test) < f1_at(weighed, *test) <= f1_at(unfair, *test)
    assert shifted_threshold(*test, balanced=True) == unfair


def test_the_correction_for_the_prior_is_the_threshold_at_the_rare_share():
    logits = torch.randn(500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 4
    corrected = adjust_logits(logits, torch.tensor([1000, 10])).argmax(1)
    assert torch.equal(corrected == 1, logits.softmax(1)[:, 1] > 10 / 1010)


def calibrated(rows=20_000, classes=5, seed=0):
    rng = np.random.default_rng(seed)
    logits = 2 * rng.standard_normal((rows, classes)) + np.linspace(2, -2, classes)
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (chances.cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1)
    return logits, np.minimum(labels, classes - 1)


@pytest.mark.parametrize("factor", [1.0, 3.0, 0.1])
def test_the_temperature_of_calibrated_logits_is_the_factor_that_they_were_stretched_by(factor):
    logits, labels = calibrated()
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.05)


def slow_nll(logits, labels, temperature):
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        powers = [math.exp((z - max(row)) / temperature) for z in row]
        total -= (row[label] - max(row)) / temperature - math.log(sum(powers))
    return total / len(labels)


@pytest.mark.parametrize("seed", range(4))
def test_no_temperature_near_or_far_has_a_smaller_cross_entropy(seed):
    rng = np.random.default_rng(seed)
    logits, labels = 3 * rng.standard_normal((60, 3)), rng.integers(0, 3, 60)
    labels[:40] = logits[:40].argmax(axis=1)
    found = fit_temperature(torch.tensor(logits), torch.tensor(labels))
    best = slow_nll(logits, labels, found)
    others = [*np.geomspace(*TEMPERATURES, 60), 0.99 * found, 1.01 * found]
    assert all(slow_nll(logits, labels, other) > best for other in others)


def test_a_temperature_changes_no_prediction():
    logits, labels = calibrated(rows=500)
    found = fit_temperature(4 * logits, labels)
    assert found > 1
    assert_array_equal((4 * logits / found).argmax(axis=1), logits.argmax(axis=1))


def test_extreme_logits_have_a_finite_temperature():
    logits = np.array([[1e4, 0.0], [0.0, 1e4], [1e4, 0.0]], np.float32)
    assert fit_temperature(logits, [0, 1, 0]) == TEMPERATURES[0]  # all right
    assert fit_temperature(logits, [1, 0, 1]) == pytest.approx(TEMPERATURES[1], rel=1e-4)  # all wrong


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: tau_normalized_logits(np.ones((2, 3)), np.ones((4, 2)), 1),
            "weight have 2 units, expected 3",
        ),
        (lambda: tau_normalized_logits(np.ones((2, 3)), np.ones((4, 3, 1, 1)), 1), "weight must be real"),
        (lambda: tau_normalized_logits(np.ones((2, 3), bool), np.ones((4, 3)), 1), "features must be real"),
        (lambda: tau_normalized_logits(np.ones((2, 3)), np.eye(4, 3), 1), r"weights of classes \[3\] are 0"),
        (
            lambda: tau_normalized_logits(np.ones((2, 3)), np.ones((4, 3)), -0.1),
            r"tau must lie in \[0, inf\)",
        ),
        (lambda: tau_normalized_logits([[np.nan]], [[1.0]], 1), "features hold NaN"),
        (lambda: choose_tau(np.ones((2, 3)), np.ones((4, 3)), [0, 4]), r"labels must lie in \[0, 4\)"),
        (
            lambda: choose_tau(np.ones((2, 3)), np.ones((4, 3)), [0]),
            "predictions must be 1, one for each row of labels, got 2",
        ),
        (lambda: shifted_threshold([0.5, 0.5], [0, 0]), "both classes are needed"),
        (lambda: shifted_threshold([0.5, np.nan], [0, 1]), "scores must be finite"),
        (
            lambda: fit_temperature(np.ones((2, 3)), [0]),
            "labels must be 2, one for each row of logits, got 1",
        ),
        (lambda: fit_temperature([[np.inf, 0.0]], [0]), "logits hold NaN or infinity"),
        (lambda: retrain_classifier(np.ones((4, 2, 1)), np.zeros(4, int), 2, seed=0), r"flatten\(1\)"),
        (lambda: retrain_classifier(np.ones((4, 2)), np.zeros(4, int), 2, seed=0, epochs=2), "at least 3"),
        (
            lambda: retrain_classifier(np.ones((4, 2)), np.full(4, 2), 2, seed=0),
            r"labels must lie in \[0, 2\)",
        ),
    ],
)
def test_impossible_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
