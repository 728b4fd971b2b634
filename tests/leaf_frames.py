"""Long frames of the final batch norm from values given by hand."""

import functools

import leaf_runs
import long_rows

from imbal_book.studies.grids import final_batch_norm as study

LITE = leaf_runs.LITE
OWN = f"{LITE}{study.OWN_START}"
PLANTS = tuple(f"plantvillage-{plant}" for plant in study.PLANTS)
SEEDS = ["split_seed", "train_seed"]
EVERY = tuple(leaf_runs.KINDS)
FAULT = ("fair", "timm's start", "timm's imbalances", "timm's batch sizes", "timm's leaves", "SGD", "folded")


rows = functools.partial(
    long_rows.rows, metric="f1_minority", dataset=PLANTS[0], form=LITE, imbalance="1000:10"
)


def values(frame, readout, metric="f1_minority", dataset=PLANTS[0]):
    """Return the values of one form and imbalance by pair of seeds, by pandas' own selection."""
    own = frame.query("readout == @readout and metric == @metric and dataset == @dataset")
    return own.set_index(SEEDS)["value"].astype(float)
