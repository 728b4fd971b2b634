"""The pictures of the losses: their numbers against the formulas, written out here in NumPy."""

import numpy as np
import pytest

from imbal_book.evidence.papers import load_paper
from imbal_book.pictures import loss_pictures as pictures


def formula(objective, z):
    """Return the loss of one image whose true class is the first."""
    p = np.exp(z - z.max())
    p /= p.sum()
    q = p[1:] / p[1:].sum()
    entropy, ce, classes = -(q * np.log(q)).sum(), -np.log(p[0]), len(z)
    return {
        "CE": ce,
        "Focal": 0.25 * (1 - p[0]) ** 2 * ce,
        "COT": -entropy / (classes - 1),
        "CCE (paper)": ce - entropy / (classes - 1),
        "CCE (released)": ce + entropy / classes,
    }[objective]


def slopes(objective, z, step=1e-5):
    """Return the gradient by central differences."""
    moves = step * np.eye(len(z))
    return np.array([(formula(objective, z + m) - formula(objective, z - m)) / (2 * step) for m in moves])


def downhill(objective, z, steps, length):
    """Return the probabilities after gradient descent on the logits, by central differences."""
    for _ in range(steps):
        z = z - length * slopes(objective, z)
    p = np.exp(z - z.max())
    return p / p.sum()


@pytest.mark.parametrize("objective", pictures.OBJECTIVES)
@pytest.mark.parametrize("classes", [3, 10])
def test_values_and_gradients_are_those_of_the_formula(objective, classes):
    p = np.random.default_rng(classes).dirichlet(np.full(classes, 0.7), size=20)
    logits = np.log(p)
    np.testing.assert_allclose(
        pictures.values(objective, p), [formula(objective, z) for z in logits], rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(
        pictures.logit_gradient(objective, p), [slopes(objective, z) for z in logits], atol=1e-8
    )


@pytest.fixture(scope="module")
def simplex():
    return pictures.simplex(steps=60, caption="computed")


def test_the_ways_in_the_triangles_are_gradient_descent(simplex):
    table = simplex.table
    assert list(table["objective"].unique()) == list(pictures.OBJECTIVES)
    for objective, rows in table.groupby("objective", sort=False):
        assert len(rows) == 7
        row = rows.iloc[1].drop("objective").to_numpy(dtype=float)
        np.testing.assert_allclose(downhill(objective, np.log(row[:3]), 60, 0.2), row[3:], atol=1e-6)


def test_the_words_of_the_triangles_name_where_the_last_way_ends(simplex):
    for objective, rows in simplex.table.groupby("objective", sort=False):
        end = rows.iloc[-1]
        share = end["end, wrong 1"] / (end["end, wrong 1"] + end["end, wrong 2"])
        assert f"{objective} {share:.0%} (true class {end['end, p true']:.0%})" in simplex.alt
    assert "5 triangles" in simplex.alt and "7 ways" in simplex.alt and simplex.caption == "computed"
    titles = [ax.get_title() for ax in simplex.figure.axes]
    assert titles[2] == "COT, second update" and titles[-1] == "How to read"


def test_the_second_update_of_cot_does_not_know_the_true_class():
    p = np.array([[0.2, 0.5, 0.3], [0.8, 0.125, 0.075]])
    gradient = pictures.logit_gradient("COT", p)
    np.testing.assert_allclose(gradient[:, 0], 0, atol=1e-15)
    np.testing.assert_allclose(gradient[0], gradient[1], atol=1e-15)  # the same shares of the wrong classes


def test_levelling_draws_the_slope_of_one_wrong_logit_minus_that_of_the_other():
    drawing = pictures.levelling((0.1, 0.95))
    assert [ax.get_title() for ax in drawing.figure.axes] == ["true class at 10 %", "true class at 95 %"]
    for row in drawing.table.to_dict("records"):
        share = row["share of the likelier wrong class"]
        p = np.array([row["p true"], (1 - row["p true"]) * share, (1 - row["p true"]) * (1 - share)])
        gradient = slopes(row["objective"], np.log(p))
        assert row["levelling pull"] == pytest.approx(gradient[1] - gradient[2], abs=1e-8)
        if share == pytest.approx(0.8):
            assert f"{row['objective']} {row['levelling pull']:+.2f}" in drawing.alt


def test_once_the_answer_is_right_the_paper_levels_the_released_form_sharpens_and_cross_entropy_rests():
    table = pictures.levelling((0.95,)).table
    pull = table[np.isclose(table["share of the likelier wrong class"], 0.8)].set_index("objective")
    ce, paper, released = pull.loc[["CE", "CCE (paper)", "CCE (released)"], "levelling pull"]
    assert paper > 5 * ce > 0 > released


def test_unrolled_follows_one_image_and_the_true_class_wins_with_every_loss():
    drawing = pictures.unrolled(steps=(0, 5, 200), classes=6)
    start = np.concatenate([[0.6], np.linspace(1, -1, 5)])
    for row in drawing.table.to_dict("records"):
        p = downhill(row["objective"], start, row["steps"], 1.0)
        q = p[1:] / p[1:].sum()
        assert row["p true"] == pytest.approx(p[0], abs=1e-6)
        assert row["wrong-class entropy (nats)"] == pytest.approx(-(q * np.log(q)).sum(), abs=1e-5)
        assert row["share of the likeliest wrong class"] == pytest.approx(q.max(), abs=1e-5)
    last = drawing.table[drawing.table["steps"] == 200].set_index("objective")
    assert (last["p true"] > 0.98).all() and "5 wrong classes" in drawing.alt
    entropy = last["wrong-class entropy (nats)"]
    assert entropy["CCE (paper)"] > entropy["CE"] > entropy["CCE (released)"]
    assert len(drawing.figure.axes) == 9


def test_the_bound_is_that_of_the_papers_file_and_no_prediction_passes_it():
    held = dict(load_paper("kim_2021").tables["bound"].rows)
    assert {k: pictures.bound_of(k) for k in held} == pytest.approx(held, rel=5e-3, abs=1e-12)
    drawing = pictures.bound((2, 10, 100))
    table = drawing.table.set_index("classes")
    assert (table["largest seen"] <= table["bound (nats)"] + 1e-12).all()
    assert (table["largest seen"] >= 0.8 * table["bound (nats)"]).all()
    assert table.loc[10, "share of ln K"] == pytest.approx(np.log(9) / 9 / np.log(10))
    assert f"100 classes: {held[100]:.4f} nats" in drawing.alt
