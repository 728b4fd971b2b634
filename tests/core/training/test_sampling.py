"""A sampler for loops of one's own: how often each image comes, seeds, epochs, what is refused."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from imbal_core.training.sampling import ClassBalancedSampler

LABELS = np.repeat([0, 1, 3], [12, 5, 1])


def test_over_sampling_shows_every_image_and_every_class_as_often_as_the_largest():
    drawn = list(ClassBalancedSampler(LABELS))
    times = np.bincount(drawn, minlength=18)
    assert np.bincount(LABELS[drawn]).tolist() == [12, 12, 0, 12]
    assert times[:12].tolist() == [1] * 12 and set(times[12:17]) == {2, 3} and times[17] == 12


@pytest.mark.parametrize("how", ["over-sample", "class-balanced", "shuffle"])
def test_a_pass_is_an_epoch_of_the_seed_whatever_came_before(how):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    sampler, again = (ClassBalancedSampler(LABELS, how, seed=3) for _ in range(2))
    epochs = [list(sampler) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2] and sampler.epoch == 3
    again.set_epoch(2)
    assert list(again) == epochs[2]
    again.set_epoch(0)
    assert list(again) == epochs[0] != list(ClassBalancedSampler(LABELS, how, seed=4))
    assert all(len(epoch) == len(sampler) for epoch in epochs)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_loader_takes_it():
    data = TensorDataset(torch.from_numpy(LABELS))
    loader = DataLoader(data, batch_size=7, sampler=ClassBalancedSampler(torch.from_numpy(LABELS)))
    assert len(loader) == 6
    assert torch.cat([batch for (batch,) in loader]).bincount().tolist() == [12, 12, 0, 12]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ClassBalancedSampler([0.0, 1.0]), "labels must be integers"),
        (lambda: ClassBalancedSampler([0, -1]), r"labels must lie in \[0, 1\)"),
        (lambda: ClassBalancedSampler([]), "labels must be integers|labels is empty"),
        (lambda: ClassBalancedSampler(LABELS, "oversample"), "did you mean 'over-sample'"),
        (lambda: ClassBalancedSampler(LABELS, num_samples=1), "epoch_images must be at least 2"),
    ],
)
def test_what_cannot_be_sampled_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
