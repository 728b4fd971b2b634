"""The front door: the public names, loaded when they are used, each documented with an example that runs."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import imbal_core

ROOT = Path(__file__).parents[2]
NAMES = """
    load_dataset list_datasets ImageDataset counts_from_name exponential_counts step_counts draw_split Split
    build_model list_models add_final_batch_norm build_loss list_losses Recipe fit predict CategoryCenters
    adjust_logits choose_tau tau_normalized_logits retrain_classifier shifted_threshold fit_temperature
    confusion_counts per_class_recall balanced_accuracy expected_calibration_error
    ClassBalancedSampler LogitAdjuster TauNormalizer TemperatureScaler ThresholdShifter
""".split()


def fresh(code):
    """Run code in a process of its own and return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    return done.stdout.strip()


def test_importing_the_library_loads_nothing_heavy_and_takes_no_time():
    code = (
        "import sys, time; start = time.process_time(); import imbal_core; "
        "print(time.process_time() - start, [m for m in ('numpy', 'torch', 'pandas', 'sklearn') if m in sys.modules])"
    )
    seconds, loaded = fresh(code).split(" ", 1)
    assert float(seconds) < 0.1 and loaded == "[]"


def test_a_name_loads_only_what_it_needs():
    # one process, in which more and more is loaded: the first line with a module's name says what loaded it
    uses = ("exponential_counts", "load_dataset", "load_dataset('mnist5k', 'test')", "draw_split")
    steps = [(use, "torch") for use in uses]
    steps += [(use, "torchvision") for use in ("predict", "build_model('small_cnn', 10)")]
    code = "import sys, imbal_core\n" + "".join(
        f"imbal_core.{use}\nprint({use!r}, {heavy!r} if {heavy!r} in sys.modules else 'light')\n"
        for use, heavy in steps
    )
    assert fresh(code).splitlines() == [f"{use} light" for use, _ in steps]


def test_the_names_are_the_public_ones():
    assert imbal_core.__all__ == sorted(NAMES)
    assert set(NAMES) <= set(dir(imbal_core))


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_documented_with_an_example(name):
    found = getattr(imbal_core, name)
    sections = set(re.findall(r"(?m)^([A-Z][A-Za-z ]*)\n-+$", inspect.getdoc(found)))
    assert f"{found.__module__}.{name}".startswith("imbal_core."), "it is defined here"
    assert "Examples" in sections
    if inspect.isclass(found):
        assert sections & {"Parameters", "Attributes"}
    elif len(inspect.signature(found).parameters) > 1:
        assert {"Parameters", "Returns"} <= sections
    else:
        assert inspect.getdoc(found).startswith("Return ")


def test_a_mistyped_name_gets_the_nearest():
    with pytest.raises(AttributeError, match="did you mean 'load_dataset'"):
        imbal_core.load_datasets  # noqa: B018
