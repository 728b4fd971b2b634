"""Training: the data is one uint8 tensor on the device, a batch is an index into it.

Nothing waits for the device inside an epoch: losses are kept there and fetched once at its end. All randomness comes
from streams derived from ``Recipe.train_seed``; the global random state is left as it was. On a CPU the same recipe
and data give bit-equal weights, interrupted or not.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from imbal_core._checks.arrays import checked_classes
from imbal_core.training import prediction, schedules
from imbal_core.training.checkpoints import read_checkpoint, write_checkpoint
from imbal_core.training.prediction import Inputs
from imbal_core.training.recipe import Recipe, scored_epochs
from imbal_core.training.start import loss_of, seeded_init, stream_seed

ScoreEpoch = Callable[[nn.Module], Mapping[str, float]]
Progress = bool | Callable[["FitResult", int], None]
# What stands beside the progress bar, and as what.
_SHOWN = {"train_loss": "loss", "valid_accuracy": "valid acc"}


class DivergedError(RuntimeError):
    """The loss became NaN or infinite, first at ``epoch`` and ``step``, both from 1; steps count inside an epoch."""

    def __init__(self, epoch: int, step: int, recipe: Recipe) -> None:
        super().__init__(epoch, step, recipe)
        self.epoch, self.step, self.recipe = epoch, step, recipe

    def __str__(self) -> str:
        where, rate = f"epoch {self.epoch}, step {self.step}", f"{self.recipe.learning_rate:g}"
        remedy = f"lower learning_rate ({rate}), add warmup_epochs or use precision='fp32'"
        return f"the loss is not finite at {where}: {remedy}. Config: {self.recipe.canonical()}"


@dataclass
class FitResult:
    """What training leaves beside the weights.

    ``history`` has one value per epoch of ``learning_rate`` (of the epoch's first step), ``train_loss`` (mean over the
    images drawn; of the first objective where a loss has two) and, with validation images, ``valid_loss`` (cross
    entropy), ``valid_accuracy`` and ``valid_balanced_accuracy`` (fractions in [0, 1]), then what ``score_epoch``
    returned, one value per scored epoch; deterministic on a CPU. ``seconds`` are those of the clock per epoch,
    validation included, kept apart because they differ each time.
    """

    history: dict[str, list[float]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        """Epochs that are finished."""
        return len(self.seconds)


def fit(
    network: nn.Module,
    inputs: Inputs,
    labels: Inputs,
    recipe: Recipe,
    *,
    valid: tuple[Inputs, Inputs] | None = None,
    device: torch.device | str | None = None,
    checkpoint: Path | None = None,
    progress: Progress = True,
    score_epoch: ScoreEpoch | None = None,
) -> FitResult:
    """Train the network in place and return its history.

    Parameters
    ----------
    network : Network
        From `build_network`. Its normalisation is set from the training images unless pretrained weights
        fix it. It ends on ``device``, by default `default_device`.
    inputs : array or Tensor
        Images, uint8 (N, H, W, 3), or features, floating (N, D); features are neither normalised,
        augmented nor resized.
    labels : array or Tensor of int64, shape (N,)
        Classes from 0 to ``network.num_classes - 1``.
    valid : (inputs, labels), optional
        Images on which each epoch is scored; ``schedule="plateau-zhang"`` needs them.
    checkpoint : Path, optional
        Written after each epoch and read at the start when it belongs to this recipe and these labels.
    progress : bool or callable, default=True
        True: a bar over the epochs. A callable gets, after each epoch, the result so far and the images of an epoch.
    score_epoch : callable, optional
        Called with the network in evaluation mode after each ``recipe.score_every`` epochs and after the last; the
        numbers by name that it returns are added to the history. It decides nothing: no epoch is chosen by it.

    Returns
    -------
    FitResult
        Of all epochs, those before a resumption included.

    Raises
    ------
    DivergedError
        The loss is NaN or infinite; noticed at the end of the epoch.
    ValueError
        Inputs of the wrong shape or type, labels out of range, or images that a schedule or a loss lacks.

    Examples
    --------
    >>> from imbal_core import Recipe, build_model, load_dataset
    >>> digits = load_dataset("mnist5k", "train")
    >>> network = build_model("small_cnn", num_classes=10, image_size=8)
    >>> recipe = Recipe(epochs=2, batch_size=50, learning_rate=0.05)
    >>> result = fit(network, digits.images[::20], digits.labels[::20], recipe, progress=False)
    >>> result.history["train_loss"][1] < result.history["train_loss"][0]
    True
    """
    device = prediction.default_device() if device is None else torch.device(device)
    if recipe.schedule == "plateau-zhang" and valid is None:
        raise ValueError("schedule='plateau-zhang' follows the validation accuracy: pass valid.")
    data, targets = _resident(network, inputs, labels, recipe, device, "training")
    held_out = None if valid is None else _resident(network, *valid, recipe, device, "validation")
    if recipe.augment != "none" and data.ndim != 4:
        raise ValueError(f"augment={recipe.augment!r} needs images, got features: {tuple(data.shape)}.")
    network.to(device)
    if data.ndim == 4:
        if recipe.channels_last:
            network.to(memory_format=torch.channels_last)
        if not network.fixed_normalisation:
            network.set_normalisation(*_moments(data))  # type: ignore[operator]
    run = _Run(network, recipe, data, targets, held_out, score_epoch)
    # Layers such as dropout draw from the global state.
    with seeded_init(recipe.train_seed, stream="layers", device=device), _tuned_kernels(device):
        if checkpoint is not None:
            run.resume(checkpoint)
        epochs: dict[str, Any] = {"total": recipe.epochs, "initial": run.result.epochs, "unit": "epoch"}
        with tqdm(desc=recipe.label(), disable=progress is not True, **epochs) as bar:
            while run.result.epochs < recipe.epochs:
                run.epoch()
                if checkpoint is not None:
                    run.save(checkpoint)
                bar.update()
                if callable(progress):
                    progress(run.result, run.images)
                history = run.result.history
                shown = {short: history[name][-1] for name, short in _SHOWN.items() if name in history}
                bar.set_postfix({short: f"{value:.3f}" for short, value in shown.items()})
    network.eval()
    return run.result


@dataclass(eq=False)
class _Run:
    """The state of one training run between epochs, and how it is saved."""

    network: nn.Module
    recipe: Recipe
    data: Tensor
    targets: Tensor
    held_out: tuple[Tensor, Tensor] | None
    score_epoch: ScoreEpoch | None

    def __post_init__(self) -> None:
        network, recipe, device = self.network, self.recipe, self.data.device
        self.labels = self.targets.cpu()
        self.layout = _layout(self.data, recipe)
        counts = torch.bincount(self.labels, minlength=int(network.num_classes))  # type: ignore[arg-type]
        self.loss = loss_of(recipe, counts).to(device)
        images = schedules.epoch_size(counts, recipe)
        # Batch normalisation cannot train on a single image; every other last batch is kept.
        self.images = images - 1 if images % recipe.batch_size == 1 else images
        self.steps = -(-self.images // recipe.batch_size)
        self.prepare = prediction.input_pipeline(network, self.data)
        self.forward: Callable[..., Tensor] = _compiled(network, device) if recipe.compile else network
        # An objective of its own has a momentum of its own: complement objective training has two.
        self.optimizers = [_optimizer(network, recipe) for _ in self.loss.updates]
        self.order = torch.Generator().manual_seed(stream_seed(recipe.train_seed, "order"))
        self.augmentation = torch.Generator(device).manual_seed(
            stream_seed(recipe.train_seed, "augmentation")
        )
        self.result = FitResult()

    def epoch(self) -> None:
        """Train one epoch and append to the history."""
        started = time.perf_counter()
        recipe, history, done = self.recipe, self.result.history, self.result.epochs
        order = schedules.epoch_indices(self.labels, recipe, self.order)[: self.images].to(self.data.device)
        recessions = schedules.count_recessions(history.get("valid_accuracy", []))
        steps = range(done * self.steps, (done + 1) * self.steps)
        rates = [schedules.learning_rate(recipe, step, self.steps, recessions) for step in steps]
        losses = torch.zeros(self.steps, device=self.data.device)
        self.loss.start_epoch(done)
        self.network.train()
        for step, batch in enumerate(order.split(recipe.batch_size)):
            losses[step] = self._step(batch, rates[step])
        # The epoch's only wait for the device.
        per_step = losses.double().cpu()
        bad = (~per_step.isfinite()).nonzero()
        if len(bad):
            raise DivergedError(done + 1, int(bad[0]) + 1, recipe)
        sizes = torch.tensor([len(batch) for batch in order.split(recipe.batch_size)], dtype=torch.float64)
        scores = {"learning_rate": rates[0], "train_loss": float(per_step @ sizes / sizes.sum())}
        if self.held_out is not None:
            scores |= _score(self.network, *self.held_out, recipe.precision, self.loss.logit_scale)
            if not math.isfinite(scores["valid_loss"]):
                raise DivergedError(done + 1, self.steps, recipe)
        if self.score_epoch is not None and done + 1 in scored_epochs(recipe.epochs, recipe.score_every):
            self.network.eval()
            scores |= self.score_epoch(self.network)
        for name, value in scores.items():
            history.setdefault(name, []).append(float(value))
        self.result.seconds.append(time.perf_counter() - started)

    def _step(self, batch: Tensor, rate: float) -> Tensor:
        images = schedules.augment_batch(self.data[batch], self.recipe.augment, self.augmentation)
        images = images.contiguous(memory_format=self.layout)
        targets, losses = self.targets[batch], []
        for objective, optimizer in zip(self.loss.updates, self.optimizers, strict=True):
            with prediction.autocast(self.data.device, self.recipe.precision):
                logits = self.forward(self.prepare(images))
            loss = objective(logits.float(), targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            losses.append(loss.detach())
        return losses[0]

    def _identity(self) -> str:
        labels = [self.labels, *([] if self.held_out is None else [self.held_out[1].cpu()])]
        content = b"".join(one.numpy().tobytes() + b"|" for one in labels)
        return hashlib.sha256(self.recipe.training_digest().encode() + content).hexdigest()

    def save(self, path: Path) -> None:
        """Leave the state in the file."""
        state = {
            "network": self.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "order": self.order.get_state(),
            "augmentation": self.augmentation.get_state(),
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self.data.device) if self.data.is_cuda else None,
            "history": self.result.history,
            "seconds": self.result.seconds,
        }
        write_checkpoint(path, state, self._identity())

    def resume(self, path: Path) -> None:
        """Go on from the file when it is whole and belongs to this run."""
        state = read_checkpoint(path, self._identity())
        if state is None:
            return
        self.network.load_state_dict(state["network"])
        self.prepare = prediction.input_pipeline(self.network, self.data)
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.order.set_state(state["order"])
        self.augmentation.set_state(state["augmentation"])
        torch.set_rng_state(state["cpu"])
        if state["cuda"] is not None and self.data.is_cuda:
            torch.cuda.set_rng_state(state["cuda"], self.data.device)
        self.result = FitResult(state["history"], state["seconds"])


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    trained = [p for p in network.parameters() if p.requires_grad]
    options: dict[str, Any] = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay, "fused": True}
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(trained, betas=(recipe.momentum, 0.999), **options)
    return torch.optim.SGD(trained, momentum=recipe.momentum, nesterov=recipe.nesterov, **options)


def _compiled(network: nn.Module, device: torch.device) -> Callable[..., Tensor]:
    compilers = [os.environ.get("CXX", ""), "c++", "g++", "clang++", "cl"]
    if device.type == "cpu" and not any(shutil.which(name) for name in compilers if name):
        raise RuntimeError("compile=True needs a C++ compiler on a CPU: install g++ or use compile=False.")
    return torch.compile(network)


@contextlib.contextmanager
def _tuned_kernels(device: torch.device) -> Iterator[None]:
    """Let cuDNN choose its fastest convolutions: all batches but the last have one shape."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _resident(
    network: nn.Module, inputs: Inputs, labels: Inputs, recipe: Recipe, device: torch.device, role: str
) -> tuple[Tensor, Tensor]:
    """Return the checked inputs and targets on the device, converted once for the whole run."""
    data = prediction.as_tensor(inputs)
    classes = int(network.num_classes)  # type: ignore[arg-type]
    targets = checked_classes(f"{role} labels", labels, classes, rows=(len(data), "inputs"))
    if role == "training" and len(data) < 2:
        raise ValueError(f"at least 2 training images are needed, got {len(data)}.")
    if data.is_floating_point() and not bool(data.isfinite().all()):
        raise ValueError(f"{role} features contain NaN or infinite values: drop or repair those rows.")
    data = data.to(device).contiguous(memory_format=_layout(data, recipe))
    return data, torch.from_numpy(targets).to(device)


