import pytest

from imbal_book.run.records import RecordStore


@pytest.fixture
def store(tmp_path):
    """Return a store without records."""
    return RecordStore(tmp_path / "results")
