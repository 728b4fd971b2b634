"""Class top-K: definitions against loops, hand-made networks, any batching, permuted units, errors."""

import itertools
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import imbal_core.embeddings.feature_arrays
from imbal_core.embeddings.class_top_k import INSTANCES, RANKINGS, SHARES, UNITS_OF, ClassTopK
from imbal_core.embeddings.classification_embeddings import linear_classifier
from imbal_core.models.build import build_model
from imbal_core.training.prediction import predict

OPTIONS = list(itertools.product(RANKINGS, INSTANCES, UNITS_OF, SHARES))


def draw(rows=60, units=9, classes=4, seed=0, dtype=np.float64):
    """Return features after a ReLU with a dead unit, labels, predictions and weights; class 3 has no instance."""
    rng = np.random.default_rng(seed)
    features = np.maximum(rng.standard_normal((rows, units)), 0)
    features[:, -1] = 0
    labels = rng.integers(0, max(classes - 1, 1), rows)
    predictions = np.where(rng.random(rows) < 0.6, labels, rng.integers(0, classes, rows))
    return features.astype(dtype), labels, predictions, rng.standard_normal((classes, units)).astype(dtype)


def draw_whole(rows, units, classes, seed):
    """As `draw`, with small integers: sums are exact, and many values tie."""
    rng = np.random.default_rng(seed)
    features = rng.integers(-2, 4, (rows, units)).astype(np.float64)
    labels, predictions = rng.integers(0, classes, (2, rows))
    return features, labels, predictions, rng.integers(-2, 3, (classes, units)).astype(np.float64)


def ranked(keys):
    """Return unit indices, the largest key first, equal ones by index."""
    return sorted(range(len(keys)), key=lambda unit: (-keys[unit], unit))


def slow_top_k(data, k, ranking, instances, units_of, share, classified=True):
    """The definitions, one instance and one unit at a time in float64."""
    features, labels, predictions, weights = data
    units = features.shape[1]
    key_of = abs if ranking == "absolute" else float
    part_of = {"absolute": abs, "positive": lambda v: max(v, 0.0), "net": float}[share]
    results = []
    for c in range(len(weights)):
        rows = []
        for feature, label, prediction in zip(features, labels, predictions, strict=True):
            right = label == prediction
            wanted = {"all": True, "true positives": right, "false negatives": not right}[instances]
            if label == c and wanted:
                row = [
                    float(feature[j]) * (float(weights[c, j]) if classified else 1.0) for j in range(units)
                ]
                rows.append(row)
        n = len(rows)
        own = [ranked([key_of(v) for v in row]) for row in rows]
        frequencies = [0] * units
        for row, order in zip(rows, own, strict=True):
            for unit in order[:k]:
                frequencies[unit] += key_of(row[unit]) > 0
        if not n:
            nan = np.full(units, np.nan)
            results.append(([-1] * k, nan[:k], frequencies, nan, nan, 0))
            continue
        means = [sum(key_of(row[j]) for row in rows) / n for j in range(units)]
        if units_of == "class mean":
            order = ranked(means)
            identities = [unit if means[unit] > 0 else -1 for unit in order]
            magnitudes = [max(means[unit], 0.0) for unit in order]
            parts = [[part_of(row[unit]) for unit in order] for row in rows]
        else:
            order = sorted(range(units), key=lambda unit: (-frequencies[unit], -means[unit], unit))
            identities = [unit if frequencies[unit] else -1 for unit in order]
            magnitudes = [
                sum(max(key_of(row[o[rank]]), 0.0) for row, o in zip(rows, own, strict=True)) / n
                for rank in range(units)
            ]
            by_value = [sorted(row, key=lambda v: (-key_of(v), -v)) for row in rows]
            parts = [[part_of(v) for v in row] for row in by_value]
        total = sum(map(sum, parts))
        shares = [
            sum(sum(part[: many + 1]) for part in parts) / total if total > 0 else np.nan
            for many in range(units)
        ]
        results.append((identities[:k], magnitudes[:k], frequencies, shares, means, n))
    return [np.array(column) for column in zip(*results, strict=True)]


def assert_same(found, expected, rtol=1e-10):
    identities, magnitudes, frequencies, shares, means, counts = expected
    assert_array_equal(found.identities, identities)
    assert_allclose(found.magnitudes, magnitudes, rtol=rtol, atol=1e-12)
    assert_array_equal(found.frequencies, frequencies)
    assert_allclose(found.shares, shares, rtol=rtol, atol=1e-10)
    assert_allclose(found.means, means, rtol=rtol, atol=1e-12)
    assert_array_equal(found.counts, counts)


