"""The parsers of the book's machinery, and intact files for them: records, papers, bundles, notebooks, comparisons."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import zipfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import yaml
from PIL import Image

from benchmarks.faults.damage import as_zip, damage_json, damage_zip, zip_members
from benchmarks.faults.fuzz import Parser, Refused
from imbal_book.build.parameters import NotebookError, check_parameters, parse_parameters
from imbal_book.compare.features import read_features
from imbal_book.compare.look import CompareError, list_images
from imbal_book.compare.pipeline import Pipeline, PipelineError, load_pipeline
from imbal_book.evidence import papers, rules
from imbal_book.evidence.papers import parse_paper, read_paper
from imbal_book.evidence.papers.facts import PaperError
from imbal_book.evidence.papers.reference import read_reference
from imbal_book.evidence.rules import RulesError, read_rules
from imbal_book.grid.bundle import BundleError, identity_of, pack
from imbal_book.grid.claims import Claims, note_progress
from imbal_book.grid.progress import Board
from imbal_book.grid.unpacking import open_bundle
from imbal_book.run import records
from imbal_book.run.config import RunConfig
from imbal_book.run.record_format import Record, RecordError
from imbal_book.run.records import RecordStore
from imbal_core.models.build import build_model

PAPER = "kocaman_2020.yml"
CONFIG = RunConfig(
    study="demo", profile="smoke", dataset="mnist5k", imbalance="step-10", model="small_cnn", epochs=3
)


def record(seed: int) -> Record:
    """Return a record of made-up numbers."""
    measured = {"accuracy": 0.1 * seed + 0.2, "recall": [0.25, 0.75], "history": {"loss": [1.5, 0.5]}}
    origin = {"device": "cpu", "threads": 1, "seconds": 2.5, "date": "2026-01-01", "git_commit": None}
    data = {"train": "aa" * 32, "test": "bb" * 32}
    return Record.of_run(dataclasses.replace(CONFIG, split_seed=seed), data, "cc" * 32, measured, origin)


def said(one: Record) -> tuple[Any, ...]:
    """Return what a record says, apart from where it comes from."""
    return one.key, one.config, one.data, one.split, one.measurements


def write_records(folder: Path) -> None:
    store = RecordStore(folder / "results")
    for seed in range(2):
        store.write(record(seed))
    with mock.patch.object(records, "WORTH_WRITING", 1):
        store.missing([CONFIG])


def read_records(folder: Path, _: Path) -> object:
    store = RecordStore(folder / "results")
    found = [said(one) for one in store.read()]
    store.missing([CONFIG])
    store.listing()
    if store.skipped:
        raise Refused(str(store.skipped))
    return found


def read_index(folder: Path, _: Path) -> object:
    store = RecordStore(folder / "results")
    assert len(store.missing([dataclasses.replace(CONFIG, split_seed=seed) for seed in range(3)])) >= 1
    return store.listing()


def write_archive(folder: Path) -> None:
    with zipfile.ZipFile(folder / "back.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for seed in range(3):
            archive.writestr(f"results/{seed}.json", record(seed).to_json())


def read_archive(folder: Path, scratch: Path) -> object:
    store = RecordStore(scratch / "results")
    report = store.add(folder / "back.zip")
    if any(said(one) not in [said(record(seed)) for seed in range(3)] for one in store.read()):
        return "other measurements than those that were packed"
    if report.refused or len(report.added) + len(report.same) < 3:
        raise Refused(f"back.zip: {report}")
    return "as packed"


def write_claim(folder: Path) -> None:
    claims = Claims(folder / "claims")
    claims.take(CONFIG)
    note_progress(
        folder / "claims",
        CONFIG,
        epoch=1,
        loss=0.5,
        images_per_second=9.0,
        seconds_of_epoch=1.0,
        seconds_left=2.0,
    )


def read_claim(folder: Path, _: Path) -> object:
    claims = Claims(folder / "claims")
    taken, holder, progress = claims.take(CONFIG), claims.holder(CONFIG), claims.progress(CONFIG)
    with Board(1, 0) as board:
        board.printed[CONFIG] = (-1000.0, 0)
        board.show({CONFIG: progress})
    return taken, holder


def write_paper(folder: Path) -> None:
    """Write a paper with as few entries as its own references allow, which is read in a tenth of the time."""
    content = yaml.load(Path(papers.__file__).with_name(PAPER).read_bytes(), yaml.CSafeLoader)
    for section in [
        name for name, entries in content.items() if isinstance(entries, list) and name != "authors"
    ]:
        for number in reversed(range(2, len(content[section]))):
            fewer = copy.deepcopy(content)
            del fewer[section][number]
            try:
                parse_paper(fewer)
            except PaperError:
                continue
            content = fewer
    (folder / PAPER).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def write_beside(module: Any, name: str) -> Any:
    """Return a function that copies a file which lies beside a module."""
    return lambda folder: (folder / name).write_bytes(Path(module.__file__).with_name(name).read_bytes())


def write_bundle(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for side, number in (("train", 5), ("test", 2)):
        for name in ("cat", "dog"):
            (folder / "mine" / side / name).mkdir(parents=True)
            for n in range(number):
                pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "mine" / side / name / f"{n}.png")
    config = dataclasses.replace(
        CONFIG, dataset=f"folder:{folder / 'mine'}", imbalance="step-2", image_size=8, valid_share=0.0
    )
    pack([config], RecordStore(folder / "results"), folder / "grid.zip", root=folder / "data")


def damage_bundle(content: bytes, rng: np.random.Generator) -> bytes:
    """Return a bundle with a damaged field in its manifest and the identity of the new content, or any damaged zip."""
    if rng.random() < 0.3:
        return damage_zip(content, rng)
    members = zip_members(content)
    manifest = json.loads(members["manifest.json"])
    hashes = [(name, manifest["members"][name]) for name in members if name != "manifest.json"]
    text = damage_json(json.dumps(manifest).encode(), rng)
    with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):  # of what has no identity
        spoilt = json.loads(text)
        text = json.dumps(spoilt | {"bundle": identity_of(spoilt, hashes)}).encode()
    return as_zip(members | {"manifest.json": text}, zipfile.ZIP_DEFLATED)


def read_bundle(folder: Path, scratch: Path) -> object:
    contents = open_bundle([folder / "grid.zip"], scratch / "there")
    arrays = {}
    for path in sorted(contents.root.rglob("*.npz")):
        with np.load(path) as parts:
            arrays[path.name] = {name: parts[name].tolist() for name in parts.files}
    return contents.configs, arrays


def write_notebook(folder: Path) -> None:
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, writes

    cell = 'PROFILE = "best"  # which records\nTRAIN = False\nSEEDS: int = 3\nRATE = 0.1\nNAMES = ["a", {"b": 1}]\n'
    cells = [new_markdown_cell("# A"), new_code_cell(cell, metadata={"tags": ["parameters"]})]
    (folder / "chapter.ipynb").write_text(writes(new_notebook(cells=cells)), encoding="utf-8")


def read_notebook(folder: Path, _: Path) -> object:
    return check_parameters(folder / "chapter.ipynb", {})


def write_texts(folder: Path) -> None:
    (folder / "given").write_text("PROFILE=smoke\nLIVE=false\nSEEDS=[1, 2, (3, 4)]\nRATE=1e-3\n")


def read_texts(folder: Path, _: Path) -> object:
    try:
        return parse_parameters((folder / "given").read_text(errors="surrogateescape").splitlines())
    except ValueError as error:  # of one text, which it names
        raise Refused(f"given: {error}") from None


def write_model(folder: Path) -> None:
    rng = np.random.default_rng(0)
    network = build_model("small_cnn", 2, image_size=8).eval()
    width = network.head.in_features
    weight = rng.normal(size=(width, 2)).astype(np.float32)
    references = rng.normal(size=(3, width)).astype(np.float16)
    told = {"classes": ["a", "b"], "remedy": "none"}
    Pipeline(network, weight, np.zeros(2, np.float32), 1.0, references, 0.1, told).save(folder / "model")


def read_model(folder: Path, _: Path) -> object:
    pipeline = load_pipeline(folder)
    pipeline.predict(np.zeros((1, 8, 8, 3), np.uint8))
    return None


def write_table(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / name).mkdir()
        for n in range(2):
            Image.fromarray(np.full((8, 8, 3), 60 * n, np.uint8)).save(folder / name / f"{n}.png")
    rows = ["path,label,group", *(f"{name}/{n}.png,{name},g{n}" for name in ("a", "b") for n in range(2))]
    (folder / "images.csv").write_text("\n".join(rows) + "\n")


def read_table(folder: Path, scratch: Path) -> object:
    """Read what a table lists, and the images that it leads to."""
    listing = list_images(folder / "images.csv")
    network = build_model("small_cnn", 2, image_size=8).eval()
    _, facts = read_features(network, listing.files["path"].tolist(), cache=scratch / "cache", progress=False)
    problems = [text for text in facts["problem"] if text]
    if problems:
        raise Refused(f"images.csv, {listing.files['path'].tolist()}: {problems}")
    return None


def book_parsers() -> list[Parser]:
    """Return the parsers of imbal_book."""
    everything = ("bytes", "fields")
    return [
        Parser("record", write_records, read_records, damaged="results/**/*.json", summed=everything),
        Parser("index of records", write_records, read_index, damaged="_build/index.json"),
        Parser("archive of records", write_archive, read_archive, (RecordError,), summed=everything),
        Parser("claim and progress", write_claim, read_claim, (OSError,)),
        Parser("paper's YAML", write_paper, lambda f, _: read_paper(f / PAPER), (PaperError,), share=0.5),
        Parser(
            "rules' YAML",
            write_beside(rules, "rules.yml"),
            lambda f, _: read_rules(f / "rules.yml").declared,
            (RulesError,),
            share=0.2,
        ),
        Parser(
            "reference YAML",
            write_beside(papers, "cifar_lt_reference.yml"),
            lambda f, _: len(read_reference(f / "cifar_lt_reference.yml")),
            (PaperError,),
            share=0.2,
        ),
        Parser(
            "bundle",
            write_bundle,
            read_bundle,
            (BundleError,),
            damaged="grid.zip",
            summed=("bytes",),
            fields=damage_bundle,
        ),
        Parser("notebook parameters", write_notebook, read_notebook, (NotebookError, FileNotFoundError)),
        Parser("parameters as text", write_texts, read_texts, irregular=False),
        Parser("saved model", write_model, read_model, (PipelineError,), share=0.5),
        Parser("table of images", write_table, read_table, (CompareError,), share=0.5),
    ]
