"""A comparison of small tinted images, made once."""

import pytest
from tinted_images import untrained_network, write_images

from imbal_book.compare import comparison


@pytest.fixture
def small_network(monkeypatch):
    monkeypatch.setattr(comparison, "load_backbone", untrained_network)


@pytest.fixture(scope="session")
def compared(tmp_path_factory):
    """Return a comparison of the tinted images and its folder."""
    place = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "load_backbone", untrained_network)
        found = comparison.compare(
            write_images(place / "images"),
            place / "report",
            repeats=4,
            cache=place / "cache",
            progress=False,
            say=lambda text: None,
        )
    return found, place