def accumulate(data, k, ranking="absolute", classified=True):
    features, labels, predictions, weights = data
    top = ClassTopK(len(weights), weights=weights if classified else None, k=k, ranking=ranking)
    return top.update(features, labels, predictions)


@pytest.mark.parametrize(("ranking", "instances", "units_of", "share"), OPTIONS)
@pytest.mark.parametrize("classified", [True, False])
def test_every_combination_of_options_is_the_loop_over_instances(
    ranking, instances, units_of, share, classified
):
    data = draw()
    found = accumulate(data, 4, ranking, classified).compute(
        instances=instances, units_of=units_of, share=share
    )
    assert_same(found, slow_top_k(data, 4, ranking, instances, units_of, share, classified))
    assert found.embedding == ("classification" if classified else "feature")
    assert (found.instances, found.ranking, found.units_of, found.share, found.k) == (
        instances,
        ranking,
        units_of,
        share,
        4,
    )


@given(st.sampled_from(OPTIONS), st.integers(1, 25), st.integers(1, 7), st.integers(1, 4), st.data())
@settings(max_examples=150, deadline=None)
def test_values_that_tie_rank_by_the_lower_index(options, rows, units, classes, source):
    k = source.draw(st.integers(1, units))
    ranking, instances, units_of, share = options
    data = draw_whole(rows, units, classes, source.draw(st.integers(0, 10**6)))
    found = accumulate(data, k, ranking).compute(instances=instances, units_of=units_of, share=share)
    assert_same(found, slow_top_k(data, k, ranking, instances, units_of, share))


