"""The chapter on the final batch norm: what is recorded, levels, starts and the notebook, from hand-made records."""

import leaf_runs
import nbformat
import numpy as np
import pandas as pd
import pytest
from leaf_frames import EVERY, FAULT, LITE, OWN, PLANTS, SEEDS, rows, values
from long_rows import t_interval, t_text
from notebook_cells import outputs_of

import imbal_book.chapters
from imbal_book.build.book import find_notebook
from imbal_book.chapters import Html, open_chapter
from imbal_book.chapters import final_batch_norm as tables
from imbal_book.chapters import final_batch_norm_mechanism as mechanism
from imbal_book.chapters import final_batch_norm_training as training
from imbal_book.evidence.papers import load_paper
from imbal_book.pictures.figures import Drawing
from imbal_book.run.records import RecordStore
from imbal_book.studies import build_grid
from imbal_book.studies.grids import final_batch_norm as study

NAME = leaf_runs.NAME


@pytest.fixture(scope="module")
def paper():
    return load_paper("kocaman_2020")


# What is recorded, and in which order


def test_runs_stand_in_the_order_of_the_page_with_the_words_of_the_book(laptop):
    shuffled = tables.runs(open_chapter(NAME, store=laptop).frame().sample(frac=1, random_state=0))
    own = tables.select(shuffled, LITE)
    assert list(dict.fromkeys(own["dataset"])) == list(PLANTS)
    assert own["arm"].head(8).tolist() == ["plain"] * 3 + ["final BN"] * 3 + ["weighted loss"] * 2
    assert own[SEEDS].head(3).to_numpy().tolist() == [[0, 0], [1, 1], [2, 0]]
    assert set(shuffled["imbalance"]) == {"1000:10", "1000:100", "1000:33", "1000:3"}


def places_of(keep):
    """Return (imbalances, batch sizes) that plain and final BN share, by network, counted config by config."""
    found = {}
    for config in filter(keep, build_grid(NAME, "laptop")):
        plain = config.fold_batch_norm or config.optimizer == "sgd" or config.split_groups
        if not plain and study.arm(config) in tables.ARMS:
            start = LITE if config.head_start == "linear" else OWN
            rare = config.imbalance.split("-")[2]
            if config.batch_size == 64:
                found.setdefault((start, "imbalance", config.dataset), {}).setdefault(rare, set()).add(
                    study.arm(config)
                )
            if rare == "10":
                by = found.setdefault((start, "batch size", config.dataset), {})
                by.setdefault(config.batch_size, set()).add(study.arm(config))
    places = {key: sum(len(arms) == 2 for arms in by.values()) for key, by in found.items()}
    return {key: n for key, n in places.items() if n > 1}


ALONE = [(kind,) for kind in EVERY]


@pytest.mark.parametrize("names", [(), *ALONE, FAULT, EVERY], ids=" + ".join)
def test_sweeps_show_every_start_that_has_them_whatever_else_is_recorded(names, laptop, runs, frame, epochs):
    """An SGD or folded run of the fair head once hid the sweeps, and the leaves, of the only start that had them."""
    keep = leaf_runs.kinds(*names) if names else lambda config: False
    keys = {record.key for record in open_chapter(NAME, store=laptop).records if keep(record.run_config())}
    own, own_runs = frame[frame["key"].isin(keys)], runs[runs["key"].isin(keys)]
    expected, found = places_of(keep), {}
    for by in ("imbalance", "batch size"):
        swept = mechanism.sweep(own, by)
        for (name, dataset), cell in swept.groupby(["form", "dataset"]):
            found[name, by, dataset] = cell["imbalance"].nunique()
            assert len(mechanism.sweep_cells(cell)) == 3 * cell["imbalance"].nunique()
        assert len(mechanism.sweep_table(swept, by)) == sum(n for key, n in expected.items() if key[1] == by)
    assert found == expected
    leaves = mechanism.leakage_table(own_runs, own)
    grouped = {LITE: "leaves" in names, OWN: "timm's leaves" in names}
    assert set(leaves.loc[leaves["split"] == "leaf-grouped", "network"]) == {
        n for n, is_in in grouped.items() if is_in
    }
    two = tables.two_starts(own, epochs[epochs["key"].isin(keys)])
    assert {start for _, start in two} == {
        start for start, kind in (("nn.Linear's", "fair"), ("timm's own", "timm's start")) if kind in names
    }


