"""A run that a study trains and measures, with the network that it read."""

import pytest
import torch

from imbal_book.run import trained


def measured(study, prepared):
    """Return the trained run and its measurements, made on the CPU."""
    runs, real = [], trained.train_run

    def keep(*arguments, **options):
        runs.append(real(*arguments, **options))
        return runs[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "train_run", keep)
        found = study.measure(prepared, device=torch.device("cpu"), progress=False)
    return runs[0], found
