import numpy as np
import pytest
import torch
import torch.nn.functional as F

from imbal_book.heads import linear
from imbal_book.heads.linear import Objective, Rows, Setting, train_heads
from imbal_book.heads.remedies import OBJECTIVES, after_training
from imbal_book.heads.side_by_side import Projection
from imbal_core.post_hoc import tau_normalized_logits

RATES = torch.tensor([[1.0, 5.0], [1.0, 5.0], [1.0, 5.0]])


def problem(count=60, width=8, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    labels[: count // 2] = 0
    features = torch.randn(count, width, generator=generator) + 2 * F.one_hot(labels, width)
    return features / 4, labels


def parts():
    return [list(range(0, 40)), list(range(10, 60)), list(range(5, 35))]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_batch_of_splits_gives_the_heads_of_one_split_at_a_time(name):
    features, labels = problem()
    options = {"num_classes": 3, "lengths": (3, 8)}
    together = train_heads(OBJECTIVES[name], features, labels, Rows.of(parts()), RATES, **options)
    for s, rows in enumerate(parts()):
        alone = train_heads(
            OBJECTIVES[name], features, labels, Rows.of([rows]), RATES[s : s + 1, 1:], **options
        )
        torch.testing.assert_close(together.weight[:, s, 1:], alone.weight[:, 0], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(together.bias[:, s, 1:], alone.bias[:, 0], rtol=1e-3, atol=1e-4)


def test_many_splits_are_trained_in_chunks_with_the_same_heads(monkeypatch):
    features, labels = problem()
    options = {"num_classes": 3, "lengths": (5,)}
    together = train_heads(OBJECTIVES["class weights"], features, labels, Rows.of(parts()), RATES, **options)
    monkeypatch.setattr(linear, "_MOST_FLOATS", 1)
    one_by_one = train_heads(
        OBJECTIVES["class weights"], features, labels, Rows.of(parts()), RATES, **options
    )
    torch.testing.assert_close(together.weight, one_by_one.weight, rtol=1e-3, atol=1e-4)


def test_a_long_training_reaches_what_a_plain_optimiser_reaches():
    """The minimum of cross entropy on classes that overlap is one; torch's own L-BFGS finds it in float64."""
    features, labels = problem(count=90, width=4)
    weight = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=500, line_search_fn="strong_wolfe", tolerance_grad=1e-9
    )

    def loss():
        optimiser.zero_grad()
        value = F.cross_entropy(features.double() @ weight + bias, labels)
        value.backward()
        return value

    optimiser.step(loss)
    rates = torch.tensor([[0.3]])
    found = train_heads(
        OBJECTIVES["cross entropy"],
        features,
        labels,
        Rows.of([range(90)]),
        rates,
        num_classes=3,
        lengths=(1500,),
    )
    mine = F.cross_entropy(features @ found.weight[0, 0, 0] + found.bias[0, 0, 0], labels)
    assert float(mine) == pytest.approx(loss().item(), abs=2e-3)


def test_a_head_starts_as_a_linear_layer_does():
    weight, bias = linear._first_weights(400, 50, seed=3)
    drawn = torch.nn.Linear(400, 50)
    assert weight.abs().max() <= 1 / 20 and bias.abs().max() <= 1 / 20
    assert float(weight.std()) == pytest.approx(float(drawn.weight.detach().std()), rel=0.02)
    assert not torch.equal(weight, linear._first_weights(400, 50, seed=4)[0])


@pytest.mark.parametrize("name", ["ldam", "final bn"])
def test_a_folded_head_predicts_as_the_form_that_was_trained(name):
    features, labels = problem()
    found = train_heads(
        OBJECTIVES[name],
        features,
        labels,
        Rows.of([range(60)]),
        torch.tensor([[1.0]]),
        num_classes=3,
        lengths=(30,),
    )
    logits = features @ found.weight[0, 0, 0] + found.bias[0, 0, 0]
    if name == "ldam":
        assert torch.equal(found.bias, torch.zeros_like(found.bias))
        torch.testing.assert_close(found.weight[0, 0, 0].norm(dim=0), torch.ones(3))
    else:
        # A scale that starts at 1 and moves little: each logit still has about that spread over the batch.
        assert ((logits.std(0) > 0.2) & (logits.std(0) < 20)).all()
    assert (logits.argmax(1) == labels).float().mean() > 0.7


def test_adjusting_a_head_is_adjusting_its_logits():
    features, _ = problem()
    head = linear.Heads(torch.randn(8, 3), torch.randn(3))
    counts, shares = torch.tensor([90, 9, 1]), np.full(3, 1 / 3)
    adjusted = after_training("adjust", head, counts, shares)
    from imbal_core import adjust_logits

    expected = adjust_logits(features @ head.weight + head.bias, counts)
    difference = features @ adjusted.weight + adjusted.bias - expected
    torch.testing.assert_close(difference, difference[:, :1].expand(-1, 3), rtol=0, atol=1e-5)
    normalised = after_training("normalise", head, counts, shares)
    ours = (features @ normalised.weight + normalised.bias).numpy()
    np.testing.assert_allclose(ours, tau_normalized_logits(features, head.weight.T, 1.0), atol=1e-5)


def test_a_head_on_projected_features_unfolds_to_one_on_the_features():
    features, _ = problem(width=20)
    units = F.normalize(features, dim=1)
    projection = Projection.of(units)
    head = linear.Heads(torch.randn(20, 3), torch.randn(3))
    unfolded = projection.unfold(head)
    torch.testing.assert_close(
        units @ unfolded.weight + unfolded.bias,
        projection(units) @ head.weight + head.bias,
        rtol=1e-3,
        atol=1e-3,
    )
    assert float(projection(units).square().sum(1).mean()) == pytest.approx(1.0, rel=1e-3)


def slow_head(objective, setting, features, labels, classes, length):
    """Return the weight and bias after a training of one linear head, written out in float64."""
    x, y = features.double(), labels
    parameters = [p.double().clone().requires_grad_() for p in linear._first_weights(x.shape[1], classes, 0)]
    moments, square = [torch.zeros_like(p) for p in parameters], 0.0
    counts = torch.bincount(y, minlength=classes)

    def gradients(loss, per_class):
        logits = x @ parameters[0] + parameters[1]
        extra = [] if per_class is None else [per_class(counts).double()]
        return torch.autograd.grad(loss(logits, y, *extra).mean(), parameters)

    for step in range(1, length + 1):
        now = objective.late if objective.late and step - 1 >= 0.8 * length else objective
        found = list(gradients(now.loss, now.per_class))
        with torch.no_grad():
            found[0] = found[0] + setting.decay * parameters[0]
            square = 0.999 * square + 0.001 * sum(float(g.square().sum()) for g in found)
            size = setting.rate / ((square / (1 - 0.999**step)) ** 0.5 + 1e-8)
            for k, gradient in enumerate(found):
                moments[k] = 0.9 * moments[k] + 0.1 * gradient
                parameters[k] -= size / (1 - 0.9**step) * moments[k]
        if objective.second:
            found = gradients(objective.second, None)
            with torch.no_grad():
                for parameter, gradient in zip(parameters, found, strict=True):
                    parameter -= size * gradient
        with torch.no_grad():
            for c in range(classes):
                norm = float(parameters[0][:, c].norm())
                parameters[0][:, c] *= min(1.0, setting.radius / norm)
    return parameters[0].detach(), parameters[1].detach()


SWITCHED = Objective(OBJECTIVES["cross entropy"].loss, late=OBJECTIVES["class weights"])


@pytest.mark.parametrize(
    ("objective", "setting"),
    [
        (OBJECTIVES["cross entropy"], Setting(2.0)),
        (OBJECTIVES["cot"], Setting(2.0)),
        (SWITCHED, Setting(2.0)),
        (OBJECTIVES["weight decay"], Setting(2.0, 0.1)),
        (OBJECTIVES["weight balancing"], Setting(2.0, 0.01, 1.5)),
    ],
    ids=["plain", "second update", "late", "decay", "radius"],
)
def test_a_head_is_that_of_a_slow_loop_after_every_length(objective, setting):
    features, labels = problem()
    found = train_heads(
        objective, features, labels, Rows.of([range(60)]), torch.tensor([[setting.rate]]), num_classes=3,
        lengths=(4, 10), limits=torch.tensor([[setting[1:]]]),
    )  # fmt: skip
    for i, length in enumerate((4, 10)):
        weight, bias = slow_head(objective, setting, features, labels, 3, length)
        torch.testing.assert_close(found.weight[i, 0, 0].double(), weight, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(found.bias[i, 0, 0].double(), bias, rtol=1e-3, atol=1e-4)


def test_every_objective_chooses_from_as_many_settings():
    assert {len(objective.settings) for objective in OBJECTIVES.values()} == {3}
