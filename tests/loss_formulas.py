"""The published formula of every loss, one number at a time in float64, and batches to try them on."""

import math

import torch

from imbal_core.losses.options import list_losses

# COT has two objectives and no single loss: its second one stands for it where a loss is called.
CALLABLE = [name for name in list_losses() if name != "cot"]
WITH_COUNTS = ("inverse-frequency", "class-balanced", "ldam", "balanced-softmax", "logit-adjustment")


def draw(rows=6, classes=5, seed=0, dtype=torch.float64, spread=3.0):
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    return logits.to(dtype), torch.randint(classes, (rows,), generator=generator)


def long_tail(classes):
    return [max(1, int(500 * 0.01 ** (c / (classes - 1)))) for c in range(classes)]


def softmax(z):
    top = max(z)
    powers = [math.exp(value - top) for value in z]
    return [power / sum(powers) for power in powers]


def minus_log(z, g):
    return -math.log(softmax(z)[g])


def wrong_entropy(z, g):
    q = softmax([value for j, value in enumerate(z) if j != g])
    return -sum(value * math.log(value) for value in q)


def class_balanced_weights(n, beta):
    raw = [(1 - beta) / (1 - beta**count) for count in n]
    return [value * len(n) / sum(raw) for value in raw]


def oracle(name, z, g, n, o):
    """Return (value, weight) of one image from the published formula, one number at a time."""
    k = len(z)
    if name == "cross-entropy":
        return minus_log(z, g), 1.0
    if name == "inverse-frequency":
        weight = k / n[g] / sum(1 / count for count in n)
        return weight * minus_log(z, g), weight
    if name == "class-balanced":
        weight = class_balanced_weights(n, o.get("beta", 0.9999))[g]
        return weight * minus_log(z, g), weight
    if name == "focal":
        alpha = o.get("alpha", 0.25)
        p = softmax(z)[g]
        factor = alpha[g] if isinstance(alpha, list) else alpha
        return -factor * (1 - p) ** o.get("gamma", 2.0) * math.log(p), 1.0
    if name == "ldam":
        largest = max(count ** (-1 / 4) for count in n)
        margin = o.get("max_margin", 0.5) * n[g] ** (-1 / 4) / largest
        s = o.get("scale", 30.0)
        moved = [s * (value - margin * (j == g)) for j, value in enumerate(z)]
        weight = class_balanced_weights(n, o.get("beta", 0.9999))[g] if o.get("reweight_from") == 0 else 1.0
        return weight * minus_log(moved, g), weight
    if name == "complement-entropy":
        return wrong_entropy(z, g), 1.0
    if name == "cce":
        gamma, c = o.get("gamma", -1.0), wrong_entropy(z, g)
        term = -gamma * c / k if o.get("form") == "released" else gamma * c / (k - 1)
        return minus_log(z, g) + term, 1.0
    if name == "balanced-softmax":
        shares = [count * math.exp(value) for count, value in zip(n, z, strict=True)]
        return -math.log(shares[g] / sum(shares)), 1.0
    if name == "logit-adjustment":
        tau = o.get("tau", 1.0)
        shares = [(count / sum(n)) ** tau * math.exp(value) for count, value in zip(n, z, strict=True)]
        return -math.log(shares[g] / sum(shares)), 1.0
    if name == "label-smoothing":
        s, p = o.get("smoothing", 0.1), softmax(z)
        return -sum(((1 - s) * (j == g) + s / k) * math.log(p[j]) for j in range(k)), 1.0
    if name == "asl":
        s, p = o.get("smoothing", 0.1), softmax(z)
        gammas = o.get("gamma_pos", 0.0), o.get("gamma_neg", 4.0)
        factors = [(1 - p[j]) ** gammas[0] if j == g else p[j] ** gammas[1] for j in range(k)]
        shares = [(1 - s) * (j == g) + s / k for j in range(k)]
        return -sum(shares[j] * factors[j] * math.log(p[j]) for j in range(k)), 1.0
    raise AssertionError(name)


GRID = [
    ("cross-entropy", {}),
    ("inverse-frequency", {}),
    ("class-balanced", {}),
    ("class-balanced", {"beta": 0.9}),
    ("class-balanced", {"beta": 0.0}),
    ("focal", {}),
    ("focal", {"gamma": 0.0, "alpha": 1.0}),
    ("focal", {"gamma": 0.5, "alpha": 0.75}),
    ("ldam", {"scale": 2.0}),
    ("ldam", {"max_margin": 0.1, "reweight_from": 0, "beta": 0.99}),
    ("complement-entropy", {}),
    ("cce", {}),
    ("cce", {"gamma": 5.0}),
    ("cce", {"form": "released"}),
    ("cce", {"form": "released", "gamma": 2.0}),
    ("balanced-softmax", {}),
    ("logit-adjustment", {}),
    ("logit-adjustment", {"tau": 1.5}),
    ("label-smoothing", {}),
    ("label-smoothing", {"smoothing": 0.4}),
    ("asl", {}),
    ("asl", {"gamma_pos": 1.5, "gamma_neg": 0.5, "smoothing": 0.3}),
]


def gradient(function, logits, targets):
    leaf = logits.detach().clone().requires_grad_()
    function(leaf, targets).sum().backward()
    return leaf.grad
