"""What latent summaries say when they are read: of one network, and of two."""

import numpy as np
import pytest
from latent_sides import CLASSES, UNITS, network, side, summaries

from imbal_book.run.packed_numbers import unpack_rows
from imbal_book.studies.latent_readings import (
    class_overlaps,
    class_readings,
    magnitude_change,
    match_units,
    matched_overlap,
    number_change,
    share_curve,
    top_table,
)
from imbal_book.studies.latent_summaries import SHARES_AT, Side, latent_summaries


@pytest.fixture(scope="module")
def latent():
    return summaries()


def sets(latent, side, instances, embedding="CE"):
    return [set(row) - {-1} for row in top_table(latent, embedding, side, instances)["identities"].tolist()]


def test_overlaps_are_those_of_the_sets_of_units(latent):
    right, wrong = (sets(latent, "test", kind) for kind in ("true positives", "false negatives"))
    before, after = (sets(latent, side, "all") for side in ("train", "test"))
    between = [[len(a & b) / 10 for b in right] for a in right]
    np.testing.assert_allclose(class_overlaps(latent), between)
    readings = class_readings(latent)
    np.testing.assert_allclose(
        readings["tp_fn_overlap"], [len(a & b) / 10 for a, b in zip(right, wrong, strict=True)]
    )
    np.testing.assert_allclose(
        readings["train_test_overlap"], [len(a & b) / 10 for a, b in zip(before, after, strict=True)]
    )
    others = [np.mean([between[a][b] for b in range(CLASSES) if b != a]) for a in range(CLASSES)]
    np.testing.assert_allclose(readings["class_overlap"], others)


def test_every_reading_is_one_number_for_each_class(latent):
    readings = class_readings(latent)
    assert {values.shape for values in readings.values()} == {(CLASSES,)}
    assert all(values.dtype == np.float64 for values in readings.values())
    at, shares = share_curve(latent, "CE", "test", "true positives")
    assert at == tuple(k for k in SHARES_AT if k <= UNITS) and shares.shape == (CLASSES, len(at))
    np.testing.assert_allclose(readings["top_k_share"], shares[:, at.index(10)])
    table = latent["top"]["CE"]["train"]["true positives"]
    np.testing.assert_allclose(readings["units_in_use"], unpack_rows(table["in_use"])[:, 1] / UNITS)
    np.testing.assert_allclose(readings["units_needed"], unpack_rows(table["needed"])[:, 1] / UNITS)
    gaps = unpack_rows(latent["gaps"]["FE"])
    np.testing.assert_allclose(readings["magnitude_gap_fn_fe"], gaps[2])
    spread = latent["diversity"]
    np.testing.assert_allclose(readings["cosine_distance_train"], unpack_rows(spread["equal"])[2])
    np.testing.assert_allclose(readings["effective_rank"], unpack_rows(spread["test"])[0])
    np.testing.assert_allclose(readings["coverage_equal"], unpack_rows(spread["coverage"])[1])
    np.testing.assert_allclose(readings["range_gap"], unpack_rows(spread["range_gap"])[0])


def test_weaker_test_features_have_a_larger_gap():
    gaps = [class_readings(summaries(strength))["magnitude_gap"] for strength in (1.0, 0.6, 0.2)]
    assert (gaps[0] < gaps[1]).all() and (gaps[1] < gaps[2]).all()


def test_a_network_of_doubled_features_differs_in_magnitude_by_log_two_and_not_in_number(latent):
    train, test = side((60, 30, 12, 6), 1), side((25,) * 4, 2, 0.6)
    doubled = [Side(2 * s.inputs, s.labels, s.predictions) for s in (train, test)]
    other = latent_summaries(*doubled, *network(), seed=0)
    np.testing.assert_allclose(magnitude_change(latent, other), np.log(2), rtol=1e-3)
    np.testing.assert_allclose(magnitude_change(other, latent), np.log(2), rtol=1e-3)
    assert not number_change(latent, other).any()
    assert not magnitude_change(latent, latent).any()


def test_numbers_of_units_are_compared_as_shares_of_all_units(latent):
    other = summaries(seed=5)
    counts = [class_readings(x)["units_in_use"] for x in (latent, other)]
    np.testing.assert_allclose(number_change(latent, other), np.abs(counts[0] - counts[1]))
    assert number_change(latent, other).any()


def test_a_permuted_network_is_matched_and_shares_all_its_units(latent):
    order = np.random.default_rng(4).permutation(UNITS)
    weights, bias = network()
    sides = [side((60, 30, 12, 6), 1), side((25,) * 4, 2, 0.6)]
    permuted = latent_summaries(
        *(Side(s.inputs[:, order], s.labels, s.predictions) for s in sides), weights[:, order], bias, seed=0
    )
    partners, correlations = match_units(latent, permuted)
    assert order[partners].tolist() == list(range(UNITS))
    np.testing.assert_allclose(correlations, 1, atol=1e-6)
    assert matched_overlap(latent, permuted).tolist() == [1.0] * CLASSES
    assert matched_overlap(latent, latent).tolist() == [1.0] * CLASSES


def test_a_class_without_true_positives_has_no_change_and_no_overlap(latent):
    train, test = side((60, 30, 12, 6), 1), side((25,) * 4, 2, 0.6)
    blind = [Side(s.inputs, s.labels, np.where(s.labels == 3, 0, s.predictions)) for s in (train, test)]
    other = latent_summaries(*blind, *network(), seed=0)
    for values in (
        magnitude_change(latent, other),
        number_change(latent, other),
        matched_overlap(latent, other),
        class_readings(other)["class_overlap"],
    ):
        assert np.isnan(values).tolist() == [False, False, False, True]
