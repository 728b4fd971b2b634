"""What every loss keeps alike: soft and short targets, what is refused, infinite logits, one graph, state, counts."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from loss_formulas import CALLABLE, GRID, WITH_COUNTS, draw, gradient, long_tail, oracle

from imbal_core.losses.complement import complement_cross_entropy
from imbal_core.losses.functional import adjust_logits
from imbal_core.losses.modules import build_loss

SOFT = [item for item in GRID if item[0] not in ("complement-entropy", "cce")]


def shares_of(rows, classes, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).dirichlet(np.ones(classes), rows))


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize(("name", "options"), SOFT)
def test_soft_targets_give_the_mean_of_the_formula_over_the_classes(name, options, classes):
    logits, counts = draw(rows=7, classes=classes, spread=1.0)[0], long_tail(classes)
    shares = shares_of(7, classes)
    shares[0] = torch.eye(classes)[1]
    expected, weight = np.zeros(7), 0.0
    for i, g in np.ndindex(7, classes):
        value, own = oracle(name, logits[i].tolist(), g, counts, options)
        expected[i] += float(shares[i, g]) * value
        weight += float(shares[i, g]) * own
    for reduction, value in (("none", expected), ("sum", expected.sum()), ("mean", expected.sum() / weight)):
        loss = build_loss(name, class_counts=counts, reduction=reduction, **options)
        np.testing.assert_allclose(loss(logits, shares).numpy(), value, rtol=2e-6, atol=1e-9)
    assert torch.autograd.gradcheck(lambda z: loss(z, shares), logits.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "options"), SOFT)
def test_one_hot_targets_are_class_indices(name, options, dtype):
    logits, targets = draw(rows=9, classes=6, dtype=dtype, spread=40.0)
    loss = build_loss(name, class_counts=long_tail(6), **options)
    tight = {"rtol": 1e-4, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 1e-9, "atol": 1e-12}
    one_hot = F.one_hot(targets, 6).double()
    torch.testing.assert_close(loss(logits, one_hot), loss(logits, targets), **tight)
    torch.testing.assert_close(
        gradient(loss, logits, one_hot), gradient(loss, logits, targets), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(("name", "options"), SOFT)
def test_soft_targets_keep_extreme_logits_finite(name, options):
    logits = torch.zeros(4, 3)
    logits[0, 0] = logits[1, 1] = logits[2, 2] = 1e4
    loss = build_loss(name, class_counts=long_tail(3), **options)
    assert loss(logits, shares_of(4, 3)).isfinite()
    assert gradient(loss, logits, shares_of(4, 3)).isfinite().all()


@pytest.mark.parametrize("name", ["cce", "complement-entropy", "cot"])
def test_losses_of_the_wrong_classes_refuse_soft_targets_and_say_how_to_mix(name):
    with pytest.raises(ValueError, match=r"For mixup: share \* loss"):
        build_loss(name).updates[-1](draw()[0], shares_of(6, 5))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.int8, torch.uint8])
@pytest.mark.parametrize("name", CALLABLE)
def test_class_indices_of_any_integer_type(name, dtype):
    logits, targets = draw()
    loss = build_loss(name, class_counts=long_tail(5))
    assert torch.equal(loss(logits, targets.to(dtype)), loss(logits, targets))


@pytest.mark.parametrize("bad", [-100, -1, 5, 255])
@pytest.mark.parametrize("name", CALLABLE)
def test_a_target_that_is_no_class_is_refused_by_every_loss(name, bad):
    logits, targets = draw()
    targets[2] = bad
    with pytest.raises(ValueError, match=r"targets must lie in \[0, 5\), got values from"):
        build_loss(name, class_counts=long_tail(5))(logits, targets)


@pytest.mark.parametrize("name", sorted({name for name, _ in SOFT}))
def test_soft_targets_that_are_no_distribution_are_refused(name):
    loss, logits = build_loss(name, class_counts=long_tail(5)), draw()[0]
    for bad in (torch.ones(6, 5), torch.eye(5).repeat(2, 1)[:6] - 0.1, torch.full((6, 5), torch.nan)):
        with pytest.raises(ValueError, match="non-negative and sum to 1"):
            loss(logits, bad)


def limit(name, z, g, n, o):
    """Return the loss as -inf has ever lower values, NaN where softmax(z) is no distribution."""
    if any(math.isnan(value) or value == math.inf for value in z) or max(z) == -math.inf:
        return math.nan
    low, lower = (
        oracle(name, [lowest if value == -math.inf else value for value in z], g, n, o)[0]
        for lowest in (-300.0, -600.0)
    )
    return lower if lower == pytest.approx(low) else math.inf


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(("name", "options"), [item for item in GRID if item[0] != "ldam"])
def test_logits_that_are_not_finite_mean_the_same_in_every_loss(name, options, classes):
    rows = list(itertools.product([0.0, 1.5, -math.inf, math.inf, math.nan], repeat=classes))
    logits, counts = torch.tensor(rows, dtype=torch.float64), long_tail(classes)
    loss = build_loss(name, class_counts=counts, reduction="none", **options)
    for g in range(classes):
        targets = torch.full((len(rows),), g)
        expected = [limit(name, z, g, counts, options) for z in rows]
        np.testing.assert_allclose(loss(logits, targets).numpy(), expected, rtol=1e-6, atol=1e-9)
        finite = np.isfinite(expected)
        assert gradient(loss, logits[finite], targets[finite]).isfinite().all()


def test_a_class_that_cannot_be_costs_nothing():
    logits, targets = torch.tensor([[0.0, -math.inf]]), torch.tensor([0])
    for name in CALLABLE:
        expected = math.inf if name == "label-smoothing" else 0.0
        assert build_loss(name, class_counts=[3, 2])(logits, targets).item() == expected, name
    shares = torch.tensor([[1.0, 0.0]])
    for name in ("cross-entropy", "focal", "ldam", "balanced-softmax", "class-balanced", "asl"):
        loss = build_loss(name, class_counts=[3, 2])
        assert loss(logits, shares).item() == 0 and gradient(loss, logits, shares).isfinite().all(), name


@pytest.mark.parametrize("name", CALLABLE)
def test_every_loss_compiles_as_one_graph(name):
    logits, targets = draw(rows=8)
    loss = build_loss(name, class_counts=long_tail(5))
    torch._dynamo.reset()
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(logits, targets), loss(logits, targets))
    torch.testing.assert_close(gradient(compiled, logits, targets), gradient(loss, logits, targets))


def test_the_compiled_form_of_complement_entropy_is_the_same_at_its_ends():
    logits = torch.tensor([[9e3, 1.0, 0.0], [-9e3, 1.0, 0.0], [0.0, -math.inf, -math.inf], [math.inf, 0, 0]])
    targets = torch.zeros(4, dtype=torch.int64)
    torch._dynamo.reset()
    compiled = torch.compile(complement_cross_entropy, backend="eager", fullgraph=True)
    torch.testing.assert_close(
        compiled(logits, targets, reduction="none"),
        complement_cross_entropy(logits, targets, reduction="none"),
        equal_nan=True,
    )


def test_the_state_of_a_loss_has_its_weights_and_its_epoch():
    loss = build_loss("ldam", class_counts=[90, 9, 1], reweight_from=2)
    loss.start_epoch(2)
    state = {name: value.clone() for name, value in loss.state_dict().items()}
    assert set(state) == {"class_weights", "margins", "epoch"} and state["epoch"] == 2
    other = build_loss("ldam", class_counts=[1, 1, 1], reweight_from=2)
    other.load_state_dict(state)
    logits, targets = draw(classes=3)
    assert torch.equal(other(logits, targets), loss(logits, targets))
    assert not torch.equal(loss.class_weights, torch.ones(3))
    assert "class_counts" in build_loss("balanced-softmax", class_counts=[2, 1]).state_dict()
    assert not build_loss("cce").state_dict()


COUNTS = [90, 9, 1]


@pytest.mark.parametrize(
    "counts",
    [
        COUNTS,
        tuple(COUNTS),
        np.array(COUNTS, np.uint16),
        torch.tensor(COUNTS, dtype=torch.int32),
        {2: 1, 0: 90, 1: 9},
        Counter([0] * 90 + [2] + [1] * 9),
        Counter(["fox"] + ["dog"] * 9 + ["cat"] * 90),
        {np.int64(k): n for k, n in enumerate(COUNTS)},
    ],
)
def test_class_counts_come_as_they_are_counted(counts):
    logits, targets = draw(classes=3)
    for name in WITH_COUNTS:
        expected = build_loss(name, class_counts=COUNTS)(logits, targets)
        assert torch.equal(build_loss(name, class_counts=counts)(logits, targets), expected)
    assert torch.equal(adjust_logits(logits, counts), adjust_logits(logits, COUNTS))


@pytest.mark.parametrize(
    ("counts", "empty"),
    [
        ([5, 0, 2], r"\[1\]"),
        (Counter({0: 3, 3: 1}), r"\[1, 2\]"),
        ({1: 3, 2: 1}, r"\[0\]"),
        ({"cat": 3, "dog": 0}, r"\['dog'\]"),
        ({0: 3}, r"\[1\]"),
    ],
)
def test_a_class_without_images_is_named(counts, empty):
    for call in (lambda: build_loss("ldam", class_counts=counts), lambda: adjust_logits(draw()[0], counts)):
        with pytest.raises(ValueError, match=f"classes {empty} have no training image"):
            call()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_adjusted_logits_come_back_as_what_came_in(dtype):
    logits = draw(classes=3)[0].numpy().astype(dtype)
    found, tensor = adjust_logits(logits, COUNTS), adjust_logits(torch.from_numpy(logits), COUNTS)
    assert isinstance(found, np.ndarray) and isinstance(tensor, torch.Tensor)
    assert found.dtype == ("float64" if dtype == "float64" else "float32")
    wide = logits.astype(np.float64) - np.log(np.array(COUNTS) / 100)
    np.testing.assert_allclose(found, wide, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found, tensor.numpy())
    assert isinstance(adjust_logits(logits.tolist(), COUNTS), np.ndarray)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("focl", {}, "unknown loss 'focl': did you mean 'focal'"),
        ("cce", {"gama": 1.0}, "unknown option of loss 'cce' 'gama': did you mean 'gamma'"),
        ("cross-entropy", {"tau": 1.0}, "unknown option of loss 'cross-entropy' 'tau'"),
        ("cce", {"form": "realised"}, "did you mean 'released'"),
        ("cot", {"form": "papr"}, "did you mean 'paper'"),
        ("focal", {"reduction": "avg"}, "unknown reduction 'avg'"),
        ("focal", {"gamma": -1.0}, r"gamma must lie in \[0, inf\), got -1.0"),
        ("focal", {"alpha": [0.5, "x"]}, "alpha must be a number"),
        ("asl", {"gamma_neg": -1.0}, "gamma_neg must lie in"),
        ("asl", {"smoothing": 1.0}, r"smoothing must lie in \[0, 1\)"),
        ("class-balanced", {"beta": 1.0}, r"beta must lie in \[0, 1\)"),
        ("class-balanced", {"reweight_from": -1}, "reweight_from must be an epoch"),
        ("ldam", {"scale": 0.0}, r"scale must lie in \(0, inf\)"),
        ("cce", {"gamma": math.nan}, "gamma must lie in"),
    ],
)
def test_what_would_be_ignored_or_out_of_range_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        build_loss(name, class_counts=[3, 2], **options)


@pytest.mark.parametrize("name", WITH_COUNTS)
def test_class_counts_are_required_whole_and_positive(name):
    with pytest.raises(ValueError, match=f"loss '{name}' needs class_counts"):
        build_loss(name)
    with pytest.raises(ValueError, match="whole numbers"):
        build_loss(name, class_counts=[5.0, 1.0])
    with pytest.raises(ValueError, match=r"shape \(5,\)"):
        build_loss(name, class_counts=[5, 1])(*draw())


@pytest.mark.parametrize("name", CALLABLE)
def test_wrong_shapes_and_types_are_named(name):
    logits, targets = draw()
    loss = build_loss(name, class_counts=long_tail(5))
    with pytest.raises(ValueError, match="targets must be class indices.*or probabilities"):
        loss(logits, targets.double())
    with pytest.raises(ValueError, match="one for each row"):
        loss(logits, targets[:-1])
    with pytest.raises(ValueError, match="one for each row"):
        loss(logits, F.one_hot(targets, 5))
    with pytest.raises(ValueError, match="logits must be floating-point"):
        loss(logits.long(), targets)
    with pytest.raises(ValueError, match="K at least 2"):
        loss(logits[:, :1], targets)