@given(st.sampled_from(OPTIONS), st.integers(0, 10**6), st.lists(st.integers(1, 59)), st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_split_into_batches_gives_the_same(options, seed, cuts, merged):
    ranking, instances, units_of, share = options
    features, labels, predictions, weights = data = draw(seed=seed)
    edges = [0, *sorted(set(cuts)), 60]
    parts = [slice(*edge) for edge in itertools.pairwise(edges)]
    top = ClassTopK(4, weights=weights, k=3, ranking=ranking)
    for part in parts:
        if merged:
            top.merge(accumulate((features[part], labels[part], predictions[part], weights), 3, ranking))
        else:
            top.update(features[part], labels[part], predictions[part])
    whole = accumulate(data, 3, ranking)
    chosen = {"instances": instances, "units_of": units_of, "share": share}
    expected = whole.compute(**chosen)
    names = ("identities", "magnitudes", "frequencies", "shares", "means", "counts")
    assert_same(top.compute(**chosen), [getattr(expected, name) for name in names])


@given(st.sampled_from(OPTIONS), st.integers(0, 10**6), st.permutations(range(9)))
@settings(max_examples=60, deadline=None)
def test_permuting_hidden_units_permutes_identities_and_nothing_else(options, seed, order):
    ranking, instances, units_of, share = options
    features, labels, predictions, weights = data = draw(seed=seed)
    chosen = {"instances": instances, "units_of": units_of, "share": share}
    plain = accumulate(data, 3, ranking).compute(**chosen)
    order = np.array(order)
    moved = (features[:, order], labels, predictions, weights[:, order])
    other = accumulate(moved, 3, ranking).compute(**chosen)
    assert_array_equal(np.where(other.identities >= 0, order[other.identities], -1), plain.identities)
    assert_allclose(other.magnitudes, plain.magnitudes, rtol=1e-12)
    assert_allclose(other.shares, plain.shares, rtol=1e-9, atol=1e-12)
    assert_array_equal(other.frequencies, plain.frequencies[:, order])
    assert_allclose(other.means, plain.means[:, order], rtol=1e-12)
    assert_array_equal(other.units_for_share(0.7), plain.units_for_share(0.7))


@given(st.integers(0, 10**6), st.permutations(range(4)), st.integers(-30, 30))
@settings(max_examples=30, deadline=None)
def test_classes_can_be_renamed_and_features_scaled(seed, order, power):
    features, labels, predictions, weights = data = draw(seed=seed)
    order = np.array(order)
    renamed = np.empty_like(weights)
    renamed[order] = weights
    plain = accumulate(data, 3).compute()
    other = accumulate((features * 2.0**power, order[labels], order[predictions], renamed), 3).compute()
    assert_array_equal(other.identities[order], plain.identities)
    assert_array_equal(other.frequencies[order], plain.frequencies)
    assert_allclose(other.shares[order], plain.shares, rtol=1e-12)
    assert_allclose(other.magnitudes[order], plain.magnitudes * 2.0**power, rtol=1e-12)


@given(st.integers(0, 10**6), st.sampled_from(RANKINGS), st.sampled_from(UNITS_OF))
@settings(max_examples=30, deadline=None)
def test_absolute_shares_rise_to_one_and_beat_those_of_any_other_order(seed, ranking, units_of):
    shares = accumulate(draw(seed=seed), 3, ranking).compute(units_of=units_of).shares[:3]
    assert (np.diff(shares, axis=1) >= -1e-12).all() and (shares[:, -1] == 1).all()
    best = accumulate(draw(seed=seed), 3, "absolute").compute(units_of=units_of).shares[:3]
    assert (best >= shares - 1e-12).all()
    own = accumulate(draw(seed=seed), 3, "absolute").compute(units_of="instance").shares[:3]
    assert (own >= best - 1e-12).all()


def hand_made():
    """Two classes over four units: class 0 is unit 2 and half as much unit 0; class 1 is unit 3 less unit 1."""
    network = build_model("linear", 2, in_features=4).eval()
    with torch.no_grad():
        network.head.weight.copy_(torch.tensor([[1.0, 0.0, 2.0, 0.0], [0.0, -1.0, 0.0, 3.0]]))
        network.head.bias.copy_(torch.tensor([0.0, 1.0]))
    features = np.array([[1, 1, 1, 0], [3, 0, 3, 0], [0, 1, 0, 1], [0, 3, 2, 1], [1, 2, 0, 3]], np.float32)
    labels = np.array([0, 0, 1, 1, 1])
    return network, features, labels


def test_a_hand_made_network_gives_the_units_it_was_made_of():
    network, features, labels = hand_made()
    out = predict(network, features, taps=("fully connected",))
    predictions = out["logits"].argmax(1)
    assert predictions.tolist() == [0, 0, 1, 0, 1]
    classifier = linear_classifier(network)
    top = ClassTopK(2, weights=classifier.weights, k=2)
    top.update(out[classifier.tap], labels, predictions)

    every = top.compute()
    assert every.identities.tolist() == [[2, 0], [3, 1]]
    assert_allclose(every.magnitudes, [[4, 2], [5, 2]])
    assert_allclose(every.shares, [[2 / 3, 1, 1, 1], [5 / 7, 1, 1, 1]])
    assert every.frequencies.tolist() == [[2, 0, 2, 0], [0, 3, 0, 3]]
    assert every.units_for_share(0.7).tolist() == [2, 1]
    assert every.units_in_use().tolist() == [2, 2]

    # The missed image of class 1 has CE (0, -3, 0, 3): unit 1 ties with unit 3 and has the lower index.
    missed = top.compute(instances="false negatives")
    assert missed.identities.tolist() == [[-1, -1], [1, 3]] and missed.counts.tolist() == [0, 1]
    assert np.isnan(missed.magnitudes[0]).all() and missed.magnitudes[1].tolist() == [3, 3]
    assert np.isnan(missed.units_in_use()[0]) and np.isnan(missed.units_for_share(0.5)[0])

    signed = ClassTopK(2, weights=classifier.weights, k=2, ranking="signed")
    signed.update(out[classifier.tap], labels, predictions)
    net = signed.compute(share="net")
    assert net.identities.tolist() == [[2, 0], [3, -1]]
    assert_allclose(net.magnitudes, [[4, 2], [5, 0]])
    # Class 1: 15 for it, 6 against it. The logit less its bias is 9 in sum, of which unit 3 alone is 5 thirds.
    assert_allclose(net.shares[1], [15 / 9, 15 / 9, 15 / 9, 1])
    assert_allclose(signed.compute(share="positive").shares[1], 1)
    assert np.isnan(signed.compute(instances="false negatives", share="net").shares[1]).all()


def test_a_logit_of_zero_has_no_share_whatever_the_rounding():
    features = np.array([[0.1, 0.2, 0.3]])
    top = ClassTopK(1, weights=[[1.0, 1, -1]], k=1, ranking="signed").update(features, [0])
    assert 0.1 + 0.2 - 0.3 > 0
    assert np.isnan(top.compute(share="net").shares).all()


def test_means_of_signed_classification_embeddings_add_up_to_the_mean_logit():
    features, labels, _, weights = draw()
    top = ClassTopK(4, weights=weights, k=1, ranking="signed").update(features, labels).compute()
    logits = features @ weights.T
    for label in range(3):
        assert top.means[label].sum() == pytest.approx(logits[labels == label, label].mean(), abs=1e-12)


def test_exchanged_arguments_give_the_embeddings_of_the_predicted_class():
    features, labels, predictions, weights = draw()
    swapped = ClassTopK(4, weights=weights, k=3).update(features, predictions, labels)
    found = swapped.compute(instances="false negatives")
    for label in range(4):
        wrong = (predictions == label) & (labels != label)
        assert found.counts[label] == wrong.sum() > 0
        assert_allclose(found.means[label], np.abs(features[wrong] * weights[label]).mean(0))


@pytest.mark.parametrize(
    "convert",
    [
        lambda a: a.astype(np.float32),
        lambda a: torch.from_numpy(a).float(),
        lambda a: torch.from_numpy(a).to(torch.bfloat16),
        lambda a: a.astype(np.float16),
        lambda a: a.astype(np.int64),
        lambda a: torch.from_numpy(a).double().requires_grad_(),
        lambda a: np.asfortranarray(a),
        lambda a: a.tolist(),
    ],
    ids=["float32", "tensor", "bfloat16", "float16", "int64", "gradient", "fortran", "list"],
)
def test_every_kind_of_input_gives_the_result_of_its_values(convert):
    features, labels, predictions, weights = data = draw_whole(30, 6, 3, 1)
    expected = slow_top_k(data, 2, "absolute", "all", "instance", "absolute")
    top = ClassTopK(3, weights=convert(weights), k=2)
    top.update(convert(features), torch.from_numpy(labels), predictions.tolist())
    assert_same(top.compute(units_of="instance"), expected)


def test_the_input_is_left_as_it_was():
    features, labels, predictions, weights = draw(dtype=np.float32)
    kept = features.copy()
    for given_as in (features, torch.from_numpy(features)):
        ClassTopK(4, weights=weights, k=3).update(given_as, labels, predictions)
        assert_array_equal(np.asarray(given_as), kept)


@pytest.mark.parametrize("ranking", RANKINGS)
def test_single_precision_is_as_good_as_its_products(ranking):
    data = draw(rows=200, units=40, dtype=np.float32)
    found = accumulate(data, 5, ranking).compute(units_of="instance", instances="true positives")
    expected = slow_top_k(data, 5, ranking, "true positives", "instance", "absolute")
    assert_same(found, expected, rtol=1e-6)


def test_pieces_of_one_row_give_the_same(monkeypatch):
    data = draw()
    expected = slow_top_k(data, 3, "signed", "all", "instance", "net")
    monkeypatch.setattr(imbal_core.embeddings.feature_arrays, "_PIECE_VALUES", 1)
    assert_same(accumulate(data, 3, "signed").compute(units_of="instance", share="net"), expected)


def test_memory_beside_the_input_does_not_grow_with_the_rows():
    def peak(rows):
        features, labels = np.ones((rows, 512), np.float32), np.arange(rows) % 5
        top = ClassTopK(5, weights=np.ones((5, 512), np.float32))
        tracemalloc.start()
        top.update(features, labels, labels)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    # A row costs its label, prediction, group and place in the order, 8 bytes each and a few copies of them.
    assert peak(20_000) - peak(5_000) < 15_000 * 100
    assert peak(20_000) < 2**24


def test_k_may_be_all_units():
    data = draw()
    found = accumulate(data, 9).compute()
    assert_same(found, slow_top_k(data, 9, "absolute", "all", "class mean", "absolute"))
    assert (found.identities[:3, -1] == -1).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((2, 3)), [0, 1]), "features have 3 units, expected 4: take the same layer"),
        ((np.ones(4), [0]), r"features must have shape \(N, D\), got \(4,\)"),
        ((np.array([[1, np.nan, 1, 1]]), [0]), "features hold NaN or infinity, first in row 0"),
        ((torch.full((1, 4), torch.inf), [0]), "features hold NaN or infinity, first in row 0"),
        ((np.ones((1, 4), bool), [0]), "features must be real numbers, got bool"),
        ((np.ones((1, 4), complex), [0]), "features must be real numbers, got complex128"),
        ((np.ones((2, 4)), [0, 2]), r"labels must lie in \[0, 2\), got values from 0 to 2"),
        ((np.ones((2, 4)), [0, -1]), r"labels must lie in \[0, 2\), got values from -1 to 0"),
        ((np.ones((2, 4)), [0.0, 1.0]), "labels must be integers"),
        ((np.ones((2, 4)), [0]), "labels must be 2, one for each row of features, got 1"),
        ((np.ones((1, 4)), [0], [5]), r"predictions must lie in \[0, 2\)"),
        ((np.ones((1, 4)), [0]), "predictions must come with every batch or with none"),
    ],
)
def test_a_bad_batch_is_refused_and_left_out(arguments, message):
    top = ClassTopK(2, weights=np.eye(2, 4), k=1).update(np.ones((2, 4)), [0, 1], [0, 0])
    before = top.compute()
    good = np.ones((1, 4))
    features, labels, *predictions = arguments
    mixed = "every batch" in message
    if np.ndim(features) == 2 and np.shape(features)[1] == 4 and not mixed and len(labels) == len(features):
        features = (
            torch.cat([torch.from_numpy(good), features.double()])
            if torch.is_tensor(features)
            else (np.concatenate([good.astype(features.dtype), features]))
        )
        labels, message = [0, *labels], message.replace("row 0", "row 1").replace("from 2", "from 0")
        predictions = [[0, *predictions[0]]] if predictions else [np.zeros(len(labels), int)]
    elif not mixed:
        predictions = [labels]
    with pytest.raises(ValueError, match=message):
        top.update(features, labels, *predictions)
    after = top.compute()
    assert_array_equal(after.counts, before.counts)
    assert_array_equal(after.means, before.means)


