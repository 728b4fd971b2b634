"""Which remedy helps on a folder of images: `compare` measures all, `load_pipeline` opens the saved model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imbal_book.compare.comparison import compare
    from imbal_book.compare.outcome import Comparison
    from imbal_book.compare.pipeline import Pipeline, load_pipeline

__all__ = ["Comparison", "Pipeline", "compare", "load_pipeline"]

_HOMES = {"comparison": ("compare",), "outcome": ("Comparison",), "pipeline": ("Pipeline", "load_pipeline")}


def __getattr__(name: str) -> Any:
    import importlib

    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