@pytest.mark.parametrize("names", [("fair",), FAULT, ("SGD",)], ids=" + ".join)
def test_the_page_says_of_every_kind_of_run_how_many_are_recorded(names, tmp_path):
    store = leaf_runs.fill(RecordStore(tmp_path), keep=leaf_runs.kinds(*names))
    opened = open_chapter(NAME, store=store)
    found = tables.recorded_table(opened)
    done = found["recorded"].str.extract(r"^(\d+) of (\d+)$").astype(int)
    assert done[0].sum() == len(opened.records) and done[1].sum() == sum(opened.planned.values())
    by = found.set_index(["network", "imbalance"])
    assert by.loc[("VGG19", "1000:10"), "arms without a run"].startswith("plain, final BN, weighted loss")
    assert by.loc[(LITE, "1000:10"), "arms without a run"].endswith("logit adjustment, label smoothing")
    sgd = by.loc[(f"{LITE}, SGD", "1000:10")]
    assert sgd["recorded"] == f"{6 if 'SGD' in names else 0} of 10"
    assert (sgd["arms without a run"] == "") == ("SGD" in names)


# Levels and gains


def test_a_level_is_the_mean_with_its_interval_inside_0_to_1():
    (cell,) = tables.levels(rows({"final BN": [0.9, 0.99, 1.0]}), ["plain", "final BN"]).to_dict("records")
    fractions = np.array([0.9, 0.99, 1.0])
    low, high = t_interval(fractions)
    assert high > 1 and (cell["mean"], cell["low"], cell["high"]) == pytest.approx(
        (fractions.mean(), low, 1.0)
    )
    assert (cell["dataset"], cell["n"], cell["values"]) == (PLANTS[0], 3, (0.9, 0.99, 1.0))


def test_the_table_of_f1_pairs_every_arm_with_the_plain_one(part):
    found = tables.f1_table(part).set_index(["plant", "arm"])
    assert list(found.index) == [(plant, arm) for plant in study.PLANTS for arm in study.ARMS]
    row, layer = found.loc[("pepper", "final BN")], values(part, "final BN", dataset=PLANTS[1])
    assert row["gain over plain"] == t_text(layer, values(part, "plain", dataset=PLANTS[1]))
    assert row["recall"] == f"{values(part, 'final BN', 'recall_minority', PLANTS[1]).mean():.3f}"
    assert row["F1, rare"].startswith(f"{layer.mean():.3f} (")
    assert found.loc[("pepper", "plain"), "gain over plain"] == "" and set(found["seeds"]) == {3}


def test_arms_that_lack_pairs_are_paired_where_both_have_one(part):
    few = part[~((part["readout"] == "plain") & (part["split_seed"] == 0))]
    few = few[~((few["readout"] == "weighted loss") & (few["split_seed"] > 0))]
    found = tables.f1_table(few).set_index(["plant", "arm"])
    row = found.loc[("apple", "final BN")]
    assert row["seeds"] == 3 and row["gain over plain"] == t_text(
        values(few, "final BN"), values(few, "plain")
    )
    alone = found.loc[("apple", "weighted loss")]
    assert alone["gain over plain"] == "" and "(" not in alone["F1, rare"], "one run, and no pair with plain"
    found = mechanism.questions(few).set_index("question")
    assert found.loc["The same by precision and recall (AUPRC)", "seeds"] == "2"
    assert found.loc["Does it beat weights inside the loss?", "apple"].endswith("(one seed, no interval)")


@pytest.mark.parametrize("lacking", [*study.ARMS, "plain, of one plant", "nothing"])
def test_every_table_says_what_it_can_when_an_arm_was_not_run(lacking, frame, runs, epochs):
    """No table fails, and none prints a number that is not there."""
    arm, _, one_plant = lacking.partition(", of ")

    def left(rows, name):
        gone = (rows[name] == arm) | rows[name].str.startswith(f"{arm}, ")
        return rows[~(gone & (rows["dataset"].isin(PLANTS[:1] if one_plant else PLANTS)))]

    frame, epochs, runs = left(frame, "readout"), left(epochs, "readout"), left(runs, "arm")
    part, own, history = (tables.select(rows, LITE) for rows in (frame, runs, epochs))
    starts = tables.two_starts(frame, epochs)
    made = [
        starts,
        pd.DataFrame([tables.answers(starts)]),
        tables.f1_table(part),
        training.epochs_table(epochs),
    ]
    made += [mechanism.questions(part), mechanism.shift_table(part), mechanism.layer_table(own)]
    made += [mechanism.leakage_table(runs, frame), training.loss_table(part, history)]
    made += [training.confidence_table(part), tables.arm_cells(frame, LITE)[["row", "mean"]]]
    for by in ("imbalance", "batch size"):
        made.append(mechanism.sweep_table(mechanism.sweep(frame, by), by))
    for table in made:
        assert not table.astype(str).map(lambda text: "nan" in text.lower().split()).any(axis=None)
    for kind in ("histogram", "reliability"):
        assert set(training.confidence_bins(own, kind)["method"]) == {*tables.ARMS} - {lacking}
    assert set(training.margins(own)["method"]) == {*tables.ARMS} - {lacking}
    assert len(made[2]) == {"nothing": 12, "plain, of one plant": 11}.get(lacking, 9)


