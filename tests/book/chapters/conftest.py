"""Records of the leaves, drawn once for all tests of the chapter on the final batch norm."""

import leaf_runs
import pytest

from imbal_book.chapters import final_batch_norm as tables
from imbal_book.chapters import open_chapter
from imbal_book.run.records import RecordStore
from imbal_book.studies import final_batch_norm as study


@pytest.fixture(scope="session")
def laptop(tmp_path_factory):
    """Return a store with records of every kind, drawn instead of trained."""
    store = RecordStore(tmp_path_factory.mktemp("records") / "results")
    return leaf_runs.fill(store, keep=leaf_runs.kinds(*leaf_runs.KINDS))


@pytest.fixture(scope="session")
def runs(laptop):
    return tables.runs(open_chapter(leaf_runs.NAME, store=laptop).frame())


@pytest.fixture(scope="session")
def frame(laptop):
    return tables.in_order(study.frame(open_chapter(leaf_runs.NAME, store=laptop).frame()))


@pytest.fixture(scope="session")
def epochs(laptop):
    return study.epoch_frame(open_chapter(leaf_runs.NAME, store=laptop).frame())


@pytest.fixture(scope="session")
def part(frame):
    return tables.select(frame, leaf_runs.LITE)