def _layout(data: Tensor, recipe: Recipe) -> torch.memory_format:
    return torch.channels_last if data.ndim == 4 and recipe.channels_last else torch.contiguous_format


def _moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation per channel, on the scale [0, 1], from exact histograms."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    counts = [torch.bincount(channel.flatten(), minlength=256).double().cpu() for channel in images.unbind(1)]
    shares = [count / images[:, 0].numel() for count in counts]
    means = [share @ levels for share in shares]
    spreads = [(share @ (levels - mean) ** 2).sqrt() for share, mean in zip(shares, means, strict=True)]
    return torch.stack(means).float(), torch.stack(spreads).clamp(min=1 / 255).float()


def _score(
    network: nn.Module, data: Tensor, targets: Tensor, precision: str, logit_scale: float
) -> dict[str, float]:
    """Return validation loss, accuracy and the mean recall of the classes that are present."""
    outputs = (prediction.forward_batch(network, batch, (), precision) for batch in data.split(500))
    logits = torch.cat([batch["logits"].float() for batch in outputs]) * logit_scale
    classes = logits.shape[1]
    hits = torch.bincount(targets[logits.argmax(1) == targets], minlength=classes).double().cpu()
    counts = torch.bincount(targets, minlength=classes).double().cpu()
    present = counts > 0
    return {
        "valid_loss": float(F.cross_entropy(logits, targets)),
        "valid_accuracy": float(hits.sum() / counts.sum()),
        "valid_balanced_accuracy": float((hits[present] / counts[present]).mean()),
    }
