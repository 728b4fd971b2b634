"""What latent summaries say when they are read: of one network, and of two."""

import numpy as np
import pytest
from latent_sides import CLASSES, UNITS, network, readings_of, side, summaries

from imbal_book.run.packed_numbers import unpack_rows
from imbal_book.studies.latent_readings import changes, class_overlaps, share_curve
from imbal_book.studies.latent_summaries import SHARES_AT, Side, latent_summaries


@pytest.fixture(scope="module")
def latent():
    return summaries()


def test_overlaps_are_those_of_the_sets_of_units(latent):
    units = unpack_rows(latent["top"]["CE"]["test"]["true positives"]["identities"])
    right = [set(row) - {-1} for row in units.tolist()]
    between = [[len(a & b) / 10 for b in right] for a in right]
    np.testing.assert_allclose(class_overlaps(latent), between)
    others = [np.mean([between[a][b] for b in range(CLASSES) if b != a]) for a in range(CLASSES)]
    np.testing.assert_allclose(readings_of(latent)["class_overlap"], others)


def test_every_reading_is_one_number_for_each_class(latent):
    readings = readings_of(latent)
    assert len(readings) == CLASSES and readings["rare"].tolist() == [False, False, True, True]
    curve = share_curve(latent).set_index(["label", "k"])["value"].unstack()
    assert curve.columns.tolist() == [k for k in SHARES_AT if k <= UNITS] and len(curve) == CLASSES
    stored = unpack_rows(latent["top"]["CE"]["test"]["true positives"]["shares"])
    np.testing.assert_allclose(curve, stored)
    np.testing.assert_allclose(readings["top_k_share"], curve[10])
    table = latent["top"]["CE"]["train"]["true positives"]
    np.testing.assert_allclose(readings["units_in_use"], unpack_rows(table["in_use"])[:, 1] / UNITS)
    gaps = unpack_rows(latent["gaps"]["FE"])
    np.testing.assert_allclose(readings["magnitude_gap_fn_fe"], gaps[2])
    np.testing.assert_allclose(
        readings["recall_without"],
        unpack_rows(latent["cut"]["without"]["recall"])[latent["cut"]["k"].index(10)],
    )
    spread = latent["diversity"]
    np.testing.assert_allclose(readings["cosine_distance_train"], unpack_rows(spread["equal"])[2])
    np.testing.assert_allclose(readings["effective_rank"], unpack_rows(spread["test"])[0])
    np.testing.assert_allclose(readings["coverage_equal"], unpack_rows(spread["coverage"])[1])
    np.testing.assert_allclose(readings["range_gap"], unpack_rows(spread["range_gap"])[0])


def test_weaker_test_features_have_a_larger_gap():
    gaps = [readings_of(summaries(strength))["magnitude_gap"] for strength in (1.0, 0.6, 0.2)]
    assert (gaps[0] < gaps[1]).all() and (gaps[1] < gaps[2]).all()


def test_a_network_of_doubled_features_differs_in_magnitude_by_log_two_and_not_in_number(latent):
    train, test = side((60, 30, 12, 6), 1), side((25,) * 4, 2, 0.6)
    doubled = [Side(2 * s.inputs, s.labels, s.predictions) for s in (train, test)]
    other = latent_summaries(*doubled, *network(), seed=0)
    for found in (changes(latent, other), changes(other, latent)):
        np.testing.assert_allclose(found["magnitude_change"], np.log(2), rtol=1e-3)
        assert not found["number_change"].any()
    assert not changes(latent, latent)[["magnitude_change", "number_change"]].to_numpy().any()


def test_numbers_of_units_are_compared_as_shares_of_all_units(latent):
    other = summaries(seed=5)
    counts = [readings_of(x)["units_in_use"] for x in (latent, other)]
    found = changes(latent, other)["number_change"]
    np.testing.assert_allclose(found, np.abs(counts[0] - counts[1]))
    assert found.any()


def test_a_permuted_network_is_matched_and_shares_all_its_units(latent):
    order = np.random.default_rng(4).permutation(UNITS)
    weights, bias = network()
    sides = [side((60, 30, 12, 6), 1), side((25,) * 4, 2, 0.6)]
    permuted = latent_summaries(
        *(Side(s.inputs[:, order], s.labels, s.predictions) for s in sides), weights[:, order], bias, seed=0
    )
    for other in (permuted, latent):
        assert changes(latent, other)["unit_overlap"].tolist() == [1.0] * CLASSES


def test_a_class_without_true_positives_has_no_change_and_no_overlap(latent):
    train, test = side((60, 30, 12, 6), 1), side((25,) * 4, 2, 0.6)
    blind = [Side(s.inputs, s.labels, np.where(s.labels == 3, 0, s.predictions)) for s in (train, test)]
    other = latent_summaries(*blind, *network(), seed=0)
    without = changes(latent, other).assign(overlap=readings_of(other)["class_overlap"])
    assert (without.isna().to_numpy() == [[False], [False], [False], [True]]).all()
