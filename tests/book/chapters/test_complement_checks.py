"""What the chapter on complement cross entropy computes live: each number against its formula, written out here."""

import math

import pytest
import torch
import torch.nn.functional as F

from imbal_book.chapters import complement_checks as checks
from imbal_book.evidence.papers import load_paper
from imbal_book.studies.grids.complement_cross_entropy import ARMS


def released(logits, targets):
    """Return CE + C / K, averaged, by loops in Python's floats."""
    total = 0.0
    for z, g in zip(logits.tolist(), targets.tolist(), strict=True):
        odds = [math.exp(value) for value in z]
        p = [value / sum(odds) for value in odds]
        q = [value / (1 - p[g]) for j, value in enumerate(p) if j != g]
        total += -math.log(p[g]) - sum(value * math.log(value) for value in q) / len(z)
    return total / len(targets)


def test_the_released_expression_is_cross_entropy_plus_the_entropy_over_k():
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(30, 7, generator=generator, dtype=torch.float64)
    targets = torch.randint(7, (30,), generator=generator)
    found = float(checks.released_expression(logits, targets))
    assert found == pytest.approx(released(logits, targets), rel=1e-5), "its constant 1e-7 shifts it a little"


def test_the_sign_check_gives_the_numbers_of_the_papers_file_again():
    paper = load_paper("kim_2021")
    found = checks.sign_check(paper)
    for name, p in {"p = (.5, .4, .1)": (0.5, 0.4, 0.1), "p = (.5, .25, .25)": (0.5, 0.25, 0.25)}.items():
        for loss in ("CE", "CCE (paper)", "CCE (released)"):
            held = paper.tables["sign check"].number(loss, name).value
            assert found.loc[loss, (name, "in the file")] == found.loc[loss, (name, "now")] == f"{held:.4f}"
        expression = found.iloc[-1]
        again = released(torch.tensor([p]).log(), torch.tensor([0]))
        assert float(expression[name, "now"]) == pytest.approx(again, abs=1e-4)
        assert expression[name, "in the file"] == ""
    assert len(found) == 4 and found.index.name == "loss"


def test_only_the_released_expression_fails_on_a_confident_image():
    found = checks.confident_images((5, 20), classes=10).set_index("lead of the true logit")
    mild, sure = found.loc["5"], found.loc["20"]
    left = 9 / (9 + math.exp(5))
    expected = -math.log(1 - left) + math.log(9) / 10
    for name in ("released expression", "ours"):
        assert float(mild[f"{name}: loss"]) == pytest.approx(expected, abs=1e-3)
        assert float(mild[f"{name}: largest gradient"]) == pytest.approx(left, rel=0.1)
    assert mild["1 - p of the true class"] == f"{left:.1e}"
    assert sure["released expression: loss"] == sure["released expression: largest gradient"] == "NaN"
    assert float(sure["ours: loss"]) == pytest.approx(math.log(9) / 10, abs=1e-4)
    assert math.isfinite(float(sure["ours: largest gradient"]))


def test_for_two_classes_value_and_gradient_are_those_of_cross_entropy():
    assert checks.two_class_deviation(2000) < 1e-12


def too_large(logits, targets, reduction):
    return 1.001 * F.cross_entropy(logits, targets, reduction=reduction)


def too_steep(logits, targets, reduction):
    doubled = 2 * logits - logits.detach()
    return F.cross_entropy(doubled, targets, reduction=reduction)


@pytest.mark.parametrize("wrong", [too_large, too_steep])
def test_the_deviation_sees_a_wrong_value_and_a_wrong_gradient(monkeypatch, wrong):
    monkeypatch.setattr(checks, "complement_cross_entropy", wrong)
    assert checks.two_class_deviation(500) > 1e-4


@pytest.fixture(scope="module")
def costs():
    threads = torch.get_num_threads()
    found = checks.step_costs(((2500, 10), (1000, 20)), turns=3)
    assert torch.get_num_threads() == threads, "the number of threads is put back"
    return found.set_index("loss")


def test_every_arm_has_a_cost_beside_pytorchs_cross_entropy_and_the_released_expression(costs):
    assert list(costs.index) == ["PyTorch's cross entropy", *ARMS, "released expression, from its formula"]
    micro, ratio = "2,500 × 10: µs", "2,500 × 10: × PyTorch's CE"
    assert (costs[micro].str.replace(",", "").astype(float) > 0).all()
    assert costs.loc["PyTorch's cross entropy", ratio] == "1.0"
    assert {"1,000 × 20: µs", "1,000 × 20: × PyTorch's CE"} <= set(costs.columns)


def test_cot_alone_needs_a_second_update(costs):
    updates = costs["updates per batch"]
    assert updates["COT"] == 2 and (updates.drop("COT") == 1).all()
