"""What the commands that only look at runs and records load: a plan asks for neither PyTorch nor a data frame."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[3]
HEAVY = {"torch", "torchvision", "timm", "sklearn", "scipy", "matplotlib", "pandas", "PIL", "tqdm", "yaml"}
COMMAND = """
import sys
from imbal_book.build import cli
try:
    cli.app()
finally:
    print("loaded", sorted({heavy!r} & sys.modules.keys()))
"""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--help"], "imbal plan category_centers"),
        (["plan"], "remedies, profile smoke"),
        (["plan", "--profile", "laptop", "--only", "train_seed=1"], "remedies, profile laptop"),
        (["records", "list", "remedies"], "1 records"),
        (["plan", "remedeis"], "did you mean 'remedies'"),
    ],
)
def test_looking_at_runs_and_records_loads_nothing_heavy(arguments, said, tmp_path):
    record = next((CHECKOUT / "results" / "remedies" / "laptop").glob("*.json"))
    kept = tmp_path / "results" / record.relative_to(CHECKOUT / "results")
    kept.parent.mkdir(parents=True)
    shutil.copy(record, kept)
    place = [] if "--help" in arguments else ["--results", str(tmp_path / "results")]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND.format(heavy=HEAVY), *arguments, *place],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert said in done.stdout and done.stdout.splitlines()[-1] == "loaded []", done.stdout
