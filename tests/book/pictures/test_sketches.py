"""The explanatory drawings: their lines and numbers against scikit-learn and plain geometry."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from imbal_book.pictures.sketches import _bisector, _boundary, boundary_and_centers, center_geometry, redraws

NAMES = ("cat", "dog")


@pytest.fixture(scope="module")
def clouds():
    rng = np.random.default_rng(3)
    spread = np.array([0.08, 0.12])
    return rng.normal([-0.1, 0.01], spread, (60, 2)), rng.normal([0.1, -0.01], spread, (80, 2))


def test_every_point_of_the_bisector_is_equally_far_from_both_centers():
    first, second = np.array([-0.3, 0.2]), np.array([0.5, -0.1])
    heights = np.linspace(-2, 2, 9)
    line = np.stack([_bisector(first[None], second[None], heights), heights], axis=1)
    np.testing.assert_allclose(
        np.linalg.norm(line - first, axis=1), np.linalg.norm(line - second, axis=1), rtol=1e-12
    )


def test_the_boundary_is_where_the_decision_of_logistic_regression_changes_sign(clouds):
    points, labels = np.concatenate(clouds), np.repeat([0, 1], [60, 80])
    scale = points.std()
    model = LogisticRegression(C=100.0).fit(points / scale, labels)
    ys = np.linspace(-0.4, 0.4, 7)
    xs = _boundary(*clouds, ys)
    decisions = [
        model.decision_function(np.stack([xs + step, ys], axis=1) / scale) for step in (-1e-3, 0, 1e-3)
    ]
    assert (decisions[0] < 0).all() and (decisions[2] > 0).all()
    np.testing.assert_allclose(decisions[1], 0, atol=1e-9)


def test_center_geometry_prints_distances_to_the_means(clouds):
    drawing = center_geometry(clouds, NAMES)
    means = [cloud.mean(0) for cloud in clouds]
    np.testing.assert_allclose(drawing.table[["center_x", "center_y"]], means)
    ax = drawing.figure.axes[0]
    (query,) = (dots.get_offsets()[0] for dots in ax.collections if dots.get_label() == "query image")
    distances = [np.linalg.norm(query - mean) for mean in means]
    np.testing.assert_allclose(drawing.table["distance_to_query"], distances)
    assert [text.get_text() for text in ax.texts] == [f"{distance:.2f}" for distance in distances]
    assert f"{NAMES[int(np.argmin(distances))]} is nearer" in drawing.alt


def test_shares_of_the_full_clouds_are_those_of_the_nearest_mean_and_of_logistic_regression(clouds):
    drawing = boundary_and_centers(clouds, NAMES, [60, 6])
    row = drawing.table.iloc[0]
    means = np.stack([cloud.mean(0) for cloud in clouds])
    points, labels = np.concatenate(clouds), np.repeat([0, 1], [60, 80])
    model = LogisticRegression(C=100.0).fit(points / points.std(), labels)
    for label, (name, cloud) in enumerate(zip(NAMES, clouds, strict=True)):
        nearest = np.linalg.norm(cloud[:, None] - means, axis=2).argmin(1)
        assert row[f"{name} found by centers"] == pytest.approx(np.mean(nearest == label))
        predicted = model.predict(cloud / points.std())
        assert row[f"{name} found by softmax"] == pytest.approx(np.mean(predicted == label))


def test_thinning_moves_the_softmax_boundary_and_the_words_say_by_how_much(clouds):
    drawing = boundary_and_centers(clouds, NAMES, [60, 20, 5])
    table = drawing.table
    assert list(table["cat images"]) == [60, 20, 5]
    assert table["cat found by softmax"].iloc[-1] < table["cat found by softmax"].iloc[0]
    for method in ("softmax", "centers"):
        for index in (0, -1):
            assert f"{table[f'cat found by {method}'].iloc[index]:.0%}" in drawing.alt
    assert len(drawing.figure.axes) == 3
    assert [ax.get_title() for ax in drawing.figure.axes] == [
        "60 cat : 80 dog",
        "20 cat : 80 dog",
        "5 cat : 80 dog",
    ]


def test_redraws_report_mean_and_spread_of_the_centers_boundary(clouds):
    drawing = redraws(clouds, NAMES, 5, draws=6)
    first, second = clouds
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(6):
        center = first[rng.choice(60, 5, replace=False)].mean(0)
        nearer = np.linalg.norm(first - center, axis=1) < np.linalg.norm(first - second.mean(0), axis=1)
        shares.append(nearer.mean())
    row = drawing.table.set_index("method").loc["category centers"]
    assert row["cat found, mean"] == pytest.approx(np.mean(shares))
    assert row["standard deviation"] == pytest.approx(np.std(shares, ddof=1))
    for _, entry in drawing.table.iterrows():
        assert f"{entry['cat found, mean']:.0%}" in drawing.alt
        assert f"{entry['standard deviation']:.1%}" in drawing.alt


def test_the_same_features_draw_the_same_picture(clouds):
    pictures = [redraws(clouds, NAMES, 5, draws=draws).svg() for draws in (3, 3, 4)]
    assert pictures[0] == pictures[1] != pictures[2]


@pytest.mark.parametrize("draw", [center_geometry, boundary_and_centers, redraws])
def test_every_sketch_has_a_caption_words_and_numbers(clouds, draw):
    arguments = {boundary_and_centers: ([40, 8],), redraws: (8,)}.get(draw, ())
    options = {"draws": 2} if draw is redraws else {}
    drawing = draw(clouds, NAMES, *arguments, caption="from real features", **options)
    assert drawing.caption == "from real features"
    assert len(drawing.table) == 2 and drawing.alt.endswith(".")
    assert "cat" in drawing.alt, "the class that is thinned out"
