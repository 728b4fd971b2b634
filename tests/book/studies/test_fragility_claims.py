"""The claims on CNN fragility from hand-made records: each can hold, and each can fail."""

import copy
import dataclasses

import numpy as np
import pytest
from fragility_records import LATENTS, records

from imbal_book.chapters.readings import judge_forms
from imbal_book.evidence.claims import judge
from imbal_book.evidence.papers import load_paper
from imbal_book.run.packed_numbers import pack_rows, unpack_rows
from imbal_book.studies import cnn_fragility as study
from imbal_book.studies.grids import cnn_fragility as grids


@pytest.fixture(scope="module")
def plain():
    return records()


def on_cifar(claim_id):
    claim = load_paper("dablain_2023").claims[claim_id]
    return dataclasses.replace(claim, cells=[cell for cell in claim.cells if cell.dataset == "cifar10"])


def verdict(claim_id, found):
    return judge(on_cifar(claim_id), study.frame(found), form="ResNet-20").label


def edited(change):
    """Return a function from arm and seed to summaries that ``change(latent, arm, noise)`` has altered."""

    def latent_of(arm, seed):
        latent = copy.deepcopy(LATENTS[1])
        change(latent, arm, [-0.01, 0.0, 0.01][seed])
        return latent

    return latent_of


def scale_magnitudes(latent, factor):
    table = latent["top"]["CE"]["train"]["true positives"]
    table["magnitudes"] = pack_rows(factor * unpack_rows(table["magnitudes"]), digits=8)


def set_shares(latent, value):
    table = latent["top"]["CE"]["test"]["true positives"]
    table["shares"] = pack_rows(np.full(unpack_rows(table["shares"]).shape, value))


def set_in_use(latent, units):
    table = latent["top"]["CE"]["train"]["true positives"]
    table["in_use"] = pack_rows(np.full(unpack_rows(table["in_use"]).shape, units, dtype=float))


def set_cut(latent, name, value):
    cut = latent["cut"][name]
    cut["recall"] = pack_rows(np.full(unpack_rows(cut["recall"]).shape, value))
    cut["agreement"] = [value] * len(cut["agreement"])


def set_gaps(latent, embedding, rows):
    latent["gaps"][embedding] = pack_rows(np.broadcast_to(rows, (3, 4)))


def set_rank(latent, name, values):
    rows = unpack_rows(latent["diversity"][name])
    rows[0] = values
    latent["diversity"][name] = pack_rows(rows, digits=8)


@pytest.mark.parametrize(
    ("share", "kept", "label"),
    [(0.8, 0.6, "holds"), (0.8, 0.2, "fails"), (0.3, 0.6, "fails")],
)
def test_information_in_the_top_k(share, kept, label):
    def change(latent, arm, noise):
        set_shares(latent, share + noise)
        set_cut(latent, "only", kept + noise)
        set_cut(latent, "without", 0.4)

    found = records(edited(change))
    assert verdict("C-1", found) == label
    assert verdict("C-6", found) == ("holds" if kept > 0.4 else "fails")


@pytest.mark.parametrize(
    ("factor", "more", "in_use", "arxiv", "journal"),
    [
        (3.0, 4, 4, "holds", "holds"),
        (3.0, 0, 4, "undecided", "holds"),
        (1.0, 0, 8, "undecided", "undecided"),
    ],
)
def test_number_and_magnitude_between_balanced_and_imbalanced_training(factor, more, in_use, arxiv, journal):
    def change(latent, arm, noise):
        imbalanced = arm == "CE imbalanced"
        scale_magnitudes(latent, (factor if imbalanced else 1.0) * (1 + noise))
        # the mark of "few" is about the imbalanced arm, of 16 units
        set_in_use(latent, in_use if imbalanced else in_use + more + round(50 * abs(noise)))

    found = records(edited(change))
    assert verdict("C-2b", found) == journal
    assert verdict("C-2a", found) == arxiv


