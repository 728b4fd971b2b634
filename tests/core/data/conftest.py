import pytest


@pytest.fixture
def root(tmp_path):
    """Return a data root that does not exist yet."""
    return tmp_path / "data"
