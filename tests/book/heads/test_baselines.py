import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from imbal_book.heads.baselines import STRENGTHS, fit_baseline
from imbal_book.heads.parts import draw_parts
from imbal_book.heads.scores import confusions, metric_of


def problem(counts):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(counts)), counts)
    features = rng.normal(0, 0.5, (len(labels), 6)).astype(np.float32) + np.eye(len(counts), 6)[labels]
    parts = draw_parts(labels, np.arange(len(labels)), None, repeats=3, validations=2, seed=0)
    return features, labels, parts, metric_of("balanced-accuracy", measured=parts.measured)


@pytest.mark.parametrize("counts", [(80, 30, 10), (60, 12)])
@pytest.mark.parametrize(("name", "weight"), [("logistic", "balanced"), ("logistic-plain", None)])
def test_the_head_of_a_logistic_regression_predicts_as_scikit_learn(counts, name, weight):
    features, labels, parts, metric = problem(counts)
    tables, heads = fit_baseline(name, features, labels, parts, metric, len(counts), 0)
    for s, (train, measure) in enumerate(zip(parts.train, parts.measure, strict=True)):
        logits = features[measure] @ heads.weight[s].numpy() + heads.bias[s].numpy()
        np.testing.assert_array_equal(confusions(labels[measure], logits.argmax(1), len(counts)), tables[s])
        models = [
            LogisticRegression(C=c, class_weight=weight, max_iter=100, tol=1e-3).fit(
                features[train], labels[train]
            )
            for c in STRENGTHS
        ]
        found = [confusions(labels[measure], m.predict(features[measure]), len(counts)) for m in models]
        assert any(np.array_equal(tables[s], table) for table in found)


@pytest.mark.parametrize("name", ["smote", "forest"])
@pytest.mark.parametrize("counts", [(80, 30, 10), (80, 30, 10, 1)])
def test_what_imbalanced_learn_gives_is_measured_too(name, counts):
    pytest.importorskip("imblearn", reason="the extra `baselines` is not installed")
    features, labels, parts, metric = problem(counts)
    tables, heads = fit_baseline(name, features, labels, parts, metric, len(counts), 0)
    assert [table.sum() for table in tables] == [len(rows) for rows in parts.measure]
    assert np.mean([metric(table) for table in tables]) > 0.4
    assert (heads is None) == (name == "forest")


def test_without_imbalanced_learn_its_rows_are_left_out(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    features, labels, parts, metric = problem((40, 12))
    assert fit_baseline("smote", features, labels, parts, metric, 2, 0) is None
