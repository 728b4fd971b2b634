"""CategoryCenters: equations 1 and 2, scikit-learn's contract, streaming, extreme rows, errors."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import log_loss
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.utils.estimator_checks import parametrize_with_checks

from imbal_core._checks import rows
from imbal_core.centers import CategoryCenters
from imbal_core.post_hoc import fit_temperature

ZERO_ROW = "truncates its data to integers, which makes row 15 all zeros: equation 1 divides by its length"


def expected_failures(estimator):
    return {"check_estimators_dtypes": ZERO_ROW}


@parametrize_with_checks(
    [CategoryCenters(), CategoryCenters(renormalize=True)], expected_failed_checks=expected_failures
)
def test_follows_the_conventions_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint8, np.int32, np.int64, bool])
def test_every_numeric_type_gives_the_centers_of_its_values(dtype):
    values = (3 * np.random.RandomState(0).uniform(size=(20, 5))).astype(dtype)
    values[15, 0] = 1
    labels = np.arange(20) % 2
    model = CategoryCenters().fit(values, labels)
    assert_allclose(model.centers_, slow_centers(values, labels), atol=1e-6)
    assert model.predict(values).shape == (20,)
    assert model.transform(values).dtype == (dtype if np.dtype(dtype).kind == "f" else np.float64)


def draw(rows=200, features=7, classes=4, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    labels[:classes] = np.arange(classes)
    means = rng.standard_normal((classes, features))
    return (means[labels] + rng.standard_normal((rows, features))).astype(dtype), labels


def slow_centers(values, labels):
    """Equation 1, one row at a time in float64."""
    centers = []
    for label in sorted(set(labels.tolist())):
        total, count = np.zeros(values.shape[1]), 0
        for row, row_label in zip(values.astype(np.float64), labels, strict=True):
            if row_label == label:
                total += row / np.sqrt(sum(value * value for value in row))
                count += 1
        centers.append(total / count)
    return np.array(centers)


def slow_distances(values, centers):
    """The norm in equation 2, one pair at a time."""
    units = [row / np.linalg.norm(row) for row in values.astype(np.float64)]
    return np.array([[np.linalg.norm(unit - center) for center in centers] for unit in units])


@pytest.fixture
def short_chunks(monkeypatch):
    monkeypatch.setattr(rows, "_CHUNK_VALUES", 1)
    monkeypatch.setattr(rows, "_FEWEST_ROWS", 7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_centers_and_distances_are_those_of_the_equations(dtype, short_chunks):
    values, labels = draw(dtype=dtype)
    queries, _ = draw(seed=1, dtype=dtype)
    model = CategoryCenters().fit(values, labels)
    centers = slow_centers(values, labels)
    distances = slow_distances(queries, centers)
    assert model.centers_.dtype == np.float64
    assert_allclose(model.centers_, centers, atol=1e-7)
    assert_allclose(model.transform(queries), distances, atol=1e-6)
    assert_array_equal(model.predict(queries), distances.argmin(axis=1))
    assert_array_equal(model.counts_, np.bincount(labels))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [2, 10])
def test_predicts_as_normalizer_and_nearest_centroid(dtype, classes):
    values, labels = draw(rows=1500, features=64, classes=classes, dtype=dtype)
    queries, _ = draw(rows=1500, features=64, classes=classes, seed=1, dtype=dtype)
    theirs = make_pipeline(Normalizer(), NearestCentroid()).fit(values, labels)
    assert_array_equal(CategoryCenters().fit(values, labels).predict(queries), theirs.predict(queries))


def test_centers_are_not_renormalised_unless_asked():
    # Class 0 spreads over the half plane, so its center is short; class 1 is one direction.
    values = np.array([[1.0, 1.0], [1.0, -1.0], [0.0, 1.0]])
    labels = np.array([0, 0, 1])
    query = [[np.cos(0.8), np.sin(0.8)]]
    paper, unit = CategoryCenters().fit(values, labels), CategoryCenters(renormalize=True).fit(values, labels)
    assert_allclose(paper.centers_, [[np.sqrt(0.5), 0], [0, 1]], atol=1e-15)
    assert_allclose(unit.centers_, [[1, 0], [0, 1]], atol=1e-15)
    # The larger cosine is with class 1 from 45 degrees (0.785) on; the short center is nearer until later.
    assert paper.predict(query) == [0]
    assert unit.predict(query) == [1]


rows_and_cuts = st.tuples(
    st.integers(4, 60),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(0, 10**6),
    st.lists(st.integers(0, 60)),
)


def parts_of(rows, cuts):
    edges = sorted({0, rows, *(cut for cut in cuts if cut < rows)})
    return [slice(start, stop) for start, stop in zip(edges, edges[1:], strict=False)]


@given(rows_and_cuts, st.sampled_from([np.float32, np.float64]))
@settings(max_examples=60, deadline=None)
def test_partial_fit_over_any_batching_equals_fit(case, dtype):
    rows, features, classes, seed, cuts = case
    values, labels = draw(rows, features, classes, seed, dtype)
    whole, parts = CategoryCenters().fit(values, labels), CategoryCenters()
    for part in parts_of(rows, cuts):
        parts.partial_fit(values[part], labels[part])
    assert_array_equal(parts.classes_, whole.classes_)
    assert_array_equal(parts.counts_, whole.counts_)
    assert_allclose(parts.centers_, whole.centers_, atol=1e-6)


@given(rows_and_cuts, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_merge_of_shards_in_any_order_equals_fit(case, random):
    rows, features, classes, seed, cuts = case
    values, labels = draw(rows, features, classes, seed)
    names = np.array(["cat", "dog", "emu", "fox"])[labels]
    shards = [CategoryCenters().fit(values[part], names[part]) for part in parts_of(rows, cuts)]
    random.shuffle(shards)
    merged = CategoryCenters()
    for shard in shards:
        before = (shard.classes_.copy(), shard.counts_.copy(), shard.centers_)
        assert merged.merge(shard) is merged
        for old, new in zip(before, (shard.classes_, shard.counts_, shard.centers_), strict=True):
            assert_array_equal(old, new)
    whole = CategoryCenters().fit(values, names)
    assert_array_equal(merged.classes_, whole.classes_)
    assert_array_equal(merged.counts_, whole.counts_)
    assert_allclose(merged.centers_, whole.centers_, atol=1e-6)


@given(st.integers(0, 10**6), st.permutations(range(4)))
@settings(max_examples=40, deadline=None)
def test_permuting_the_classes_permutes_the_predictions(seed, order):
    values, labels = draw(rows=60, seed=seed)
    order = np.array(order)
    plain = CategoryCenters().fit(values, labels).predict(values)
    assert_array_equal(CategoryCenters().fit(values, order[labels]).predict(values), order[plain])


@given(st.integers(0, 10**6), st.lists(st.integers(-20, 20), min_size=60, max_size=60))
@settings(max_examples=40, deadline=None)
def test_scaling_each_row_changes_nothing(seed, exponents):
    values, labels = draw(rows=60, seed=seed)
    scaled = np.ldexp(values, np.array(exponents)[:, None])
    plain, other = CategoryCenters().fit(values, labels), CategoryCenters().fit(scaled, labels)
    assert_allclose(other.centers_, plain.centers_, rtol=0, atol=1e-14)
    assert_array_equal(other.predict(scaled), plain.predict(values))


@pytest.mark.parametrize(("dtype", "scales"), [(np.float32, (1e-30, 1e37)), (np.float64, (1e-300, 1e307))])
def test_rows_whose_squares_overflow_or_vanish_keep_their_direction(dtype, scales):
    values, labels = draw(rows=60, dtype=dtype)
    plain = CategoryCenters().fit(values, labels)
    scaled = values.copy()
    scaled[::3] *= dtype(scales[0])
    scaled[1::3] *= dtype(scales[1])
    untouched = scaled.copy()
    model = CategoryCenters().fit(scaled, labels)
    assert_allclose(model.centers_, plain.centers_, atol=1e-6)
    assert_array_equal(model.predict(scaled), plain.predict(values))
    assert_allclose(model.transform(scaled), plain.transform(values), atol=1e-6)
    assert_array_equal(scaled, untouched)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int16])
def test_a_tensor_gives_tensors_with_the_values_of_an_array(dtype):
    values, labels = draw()
    tensor = (
        torch.from_numpy(4 * values).to(dtype) if dtype == torch.int16 else torch.from_numpy(values).to(dtype)
    )
    tensor[:, 0] += 1 if dtype == torch.int16 else 0
    keep = tensor.abs().sum(1) > 0
    tensor, target = tensor[keep], torch.from_numpy(labels)[keep]
    array = tensor.double().numpy()
    model, oracle = CategoryCenters().fit(tensor, target), CategoryCenters().fit(array, target.numpy())
    assert isinstance(model.centers_, torch.Tensor)
    assert_allclose(model.centers_.numpy(), oracle.centers_, atol=1e-6)
    labels_out, distances = model.predict(tensor), model.transform(tensor)
    assert labels_out.dtype == torch.int64
    assert labels_out.device == tensor.device
    assert distances.dtype == (dtype if dtype.is_floating_point else torch.float64)
    assert (labels_out.numpy() == oracle.predict(array)).mean() > 0.99
    assert_allclose(distances.double().numpy(), oracle.transform(array), atol=1e-2)


def test_arrays_and_tensors_mix_and_gradients_stay_out():
    values, labels = draw(dtype=np.float32)
    tensor = torch.from_numpy(values).requires_grad_()
    model = CategoryCenters().partial_fit(tensor[:100], torch.from_numpy(labels[:100]))
    model.partial_fit(values[100:], labels[100:])
    assert not model.centers_.requires_grad
    predicted = model.predict(values)
    assert isinstance(predicted, np.ndarray)
    assert_array_equal(model.predict(tensor).numpy(), predicted)
    assert_array_equal(CategoryCenters().fit(values, labels).predict(values), predicted)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_a_gpu_gives_the_centers_of_the_cpu():
    values, labels = draw(dtype=np.float32)
    tensor, target = torch.from_numpy(values).cuda(), torch.from_numpy(labels).cuda()
    model, oracle = CategoryCenters().fit(tensor, target), CategoryCenters().fit(values, labels)
    assert model.centers_.is_cuda
    assert_allclose(model.centers_.cpu().numpy(), oracle.centers_, atol=1e-6)
    assert model.predict(tensor).is_cuda
    assert_array_equal(model.predict(tensor).cpu().numpy(), oracle.predict(values))
    assert model.transform(tensor).is_cuda
    merged = CategoryCenters().fit(values, labels).merge(model)
    assert_allclose(merged.centers_, oracle.centers_, atol=1e-6)
    assert_array_equal(merged.counts_, 2 * oracle.counts_)


def as_array(values):
    return values


@pytest.mark.parametrize("kind", [as_array, torch.from_numpy])
@pytest.mark.parametrize(
    ("value", "message"), [(0.0, "all zeros"), (np.nan, "NaN or infinity"), (-np.inf, "NaN or infinity")]
)
def test_a_row_without_direction_is_refused_by_number_and_leaves_the_estimator_as_it_was(
    kind, value, message
):
    values, labels = draw(dtype=np.float32)
    broken = values.copy()
    if value == 0:
        broken[150] = 0
    else:
        broken[150, 3] = value
    model = CategoryCenters().fit(kind(values), labels)
    centers, counts = np.asarray(model.centers_).copy(), model.counts_.copy()
    for call in (
        lambda: model.partial_fit(kind(broken), labels),
        lambda: model.predict(kind(broken)),
        lambda: model.transform(kind(broken)),
        lambda: CategoryCenters().fit(kind(broken), labels),
    ):
        with pytest.raises(ValueError, match=f"{message}.*1 such row.*row 150"):
            call()
    assert_array_equal(np.asarray(model.centers_), centers)
    assert_array_equal(model.counts_, counts)


@pytest.mark.parametrize("kind", [as_array, torch.from_numpy])
def test_a_wrong_width_is_refused_with_both_widths(kind):
    values, labels = draw()
    model = CategoryCenters().fit(kind(values), labels)
    for call in (model.predict, model.transform):
        with pytest.raises(ValueError, match="X has 5 features, but CategoryCenters is expecting 7"):
            call(kind(values[:, :5].copy()))
    with pytest.raises(ValueError, match="X has 5 features"):
        model.partial_fit(kind(values[:, :5].copy()), labels)


def test_a_declared_class_without_rows_is_named_at_predict():
    model = CategoryCenters().partial_fit([[1.0, 0.0]], ["cat"], classes=["cat", "dog"])
    with pytest.raises(ValueError, match=r"\['dog'\] have no center.*partial_fit"):
        model.predict([[1.0, 0.0]])
    model.partial_fit([[0.0, 1.0]], ["dog"])
    assert model.predict([[1.0, 9.0]]) == ["dog"]


def test_a_label_outside_the_declared_classes_is_refused():
    model = CategoryCenters().partial_fit([[1.0, 0.0]], [0], classes=[0, 1])
    with pytest.raises(ValueError, match=r"labels \[7\].*\[0, 1\]"):
        model.partial_fit([[1.0, 0.0]], [7])
    with pytest.raises(ValueError, match=r"`classes` \[0, 2\] differ"):
        model.partial_fit([[1.0, 0.0]], [0], classes=[0, 2])
    assert_array_equal(model.counts_, [1, 0])


def test_text_labels_and_numbers_do_not_mix():
    model = CategoryCenters().fit([[1.0, 0.0]], ["0"])
    with pytest.raises(ValueError, match="mix text and numbers"):
        model.partial_fit([[1.0, 0.0]], [0])
    with pytest.raises(ValueError, match="mix text and numbers"):
        model.merge(CategoryCenters().fit([[1.0, 0.0]], [0]))
    with pytest.raises(TypeError, match="labels are text"):
        model.predict(torch.ones(1, 2))


def test_merge_refuses_what_it_cannot_add():
    model = CategoryCenters().fit([[1.0, 0.0]], [0])
    with pytest.raises(TypeError, match="CategoryCenters, got NearestCentroid"):
        model.merge(NearestCentroid())
    with pytest.raises(NotFittedError):
        model.merge(CategoryCenters())
    with pytest.raises(ValueError, match="3 features into 2"):
        model.merge(CategoryCenters().fit([[1.0, 0.0, 0.0]], [0]))


def test_renormalising_a_center_of_opposite_rows_is_refused():
    model = CategoryCenters(renormalize=True).fit([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], [0, 0, 1])
    with pytest.raises(ValueError, match=r"classes \[0\] cancel.*renormalize=False"):
        model.predict([[1.0, 0.0]])


def test_an_estimator_without_rows_has_no_centers():
    for model in (CategoryCenters(), clone(CategoryCenters().fit([[1.0, 0.0]], [0]))):
        assert not hasattr(model, "centers_")
        with pytest.raises(NotFittedError):
            model.predict(torch.ones(1, 2))


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), (0, 3)])
def test_a_tensor_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"\(rows, features\)"):
        CategoryCenters().fit(torch.ones(shape), torch.zeros(shape[0], dtype=torch.int64))


def test_labels_must_be_as_many_as_the_rows_of_a_tensor():
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        CategoryCenters().fit(torch.ones(3, 2), torch.zeros(2, dtype=torch.int64))


@pytest.mark.parametrize("kind", [as_array, torch.from_numpy])
def test_a_row_of_weight_w_counts_as_w_rows(kind, short_chunks):
    values, labels = draw(dtype=np.float32)
    weights = np.random.default_rng(5).integers(0, 4, len(labels))
    repeated = CategoryCenters().fit(values.repeat(weights, axis=0), labels.repeat(weights))
    model = CategoryCenters().fit(kind(values), kind(labels), sample_weight=kind(weights))
    assert_allclose(np.asarray(model.centers_), repeated.centers_, atol=1e-12)
    assert_array_equal(model.weights_, repeated.weights_)
    assert_array_equal(model.counts_, np.bincount(labels[weights > 0]))
    parts = CategoryCenters()
    for part in (slice(0, 90), slice(90, None)):
        parts.partial_fit(kind(values[part]), labels[part], sample_weight=weights[part])
    assert_allclose(np.asarray(parts.centers_), repeated.centers_, atol=1e-12)
    merged = CategoryCenters().fit(values, labels, 0.5 * weights).merge(parts)
    assert_allclose(merged.centers_, repeated.centers_, atol=1e-12)
    assert_allclose(merged.weights_, 1.5 * repeated.weights_)


def test_weights_that_weigh_nothing_are_refused():
    values, labels = draw()
    for weights, message in ((np.zeros(len(labels)), "non-zero"), (-np.ones(len(labels)), "[Nn]egative")):
        with pytest.raises(ValueError, match=message):
            CategoryCenters().fit(values, labels, weights)


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_probabilities_are_the_softmax_of_negative_squared_distances(temperature):
    values, labels = draw(dtype=np.float32)
    model = CategoryCenters(temperature=temperature).fit(values, labels)
    powers = np.exp(-(slow_distances(values, slow_centers(values, labels)) ** 2) / temperature)
    found = model.predict_proba(values)
    assert found.dtype == np.float32
    assert_allclose(found, powers / powers.sum(axis=1, keepdims=True), rtol=1e-4, atol=1e-6)
    assert_array_equal(model.classes_[found.argmax(axis=1)], model.predict(values))
    tensor = model.predict_proba(torch.from_numpy(values))
    assert isinstance(tensor, torch.Tensor) and np.array_equal(tensor.numpy(), found)
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        model.set_params(temperature=0).predict_proba(values)


def test_the_temperature_that_fits_the_distances_has_the_smallest_log_loss():
    values, labels = draw(rows=400)
    model = CategoryCenters().fit(values, labels)
    best = fit_temperature(-(model.transform(values) ** 2), labels)
    losses = [
        log_loss(labels, model.set_params(temperature=factor * best).predict_proba(values))
        for factor in (1, 0.8, 1.25)
    ]
    assert losses[0] == min(losses)
