"""Executed copies of a chapter, as papermill and `run_notebook` leave them, with what it glued."""

import json
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output


def glued_verdict(claim="D-1a", label="holds", **more):
    """Return a verdict as a chapter glues it."""
    verdict = {"claim": claim, "label": label, "word": label, "grade": "near", "profile": "laptop"}
    verdict |= {"form": "fine-tuned", "explanation": "", "n": 5, "draws": 5, "models": [], "parts": []}
    return verdict | more


def executed(path: Path, verdicts=(), profile="best", opening="# Title", **glued) -> Path:
    """Write a copy as papermill and `run_notebook` leave it, with glued verdicts."""
    outputs = [
        new_output(
            "display_data",
            data={"application/papermill.record/text/plain": repr(text)},
            metadata={"scrapbook": {"name": name, "mime_prefix": "application/papermill.record/"}},
        )
        for name, text in {"verdicts": json.dumps(list(verdicts)), **glued}.items()
    ]
    metadata = {
        "language_info": {"name": "python", "version": "3.12.1"},
        "papermill": {
            "duration": 12.345,
            "start_time": "2026-01-02T03:04:05.678901+00:00",
            "parameters": {"PROFILE": profile, "TRAIN": False, "LIVE": True},
        },
        "imbal": {"inputs": "0", "device": "some CPU", "versions": {"torch": "2.6.0"}},
    }
    cells = [new_markdown_cell(opening), new_code_cell("1", outputs=outputs)]
    nbformat.write(new_notebook(cells=cells, metadata=metadata), path)
    return path
