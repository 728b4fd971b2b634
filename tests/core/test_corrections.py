"""Corrections as estimators: each is its function, by label, and scikit-learn's tools can drive it."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV

from imbal_core import adjust_logits, choose_tau, fit_temperature, shifted_threshold, tau_normalized_logits
from imbal_core.corrections import LogitAdjuster, TauNormalizer, TemperatureScaler, ThresholdShifter

NAMES = np.array(["cat", "dog", "fox"])


def draw(classes=3, counts=(120, 40, 20), seed=0):
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(classes), counts[:classes])
    prior = np.log(np.array(counts[:classes]) / sum(counts[:classes]))
    return 1.5 * np.eye(classes)[codes] + rng.normal(0, 1.5, (len(codes), classes)) + prior, codes


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_correction_is_its_function(dtype):
    logits, codes = draw()
    logits = logits.astype(dtype)
    weight = np.random.default_rng(1).standard_normal((3, 3)).astype(dtype)
    pair, of_pair = logits[codes < 2, :2], codes[codes < 2]
    margin = pair[:, 1] - pair[:, 0]
    tau = choose_tau(logits, weight, codes)
    cut = shifted_threshold(margin, of_pair, balanced=True)
    for model, given, labels, expected in (
        (LogitAdjuster(tau=1.5), logits, codes, adjust_logits(logits, [120, 40, 20], tau=1.5)),
        (TemperatureScaler(), logits, codes, logits / fit_temperature(logits, codes)),
        (TauNormalizer(weight), logits, codes, tau_normalized_logits(logits, weight, tau)),
        (TauNormalizer(weight, tau=0.3), logits, codes, tau_normalized_logits(logits, weight, 0.3)),
        (ThresholdShifter(balanced=True), pair, of_pair, np.stack([0 * margin, margin - cut], axis=1)),
    ):
        assert clone(model).fit(given, NAMES[labels]) is not model
        model.fit(given, NAMES[labels])
        assert model.transform(given).dtype == dtype
        assert_allclose(model.transform(given), expected, rtol=1e-5, atol=1e-6)
        assert_allclose(model.predict_proba(given), softmax(expected, axis=1), rtol=1e-4, atol=1e-6)
        assert_array_equal(model.predict(given), NAMES[expected.argmax(axis=1)])
    assert_array_equal(model.predict(pair) == "dog", margin > cut)


def test_a_grid_search_chooses_tau_by_balanced_accuracy():
    logits, codes = draw()
    grid = {"tau": [0.0, 0.5, 1.0, 1.5]}
    search = GridSearchCV(LogitAdjuster(), grid, scoring="balanced_accuracy").fit(logits, NAMES[codes])
    assert search.best_params_["tau"] > 0
    plain = balanced_accuracy_score(codes, logits.argmax(axis=1))
    assert balanced_accuracy_score(NAMES[codes], search.predict(logits)) > plain


def test_what_cannot_be_corrected_is_refused():
    logits, codes = draw()
    with pytest.raises(ValueError, match="y has 2 classes, but LogitAdjuster corrects the logits of 3"):
        LogitAdjuster().fit(logits[codes < 2], codes[codes < 2])
    with pytest.raises(ValueError, match="threshold is for the logits of 2 classes, got 3"):
        ThresholdShifter().fit(logits, codes)
    with pytest.raises(ValueError, match="NaN"):
        TemperatureScaler().fit(np.where(logits > 2, np.nan, logits), codes)
    with pytest.raises(NotFittedError):
        TauNormalizer(np.eye(3)).predict(logits)
    with pytest.raises(ValueError, match="2 features, but LogitAdjuster is expecting 3"):
        LogitAdjuster().fit(logits, codes).predict(logits[:, :2])