def test_what_cannot_be_asked_is_said():
    top = ClassTopK(2, k=3)
    with pytest.raises(ValueError, match="no instance was seen yet: call update first"):
        top.compute()
    with pytest.raises(ValueError, match="k=3 is more than the 2 units"):
        top.update(np.ones((1, 2)), [0])
    top.update(np.ones((1, 4)), [0])
    assert top.compute().counts.tolist() == [1, 0]
    with pytest.raises(ValueError, match="'true positives' needs predictions in every update"):
        top.compute(instances="true positives")
    for option in ("instances", "units_of", "share"):
        with pytest.raises(ValueError, match=f"unknown {option} 'some'"):
            top.compute(**{option: "some"})
    with pytest.raises(ValueError, match="unknown ranking 'relative'"):
        ClassTopK(2, ranking="relative")
    with pytest.raises(ValueError, match=r"weights must have shape \(2, D\), got \(3, 4\)"):
        ClassTopK(2, weights=np.ones((3, 4)))
    with pytest.raises(ValueError, match="weights hold NaN or infinity"):
        ClassTopK(2, weights=[[1.0], [np.inf]], k=1)
    with pytest.raises(ValueError, match="k=5 is more than the 4 units"):
        ClassTopK(2, weights=np.ones((2, 4)), k=5)
    with pytest.raises(ValueError, match="at least 1"):
        ClassTopK(2, k=0)
    for share in (0, 1.5):
        with pytest.raises(ValueError, match=r"share must lie in \(0, 1\]"):
            top.compute().units_for_share(share)
    with pytest.raises(ValueError, match=r"rate must lie in \[0, 1\)"):
        top.compute().units_in_use(1.0)


def test_unlike_accumulators_are_not_merged():
    def seen(width, predictions=None, **options):
        return ClassTopK(2, **{"k": 1, **options}).update(np.ones((1, width)), [0], predictions)

    with pytest.raises(ValueError, match="the weights must be equal"):
        seen(3).merge(seen(3, weights=np.ones((2, 3))))
    with pytest.raises(ValueError, match=r"are \(2, 1, 'absolute'\) and \(2, 2, 'absolute'\)"):
        seen(3).merge(seen(3, k=2))
    with pytest.raises(ValueError, match="one accumulator has predictions and the other none"):
        seen(3).merge(seen(3, [0]))
    with pytest.raises(ValueError, match="cannot merge: 3 and 4 units"):
        seen(3).merge(seen(4))
    assert seen(3).merge(ClassTopK(2, k=1)).compute().counts.tolist() == [1, 0]
    assert ClassTopK(2, k=1).merge(seen(3, [1])).compute(instances="false negatives").counts.tolist() == [
        1,
        0,
    ]
