"""The checkout of the repository that holds this package."""

from __future__ import annotations

from pathlib import Path


def checkout_folder() -> Path:
    """Return the folder two levels above ``book/imbal_book``'s rooms; of an installed wheel it holds no checkout."""
    return Path(__file__).resolve().parents[3]
