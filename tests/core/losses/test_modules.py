"""Losses: float64 oracles written from the formulas, gradients, laws, extreme logits, the released CCE, errors."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_formulas import (
    CALLABLE,
    GRID,
    WITH_COUNTS,
    draw,
    gradient,
    long_tail,
    oracle,
    wrong_entropy,
)

from imbal_core.losses.class_weights import (
    deferred_weights,
    effective_number_weights,
    inverse_frequency_weights,
    ldam_margins,
)
from imbal_core.losses.complement import complement_cross_entropy, complement_entropy, complement_objective
from imbal_core.losses.functional import (
    adjust_logits,
    asymmetric,
    balanced_softmax,
    cross_entropy,
    focal,
    logit_adjustment,
)
from imbal_core.losses.modules import build_loss


def test_every_loss_has_a_formula_to_compare_with():
    assert {name for name, _ in GRID} == set(CALLABLE)


@pytest.mark.parametrize("classes", [2, 3, 10, 70])
@pytest.mark.parametrize(("name", "options"), GRID)
def test_each_loss_is_its_published_formula(name, options, classes):
    logits, targets = draw(rows=7, classes=classes, seed=classes, spread=1.0)
    counts = long_tail(classes)
    rows = zip(logits.tolist(), targets.tolist(), strict=True)
    values, weights = zip(*(oracle(name, z, g, counts, options) for z, g in rows), strict=True)
    expected = {"none": values, "sum": sum(values), "mean": sum(values) / sum(weights)}
    for reduction, value in expected.items():
        loss = build_loss(name, class_counts=counts, reduction=reduction, **options)
        # Weights and margins are kept in float32.
        np.testing.assert_allclose(loss(logits, targets).numpy(), value, rtol=2e-6, atol=1e-9)


def test_focal_takes_one_factor_for_each_class():
    logits, targets = draw(classes=3)
    alpha = [0.5, 1.0, 2.0]
    rows = zip(logits.tolist(), targets.tolist(), strict=True)
    expected = [oracle("focal", z, g, None, {"alpha": alpha})[0] for z, g in rows]
    actual = build_loss("focal", alpha=alpha, reduction="none")(logits, targets)
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(("name", "options"), GRID)
def test_the_gradient_is_that_of_the_value(name, options, classes, reduction):
    logits, targets = draw(rows=4, classes=classes, spread=1.0)
    loss = build_loss(name, class_counts=long_tail(classes), reduction=reduction, **options)
    assert torch.autograd.gradcheck(lambda z: loss(z, targets), logits.requires_grad_())


def test_backward_may_run_again_over_a_kept_graph():
    logits, targets = draw()
    value = complement_cross_entropy(logits.requires_grad_(), targets)
    value.backward(retain_graph=True)
    once = logits.grad.clone()
    for _ in range(2):
        value.backward(retain_graph=True)
    torch.testing.assert_close(logits.grad, 3 * once)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_reduced_loss_that_is_scaled_has_a_scaled_gradient(reduction):
    logits, targets = draw(rows=7)

    def slope(scale):
        leaf = logits.clone().requires_grad_()
        (scale * complement_cross_entropy(leaf, targets, reduction=reduction)).backward()
        return leaf.grad

    each = gradient(lambda z, g: complement_cross_entropy(z, g, reduction="none"), logits, targets)
    torch.testing.assert_close(slope(1.0), each / (7 if reduction == "mean" else 1))
    torch.testing.assert_close(slope(-2.5), -2.5 * slope(1.0))


@pytest.mark.parametrize("threads_worth", [1, 7, 40])
@pytest.mark.parametrize("function", [complement_cross_entropy, asymmetric])
def test_cutting_a_batch_into_parts_changes_nothing(monkeypatch, function, threads_worth):
    logits, targets = draw(rows=23, classes=6)
    whole, slope = function(logits, targets, reduction="none"), gradient(function, logits, targets)
    monkeypatch.setattr("imbal_core.losses.closed_form._LOGITS_PER_THREAD", threads_worth)
    torch.testing.assert_close(function(logits, targets, reduction="none"), whole)
    torch.testing.assert_close(gradient(function, logits, targets), slope)


@pytest.mark.parametrize("classes", [10, 70])
@pytest.mark.parametrize("function", [complement_cross_entropy, asymmetric])
def test_a_gradient_in_closed_form_is_that_of_automatic_differentiation(function, classes):
    logits, targets = draw(rows=9, classes=classes)
    assert torch.autograd.gradcheck(lambda z: function(z, targets, reduction="none"), logits.requires_grad_())


some_logits = st.builds(
    lambda rows, classes, seed, spread: draw(rows, classes, seed, spread=spread),
    st.integers(1, 5),
    st.integers(2, 40),
    st.integers(0, 10**6),
    st.sampled_from([0.1, 1.0, 10.0, 1000.0]),
)


@settings(max_examples=60, deadline=None)
@given(some_logits)
def test_cce_differs_from_cross_entropy_by_at_most_its_bound_and_equals_it_for_two_classes(batch):
    logits, targets = batch
    others = logits.shape[1] - 1
    plain = F.cross_entropy(logits, targets, reduction="none")
    gap = plain - complement_cross_entropy(logits, targets, reduction="none")
    assert (gap >= -1e-9).all() and (gap <= math.log(others) / others + 1e-9).all()
    torch.testing.assert_close(
        complement_cross_entropy(logits[:, :2], targets % 2), F.cross_entropy(logits[:, :2], targets % 2)
    )


@settings(max_examples=30, deadline=None)
@given(some_logits, st.sampled_from(["paper", "released"]), st.floats(-5, 5))
def test_cce_leaves_the_gradient_of_the_true_logit_alone(batch, form, gamma):
    logits, targets = batch
    ours = gradient(lambda z, y: complement_cross_entropy(z, y, form=form, gamma=gamma), logits, targets)
    plain = gradient(F.cross_entropy, logits, targets)
    chosen = targets.unsqueeze(1)
    torch.testing.assert_close(ours.gather(1, chosen), plain.gather(1, chosen))
    torch.testing.assert_close(ours.sum(1), torch.zeros(len(ours), dtype=ours.dtype), atol=1e-9, rtol=0)


@pytest.mark.parametrize("form", ["paper", "released"])
def test_gamma_zero_is_cross_entropy(form):
    logits, targets = draw()
    expected = F.cross_entropy(logits, targets)
    torch.testing.assert_close(complement_cross_entropy(logits, targets, form=form, gamma=0.0), expected)
    torch.testing.assert_close(focal(logits, targets, gamma=0.0, alpha=1.0), expected)
    torch.testing.assert_close(logit_adjustment(logits, targets, torch.arange(1, 6), tau=0.0), expected)


@settings(max_examples=30, deadline=None)
@given(some_logits)
def test_asymmetric_loss_without_its_exponents_is_label_smoothing_and_without_smoothing_focal(batch):
    logits, targets = batch
    torch.testing.assert_close(
        asymmetric(logits, targets, gamma_pos=0.0, gamma_neg=0.0, smoothing=0.2),
        F.cross_entropy(logits, targets, label_smoothing=0.2),
    )
    torch.testing.assert_close(
        asymmetric(logits, targets, gamma_pos=1.5, smoothing=0.0),
        focal(logits, targets, gamma=1.5, alpha=1.0),
    )


@settings(max_examples=30, deadline=None)
@given(some_logits)
def test_balanced_softmax_is_logit_adjustment_at_tau_one(batch):
    logits, targets = batch
    counts = torch.tensor(long_tail(logits.shape[1]))
    torch.testing.assert_close(
        balanced_softmax(logits, targets, counts), logit_adjustment(logits, targets, counts)
    )


@pytest.mark.parametrize("name", CALLABLE)
def test_permuting_the_classes_changes_nothing(name):
    logits, targets = draw(classes=7)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    counts = torch.tensor(long_tail(7))
    loss = build_loss(name, class_counts=counts)
    permuted = build_loss(name, class_counts=counts[order])
    torch.testing.assert_close(permuted(logits[:, order], order.argsort()[targets]), loss(logits, targets))


@pytest.mark.parametrize("name", WITH_COUNTS)
def test_equal_counts_reduce_to_the_plain_form(name):
    logits, targets = draw()
    value = build_loss(name, class_counts=[40] * 5)(logits, targets)
    if name == "ldam":  # every margin is then max_margin
        margin = 0.5 * F.one_hot(targets, 5)
        expected = F.cross_entropy(30 * (logits - margin), targets)
    else:
        expected = F.cross_entropy(logits, targets)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)


def test_the_numeric_table_of_the_sign_story():
    targets = torch.tensor([0, 0])
    logits = torch.tensor([[0.5, 0.4, 0.1], [0.5, 0.25, 0.25]], dtype=torch.float64).log()
    for options, expected in (
        ({"gamma": 0.0}, [0.6931, 0.6931]),
        ({"form": "paper"}, [0.4429, 0.3466]),
        ({"form": "released"}, [0.8599, 0.9242]),
    ):
        value = complement_cross_entropy(logits, targets, reduction="none", **options)
        np.testing.assert_allclose(value.numpy(), expected, atol=5e-5)


def released_expression(logits, targets):
    """CE - (-C / K) with q = p / (1 - p_g) + 1e-7: the small number is added after the division."""
    rows, classes = logits.shape
    p = logits.softmax(1)
    true = p.gather(1, targets.unsqueeze(1))
    q = p / (1 - true) + 1e-7
    wrong = torch.ones_like(p).scatter_(1, targets.unsqueeze(1), 0.0)
    negated = (q * q.log() * wrong).sum() / (rows * classes)
    return F.cross_entropy(logits, targets) - negated


def test_the_released_form_agrees_with_the_released_expression_where_that_is_finite():
    logits, targets = draw()
    actual = complement_cross_entropy(logits, targets, form="released")
    torch.testing.assert_close(actual, released_expression(logits, targets), atol=1e-5, rtol=0)


def test_the_released_expression_is_nan_for_one_confident_and_correct_image():
    logits = torch.zeros(8, 10)
    logits[3, 0] = 30.0
    targets = torch.zeros(8, dtype=torch.int64)
    assert released_expression(logits, targets).isnan()
    for form in ("paper", "released"):
        assert complement_cross_entropy(logits, targets, form=form).isfinite()
        assert gradient(build_loss("cce", form=form), logits, targets).isfinite().all()


def test_the_released_form_has_the_opposite_sign_and_divides_by_one_class_too_many():
    logits, targets = draw(classes=10)
    plain = cross_entropy(logits, targets)
    paper = complement_cross_entropy(logits, targets) - plain
    released = complement_cross_entropy(logits, targets, form="released") - plain
    assert paper < 0 < released
    torch.testing.assert_close(released, -paper * 9 / 10)
    torch.testing.assert_close(complement_objective(logits, targets), paper)
    torch.testing.assert_close(complement_objective(logits, targets, form="released"), paper * 9 / 10)


def test_the_ldam_repository_puts_the_weighted_probability_into_its_focal_factor():
    weights, logits, targets = torch.tensor([0.2, 1.8]), *draw(classes=2, dtype=torch.float32)
    weighted = F.cross_entropy(logits, targets, weights, reduction="none")
    theirs = (1 - torch.exp(-weighted)) ** 1.0 * weighted
    published = focal(logits, targets, gamma=1.0, alpha=weights, reduction="none")
    assert ((theirs - published).abs() / published > 0.01).all()
    equal = torch.ones(2)
    torch.testing.assert_close(
        focal(logits, targets, gamma=1.0, alpha=equal),
        (
            (1 - torch.exp(-F.cross_entropy(logits, targets, reduction="none")))
            * F.cross_entropy(logits, targets, reduction="none")
        ).mean(),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("classes", [2, 1000, 10_000])
@pytest.mark.parametrize("name", [*CALLABLE, "cot"])
def test_logits_ten_thousand_apart_stay_finite(name, classes, dtype):
    logits = torch.zeros(6, classes)
    logits[0, 0] = logits[1, 1] = 1e4  # confident and right, confident and wrong
    logits[2, 0] = logits[3, 1] = -1e4
    logits[4] = torch.linspace(-5e3, 5e3, classes)
    logits[5] = 1e4
    targets = torch.zeros(6, dtype=torch.int64)
    loss = build_loss(name, class_counts=long_tail(classes), reduction="none").updates[-1]
    if name == "focal":
        loss.gamma = 0.5
    values = loss(logits.to(dtype), targets)
    assert values.isfinite().all() and values.dtype == (dtype if dtype == torch.float64 else torch.float32)
    slope = gradient(loss, logits.to(dtype), targets)
    assert slope.isfinite().all() and slope.dtype == dtype


def test_complement_entropy_of_a_confident_image_is_exact_in_float32():
    logits = torch.tensor([[90.0, 1.0, 0.0, -1.0], [9000.0, 1.0, 0.0, -1.0]])
    expected = wrong_entropy([0.0, 1.0, 0.0, -1.0], 0)
    targets = torch.zeros(2, dtype=torch.int64)
    values = complement_entropy(logits, targets, reduction="none")
    np.testing.assert_allclose(values.numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(complement_entropy(logits + 500, targets).item(), expected, rtol=1e-4)
    tiny = complement_cross_entropy(logits, targets, gamma=0.0, reduction="none")
    np.testing.assert_allclose(tiny[0].item(), (math.e + 1 + 1 / math.e) * math.exp(-90), rtol=1e-4)


@pytest.mark.parametrize("classes", [1000, 10_000])
def test_many_classes_in_float32_match_float64(classes):
    logits, targets = draw(rows=5, classes=classes)
    wide = complement_cross_entropy(logits, targets, reduction="none")
    short = complement_cross_entropy(logits.float(), targets, reduction="none")
    torch.testing.assert_close(short.double(), wide, rtol=1e-5, atol=1e-5)
    slope = gradient(complement_cross_entropy, logits, targets)
    torch.testing.assert_close(
        gradient(complement_cross_entropy, logits.float(), targets).double(), slope, rtol=1e-4, atol=1e-8
    )


@pytest.mark.parametrize("name", CALLABLE)
def test_bfloat16_logits_are_computed_in_float32(name):
    logits, targets = draw(dtype=torch.bfloat16)
    loss = build_loss(name, class_counts=long_tail(5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(logits, targets)
    torch.testing.assert_close(inside, loss(logits.float(), targets))


@pytest.mark.parametrize("name", CALLABLE)
def test_nothing_reads_a_value_of_a_tensor(name):
    """A tensor on the meta device has no values: reading one raises."""
    loss = build_loss(name, class_counts=long_tail(5)).to("meta")
    logits = torch.empty(6, 5, device="meta", requires_grad=True)
    loss(logits, torch.empty(6, dtype=torch.int64, device="meta")).backward()
    assert logits.grad.shape == (6, 5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", CALLABLE)
def test_cuda_agrees_with_the_cpu_and_does_not_wait(name):
    logits, targets = draw(rows=300, classes=50, dtype=torch.float32)
    loss = build_loss(name, class_counts=long_tail(50))
    value, slope = loss(logits, targets), gradient(loss, logits, targets)
    loss, logits, targets = loss.cuda(), logits.cuda(), targets.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        there, there_slope = loss(logits, targets), gradient(loss, logits, targets)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(there.cpu(), value, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(there_slope.cpu(), slope, rtol=1e-3, atol=1e-6)


def test_weights_and_margins():
    assert inverse_frequency_weights([1, 3]).tolist() == pytest.approx([1.5, 0.5])
    assert effective_number_weights([1, 2], beta=0.5).tolist() == pytest.approx([1.2, 0.8])
    assert effective_number_weights([5000, 50], beta=1 - 1e-12).tolist() == pytest.approx(
        inverse_frequency_weights([5000, 50]).tolist(), rel=1e-6
    )
    assert ldam_margins([16, 1, 81]).tolist() == pytest.approx([0.25, 0.5, 0.5 / 3])


def test_deferred_weights_begin_at_their_epoch():
    assert deferred_weights([10, 1], 159, start=160).tolist() == [1, 1]
    assert deferred_weights([10, 1], 500, start=None).tolist() == [1, 1]
    expected = effective_number_weights([10, 1])
    torch.testing.assert_close(deferred_weights([10, 1], 160, start=160), expected)
    loss = build_loss("ldam", class_counts=[10, 1], reweight_from=2)
    for epoch, weights in ((0, [1, 1]), (2, expected.tolist()), (1, [1, 1])):
        loss.start_epoch(epoch)
        assert loss.class_weights.tolist() == pytest.approx(weights)


def test_post_hoc_adjustment_undoes_the_prior():
    counts = torch.tensor([90, 9, 1])
    logits = (counts / 100).log().repeat(2, 1)
    torch.testing.assert_close(adjust_logits(logits, counts), torch.zeros(2, 3))
    torch.testing.assert_close(adjust_logits(logits, counts, tau=0.0), logits)
    torch.testing.assert_close(adjust_logits(logits, counts, tau=2.0), -logits)


def test_cot_offers_two_objectives_and_refuses_their_sum():
    loss = build_loss("cot")
    logits, targets = draw()
    primary, complement = loss.updates
    torch.testing.assert_close(primary(logits, targets), F.cross_entropy(logits, targets))
    torch.testing.assert_close(complement(logits, targets), -complement_entropy(logits, targets) / 4)
    assert gradient(complement, logits, targets).gather(1, targets.unsqueeze(1)).count_nonzero() == 0
    with pytest.raises(RuntimeError, match="updates"):
        loss(logits, targets)
    assert build_loss("focal").updates[0](logits, targets) == build_loss("focal")(logits, targets)


def test_ldam_needs_cosines_and_cce_does_not():
    ldam, cce = (build_loss(name, class_counts=[3, 2]) for name in ("ldam", "cce"))
    assert (ldam.needs_normed_head, ldam.logit_scale) == (True, 30.0)
    assert (cce.needs_normed_head, cce.logit_scale) == (False, 1.0)