def test_only_the_two_numbers_of_the_abstract_are_reported(paper):
    found = tables.reported(paper)
    assert dict(zip(found["method"], found["value"], strict=True)) == {"plain": 0.29, "final BN": 0.95}
    assert found["label"].iloc[1] == "abstract: 0.95, final BN"


def test_the_two_starts_of_the_head_stand_beside_each_other(frame, epochs):
    found = tables.two_starts(frame, epochs)
    assert list(found.columns) == [(plant, start) for plant in study.PLANTS for start in tables.STARTS]
    for start, form in tables.STARTS.items():
        own, cell = tables.select(frame, form), found["apple", start]
        assert cell["final BN - plain"] == t_text(values(own, "final BN"), values(own, "plain"))
        shift = t_text(values(own, "final BN"), values(own, "plain, logit adjusted"))
        assert cell["final BN - plain, logit adjusted"] == shift and cell["pairs"] == "3"
        assert cell["F1, weighted loss"] == f"{values(own, 'weighted loss').mean():.3f}"
        first = tables.select(epochs, form).query(
            "epoch == 1 and metric == 'train_loss' and readout == 'plain' and dataset == @PLANTS[0]"
        )
        assert cell["first-epoch loss of plain (nats)"] == f"{first['value'].mean():.2f}"
    fair, own = (values(tables.select(frame, form), "plain") for form in (LITE, OWN))
    head = found.loc["this start - timm's own, of plain", "apple"]
    assert head["nn.Linear's"] == f"{t_text(fair, own)[:-1]}; n = 2)" and head["timm's own"] == ""


def test_the_first_sentences_take_every_number_from_the_table_of_starts(frame, epochs):
    starts = tables.two_starts(frame, epochs)
    told, start = tables.answers(starts), "timm's own"
    cells = [f"{starts.loc['final BN - plain', (plant, start)]} on {plant}" for plant in study.PLANTS]
    assert told["own_layer"] == ", ".join(cells)
    assert [name for name, text in told.items() if text == "(not attempted)"] == ["own_head"]
    nothing = tables.answers(tables.two_starts(frame.iloc[:0], epochs.iloc[:0]))
    assert set(nothing) == set(told) and set(nothing.values()) == {"(not attempted)"}
    handicapped = frame[frame["form"] == OWN], epochs[epochs["form"] == OWN]
    told = tables.answers(tables.two_starts(*handicapped))
    assert told["fair_layer"] == "(not attempted)" != told["own_layer"], (
        "timm's start never passes for the fair one"
    )


def test_the_first_figure_sets_timms_start_beside_each_arm_of_the_same_network(frame):
    cells = tables.arm_cells(frame, LITE).set_index(["panel", "row"])
    own = tables.select(frame, OWN)
    for plant, arm in (("apple", "plain"), ("tomato", "plain, logit adjusted")):
        expected = values(own, arm, dataset=f"plantvillage-{plant}").mean()
        assert cells.loc[(plant, arm), "paper"] == pytest.approx(expected)
    assert tables.arm_cells(frame, OWN)["paper"].isna().all()


# The notebook


@pytest.mark.parametrize(
    ("recorded", "drawings"),
    [((), 2), (FAULT, 10), ("smoke", 8)],
    ids=["nothing", "every start", "smoke"],
)
def test_the_notebook_runs_on_every_kind_of_record_and_glues_what_its_prose_names(
    tmp_path, monkeypatch, recorded, drawings
):
    store, smoke = RecordStore(tmp_path / "results"), recorded == "smoke"
    if recorded:
        profile, keep = ("smoke", lambda config: True) if smoke else ("laptop", leaf_runs.kinds(*recorded))
        leaf_runs.fill(store, profile, keep)
    monkeypatch.setattr(imbal_book.chapters, "RecordStore", lambda *_: store)
    monkeypatch.setenv("IMBAL_DATA", str(tmp_path))
    notebook = find_notebook(NAME)
    shown, glued = outputs_of(notebook, monkeypatch, PROFILE="smoke" if smoke else "best", LIVE=False)
    assert sum(isinstance(output, Drawing) for output in shown) == drawings
    missing = [output for output in shown if isinstance(output, Html) and output == tables.MISSING]
    assert (
        bool(missing) == (recorded not in (tuple(leaf_runs.KINDS), FAULT))
        and tables.COMMAND in tables.MISSING
    )
    prose = "\n".join(c.source for c in nbformat.read(notebook, 4).cells if c.cell_type == "markdown")
    named = {piece.split("`")[1] for piece in prose.split("{glue:text}")[1:]}
    assert named and named <= glued.keys()
    assert (glued["fair_layer"] == "(not attempted)") == ("fair" not in recorded and not smoke)
