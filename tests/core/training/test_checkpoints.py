"""A run that is interrupted goes on to the same bits, and from no torn or foreign file."""

import pytest
import torch
from tiny_training import (
    config,
    interrupted_after,
    same_weights,
    tiny,
    train,
)

HARD = {
    "epochs": 4,
    "augment": "crop-flip",
    "sampler": "class-balanced",
    "schedule": "plateau-zhang",
    "learning_rate": 0.5,
}


@pytest.mark.parametrize(
    "options",
    [
        HARD,
        {**HARD, "optimizer": "adamw", "schedule": "one-cycle"},
        {"epochs": 4, "loss": "cot"},
        {"epochs": 4, "loss": "class-balanced", "loss_options": {"reweight_from": 3, "beta": 0.9}},
    ],
)
def test_resumed_run_is_bit_equal_to_an_uninterrupted_one(tmp_path, options):
    run_config = config(**options)
    whole, halves = tiny(dropout=0.5), tiny(dropout=0.5)
    expected = train(whole, run_config)
    with interrupted_after(2):
        train(halves, run_config, checkpoint=tmp_path / "run.pt")
    fresh = tiny(seed=9, dropout=0.5)
    torch.manual_seed(77)
    resumed = train(fresh, run_config, checkpoint=tmp_path / "run.pt")
    assert resumed.history == expected.history
    assert same_weights(fresh, whole)
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]
    finished = tiny(seed=9, dropout=0.5)
    assert train(finished, run_config, checkpoint=tmp_path / "run.pt").history == expected.history
    assert same_weights(finished, whole)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "foreign"])
def test_torn_checkpoint_is_reported_and_training_starts_anew(tmp_path, damage):
    path = tmp_path / "run.pt"
    stopped = tiny()
    with interrupted_after(2):
        train(stopped, config(), checkpoint=path)
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    elif damage == "flipped":
        # inside the stored weights: a byte that only a checksum can tell
        at = bytes(content).index(stopped.head.weight.detach().numpy().tobytes())
        content[at] ^= 1
    elif damage == "empty":
        content = bytearray()
    else:
        content = bytearray(b"not a checkpoint")
    path.write_bytes(content)
    network, expected = tiny(), tiny()
    with pytest.warns(RuntimeWarning, match="run.pt is not used, training starts anew"):
        result = train(network, config(), checkpoint=path)
    assert result.history == train(expected, config()).history
    assert same_weights(network, expected)


@pytest.mark.parametrize(("seed", "n"), [(1, 37), (0, 36)])
def test_checkpoint_of_another_run_is_not_used(tmp_path, seed, n):
    path = tmp_path / "run.pt"
    train(tiny(), config(train_seed=seed), n=n, checkpoint=path)
    network, expected = tiny(), tiny()
    with pytest.warns(RuntimeWarning, match="another config or other labels"):
        train(network, config(), checkpoint=path)
    train(expected, config())
    assert same_weights(network, expected)


def test_a_checkpoint_that_cannot_be_written_does_not_stop_the_run(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("a file where the folder should be")
    with pytest.warns(RuntimeWarning, match="not written"):
        result = train(tiny(), config(), checkpoint=blocked / "run.pt")
    assert result.epochs == 3