@pytest.mark.parametrize(
    ("distinct", "half", "quarter", "label"),
    [(0.6, 0.4, 0.2, "holds"), (0.6, 0.2, 0.4, "fails"), (0.2, 0.4, 0.2, "fails")],
)
def test_distinct_images_against_copies_and_against_number(distinct, half, quarter, label):
    """From one 0.5 it costs more to halve the distinct images, or the number; or copies help as distinct ones do."""

    def recall_of(arm, seed):
        rare = {"Repeated": 0.3, "Distinct": distinct, "Half": half, "Quarter, copied": quarter}.get(arm, 0.5)
        rare += {"Distinct": 0.01, "Half": 0.01}.get(arm, 0) * seed**2
        return [0.9, 0.8, rare, rare]

    assert verdict("C-3a", records(recall_of=recall_of)) == label


def test_until_the_arms_are_recorded_diversity_against_number_is_undecided():
    def recall_of(arm, seed):
        return [0.9, 0.8, *[0.6 + 0.01 * seed**2 if arm == "Distinct" else 0.3] * 2]

    found = records(recall_of=recall_of)
    old = [
        grids.cell(config)[0] not in ("Half", "Half, copied", "Quarter, copied") for config in found["config"]
    ]
    assert verdict("C-3a", found[old]) == "undecided"
    none = [grids.cell(config)[1] != "step 10" for config in found["config"]]
    assert verdict("C-3a", found[none]) == "not attempted"


@pytest.mark.parametrize(
    ("orders", "label"),
    [
        ([(1, 2, 4, 3), (1, 3, 4, 2), (2, 1, 4, 3)], "holds"),
        ([(4, 2, 1, 3), (4, 3, 1, 2), (3, 4, 1, 2)], "fails"),
    ],
)
def test_diversity_against_class_size(orders, label):
    """Recall has the order of diversity, 2 3 4 1, in the first case, and that of class size in the second."""

    def change(latent, arm, noise):
        set_rank(latent, "equal", [2.0, 3.0, 4.0, 1.0])

    found = records(edited(change), recall_of=lambda arm, seed: [0.2 * place for place in orders[seed]])
    assert verdict("C-3b", found) == label


@pytest.mark.parametrize(("missed", "label"), [(0.4, "holds"), (0.05, "fails")])
def test_gap_of_missed_images(missed, label):
    def change(latent, arm, noise):
        set_gaps(latent, "CE", np.array([[0.2], [0.1], [missed + noise]]))

    assert verdict("C-4", records(edited(change))) == label


@pytest.mark.parametrize(
    ("augmented", "costly", "resampling", "losses"),
    [
        (12.0, 10.0, "holds", "holds"),
        (8.0, 14.0, "fails", "fails"),
        (10.0, 11.05, "undecided", "undecided"),
    ],
)
def test_diversity_that_methods_leave_as_it_is(augmented, costly, resampling, losses):
    def change(latent, arm, noise):
        rank = {"Repeated": augmented, "LDAM-DRW": costly, "Focal": costly, "ASL": costly}.get(arm, 10.0)
        # a noise of its own for each arm, for a difference of none would be a gain of exactly none
        set_rank(latent, "test", rank * (1 + noise * (1 if arm in ("Repeated", "ASL") else 0.5)))

    found = records(edited(change))
    assert verdict("C-5a", found) == resampling
    assert verdict("C-5b", found) == losses


@pytest.mark.parametrize(
    ("rare", "beyond", "label"),
    [(0.4, 0.5, "holds"), (0.1, 0.5, "fails"), (0.4, 0.1, "fails")],
)
def test_gap_of_minority_classes(rare, beyond, label):
    def change(latent, arm, noise):
        set_gaps(latent, "CE", np.array([0.2, 0.2, rare + noise, rare]))
        gaps = unpack_rows(latent["diversity"]["range_gap"])
        gaps[1] = [0.3, 0.3, beyond + noise, beyond]
        latent["diversity"]["range_gap"] = pack_rows(gaps)

    assert verdict("C-7", records(edited(change))) == label


def test_without_records_nothing_is_claimed_and_every_claim_has_a_verdict_for_every_form(plain):
    claims = load_paper("dablain_2023").claims.values()
    frame = study.frame(plain)
    labels = {
        (c.id, form): v.label for c in claims for form in c.forms for v in judge_forms(c, frame, [form])
    }
    assert len(labels) == len(list(claims)) * 3
    assert {label for (_, form), label in labels.items() if form != "ResNet-20"} == {"not attempted"}
    assert {labels[claim.id, "ResNet-20"] for claim in claims} <= {"holds", "fails", "undecided"}
