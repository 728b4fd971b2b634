"""Protocol of the chapter on the final batch norm: what the paper says, what was done here, and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from imbal_book.evidence.papers import Paper
from imbal_book.run.config import RunConfig
from imbal_book.studies.final_batch_norm import ARMS, NETWORKS, PLANTS, arm
from imbal_core.data.plantvillage import TEST_PER_CLASS

__all__ = ["protocol_table", "recalled_table"]

_WHY = {
    "plants": "these three have enough healthy leaves and a diseased class",
    "training images": "the abstract's 99 % against 1 %; the counts themselves are recalled",
    "validation images": "chooses no epoch here, only the threshold and the temperature",
    "test images": "balanced, as in the abstract; drawn by the split",
    "split": "as in the paper; the section on leaves tests what the other split changes",
    "network": "VGG19 and ResNet34 at 224 pixels need a GPU: profile paper has them, profile laptop a network "
    "that two cores train",
    "starting weights": "the abstract's transfer learning",
    "the layer": "the reading of the abstracts that fits a known option of fastai; taken apart below",
    "weighted loss": "the natural choice; the paper's weights could not be read",
    "input": "not in the abstract; smaller on the laptop, so that a run takes minutes",
    "epochs": "fewer on the laptop; the last one is reported, none is chosen",
    "optimizer": "not in the abstract; the same for every arm",
    "batch size": "not in the abstract; varied below",
    "augmentation": "not in the abstract; flips are the least one can do in fine-tuning",
    "seeds": "a draw of 10 rare images differs much from the next",
}
_PAPER_ITEM = {
    "plants": ("task", "plants"),
    "training images": ("skew", "train"),
    "validation images": ("valid",),
    "test images": ("test-balanced", "test"),
    "split": ("draw",),
    "network": ("networks", "vgg"),
    "starting weights": ("pretraining",),
    "the layer": ("place", "place-a2", "place-logits", "layer"),
    "weighted loss": ("arms", "weights"),
    "input": ("input",),
    "epochs": ("epochs",),
    "optimizer": ("optimizer",),
    "seeds": ("runs",),
}


def protocol_table(paper: Paper, plans: Sequence[tuple[str, Sequence[RunConfig]]]) -> pd.DataFrame:
    """Return the protocol: what the paper says with how sure that is, what is done here, and why.

    Parameters
    ----------
    paper : Paper
    plans : sequence of (name, configurations)
        A column "here, NAME" each, such as the runs of a profile; the paper's arms among them are described.
    """
    columns = {
        f"here, {name}": _described(
            [config for config in configs if not config.split_groups and arm(config) in ARMS]
        )
        for name, configs in plans
    }
    return pd.DataFrame(
        [
            {
                "item": item,
                "paper": "; ".join(paper.protocol[entry].text() for entry in _PAPER_ITEM.get(item, ()))
                or "could not be read",
                **{name: text[item] for name, text in columns.items()},
                "why": why,
            }
            for item, why in _WHY.items()
        ]
    )


def _described(configs: Sequence[RunConfig]) -> dict[str, str]:
    """Return the recipe of the paper's arms in words; several values of one field stand side by side."""
    first = configs[0]
    main = [c for c in configs if c.imbalance == first.imbalance and c.batch_size == first.batch_size]
    counts = [f"{int(number):,}" for number in first.imbalance.split("-")[1:]]

    def values(text: Callable[[RunConfig], object], of: Sequence[RunConfig] = main) -> str:
        return " or ".join(dict.fromkeys(str(text(config)) for config in of))

    layers = [config for config in main if config.final_batch_norm]
    plants = [plant for plant in PLANTS if any(c.dataset.endswith(plant) for c in main)]
    return {
        "plants": ", ".join(plants) or values(lambda c: c.dataset),
        "training images": f"{counts[0]} healthy and {counts[1]} diseased",
        "validation images": f"{counts[2]} healthy and {counts[3]} diseased",
        "test images": f"{TEST_PER_CLASS} healthy and {TEST_PER_CLASS} diseased",
        "split": "at random; of one plant also by leaf" if plants else "at random",
        "network": values(lambda c: NETWORKS[c.model]),
        "starting weights": values(lambda c: "ImageNet" if c.pretrained else "random"),
        "the layer": values(_layer, layers),
        "weighted loss": "weights inverse to the class counts",
        "input": values(lambda c: f"{c.image_size} pixels" if c.image_size else "the images' own size"),
        "epochs": values(lambda c: c.epochs),
        "optimizer": values(_optimizer),
        "batch size": values(lambda c: c.batch_size, configs),
        "augmentation": values(lambda c: "horizontal flips" if c.augment == "flip" else c.augment),
        "seeds": f"{len({(c.split_seed, c.train_seed) for c in main})} of split and training",
    }


def _layer(config: RunConfig) -> str:
    affine = "affine" if config.final_batch_norm_affine else "without scale and shift"
    return f"on the logits, momentum {config.final_batch_norm_momentum:g}, {affine}"


def _optimizer(config: RunConfig) -> str:
    name = f"SGD, momentum {config.momentum:g}" if config.optimizer == "sgd" else "AdamW"
    return f"{name}, {config.schedule}, rate up to {config.learning_rate:g}, weight decay {config.weight_decay:g}"


def recalled_table(paper: Paper) -> pd.DataFrame:
    """Return the paper's cells that are recalled, every number with its label, and those that could not be read."""
    apple = paper.tables["apple"]
    recalled = apple.labelled(".2f").rename(columns={"unhealthy": "F1, unhealthy", "healthy": "F1, healthy"})
    recalled.insert(0, "cell", "apple, VGG19")
    other = [
        {"cell": row["cell"], "arm": "all", "F1, unhealthy": row["plain"], "F1, healthy": row["plain"]}
        for row in paper.tables["other cells"].labelled().to_dict("records")
    ]
    return pd.concat([recalled, pd.DataFrame(other)], ignore_index=True)
