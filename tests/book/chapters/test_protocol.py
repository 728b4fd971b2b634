"""The table that sets what is done here beside what a paper says, and the paper's counts and recalled cells."""

import dataclasses
import re

import pytest

from imbal_book.chapters import final_batch_norm as chapter
from imbal_book.chapters.protocol import counts_table, protocol_table, recalled_table
from imbal_book.evidence.papers import list_papers, load_paper
from imbal_book.evidence.papers.facts import HereItem
from imbal_book.studies import build_grid
from imbal_book.studies.grids import category_centers as grids
from imbal_book.studies.grids import cnn_fragility, final_batch_norm
from imbal_book.studies.grids import complement_cross_entropy as complement
from imbal_core.data.class_counts import zhang_counts

#: Paper -> the name of a run's column in the chapter's table; of the others here the profile.
COLUMNS = {
    "zhang_2018": grids.form,
    "kim_2021": lambda config: complement.NETWORKS[config.model],
    "kocaman_2020": chapter.column,
    "dablain_2023": lambda config: cnn_fragility.NETWORKS[config.model],
}


def planned(paper, *profiles):
    grid = [config for profile in profiles for config in build_grid(paper.study, profile)]
    if paper.name == "kocaman_2020":
        arms = final_batch_norm.ARMS
        grid = [c for c in grid if final_batch_norm.arm(c) in arms and c.imbalance == grid[0].imbalance]
    return grid


def column(name):
    return COLUMNS.get(name, lambda config: config.profile)


def table(name, *profiles, recorded=()):
    paper = load_paper(name)
    return protocol_table(paper, planned(paper, *profiles), column(name), recorded).set_index("item")


@pytest.mark.parametrize("name", list_papers())
def test_a_table_has_the_rows_of_the_file_and_no_empty_cell(name):
    paper = load_paper(name)
    found = table(name, "smoke", "laptop", "paper")
    assert found.index.tolist() == [row.item for row in paper.here]
    assert found["why"].tolist() == [row.why for row in paper.here]
    assert (found.columns[0], found.columns[-1]) == ("paper", "why")
    assert all(column.startswith("here, ") for column in found.columns[1:-1])
    assert found.map(lambda text: isinstance(text, str) and len(text) > 0).all(axis=None)
    nothing = protocol_table(paper, [], column(name))
    assert nothing.columns.tolist() == ["item", "paper", "why"]


def test_several_statements_of_the_paper_bear_their_names_and_labels():
    found = table("zhang_2018", "laptop")["paper"]
    assert found["input"] == "input, VGG-16: 224 x 224 x 3; input, All-CNN: 32 x 32 x 3"
    assert found["optimizer"] == "SGD"
    assert found["epochs"] == "not given"
    loss = table("kim_2021", "laptop").loc["loss", "paper"]
    assert loss.startswith("loss: CE + gamma C / (K - 1) (recalled, not verified); gamma: -1; ")


def test_category_centers_are_described_form_by_form():
    grid = build_grid("category_centers", "laptop")
    grid = [config for config in grid if grids.form(config) != "fine-tuned, fair head"]
    paper = load_paper("zhang_2018")
    found = protocol_table(paper, reversed(grid), grids.form).set_index("item")
    assert found.columns.tolist()[1:-1] == ["here, fine-tuned", "here, from scratch", "here, frozen"]
    assert found.loc["input", "here, frozen"] == "96 pixels"
    assert found.loc["input", "here, from scratch"] == "the images' own size"
    assert found.loc["epochs", "here, frozen"] == "20, of the softmax layer alone"
    assert found.loc["network", "here, fine-tuned"] == "tf_efficientnet_lite0"
    assert found.loc["seeds", "here, frozen"] == "10 of split and training"
    assert found.loc["over-sampling", "here, from scratch"] == "not attempted"
    assert found.loc["over-sampling", "here, frozen"] == "random duplicates up to the largest label"
    assert "as many images an epoch" in found.loc["over-sampling", "here, fine-tuned"]
    slower = [dataclasses.replace(config, epochs=21) for config in grid if config.frozen]
    both = protocol_table(paper, [*grid, *slower], grids.form).set_index("item")
    assert both.loc["epochs", "here, frozen"] == (
        "20, of the softmax layer alone or 21, of the softmax layer alone"
    )


def test_complement_cross_entropy_is_described_network_by_network():
    grid = build_grid("complement_cross_entropy", "laptop")
    recorded = grid[:2]
    found = table("kim_2021", "paper", "laptop", recorded=recorded)
    assert found.columns.tolist()[1:-1] == ["here, ResNet-34", "here, ResNet-32", "here, small network"]
    assert found.loc["epochs"].tolist()[1:-1] == ["200", "200", "10"]
    assert found.loc["schedule", "here, ResNet-34"] == "x 0.01 at epochs 160, 180"
    assert "step 10 at 40 % of the images" in found.loc["imbalance", "here, small network"]
    assert found.loc["focal loss", "here, ResNet-32"] == "gamma 2, alpha 0.25 for every class"
    assert found.loc["images for validation", "here, small network"] == "10 %"
    assert found.loc["runs", "here, small network"] == f"2 recorded of {len(grid)} planned"
    assert re.fullmatch("0 recorded of [0-9]+ planned", found.loc["runs", "here, ResNet-32"])


def test_the_points_that_a_protocol_names_are_those_of_the_open_choices():
    paper = load_paper("kim_2021")
    topics = {point.id: point.topic for point in paper.ambiguities}
    matches = {row.item: re.search(r"point (\d+) below", row.why) for row in paper.here}
    assert {item: topics[int(match[1])] for item, match in matches.items() if match} == {
        "loss": "sign of the entropy term",
        "imbalance": "which images are kept",
        "schedule": "recipe",
        "weight decay": "recipe",
        "COT": "the COT baseline",
        "selection": "best or last epoch",
    }


def test_the_final_batch_norm_is_described_scale_by_scale():
    found = table("kocaman_2020", "smoke", "laptop", "paper")
    sides = [f"here, laptop, {side}" for side in ("batch norms folded", "SGD")]
    assert found.columns.tolist()[1:-1] == ["here, smoke", "here, laptop", *sides, "here, paper"]
    laptop = found["here, laptop"]
    assert laptop["plants"] == "apple, pepper, tomato"
    assert laptop["training images"] == "1,000 healthy and 10 diseased"
    assert laptop["validation images"] == "150 healthy and 7 diseased"
    assert laptop["batch size"] == "64 or 16 or 256"
    assert (laptop["network"], laptop["epochs"]) == ("EfficientNet-Lite0", "6")
    assert laptop["the layer"] == "on the logits, momentum 0.01, affine"
    recipes = found.loc["optimizer"].tolist()[1:-1]
    assert len(set(recipes)) == len(recipes), "a recipe of its own for each column"
    assert not any(" or " in recipe for recipe in recipes), "and one for all arms of a column"
    assert found.loc["split"].tolist()[1:-1] == [
        "at random",
        "at random; of apple also by leaf",
        "at random",
        "at random",
        "at random; of apple, pepper, tomato also by leaf",
    ]


def test_fragility_is_described_network_by_network_with_its_cells():
    grid = build_grid("cnn_fragility", "laptop")
    found = table("dablain_2023", "paper", "laptop", recorded=grid)
    assert found.columns.tolist()[1:-1] == ["here, ResNet-32", "here, ResNet-56", "here, ResNet-20"]
    resnet20 = found["here, ResNet-20"]
    assert resnet20["imbalance"].split("; ") == [
        "cifar10: exponential 100, 50 % of the full counts, 2,500 to 25 of a class",
        "cifar10: step 10, 5 % of the full counts, 250 to 25 of a class",
        "scenes6: exponential 20, 100 % of the full counts, 500 to 25 of a class",
    ]
    assert "5,000 to 50 of a class" in found["here, ResNet-32"]["imbalance"]
    assert resnet20["learning rate"] == "SGD, momentum 0.9, 0.05 after 1 of warm-up"
    assert resnet20["schedule"] == "cosine"
    assert resnet20["runs"] == f"{len(grid)} recorded of {len(grid)} planned"


def test_a_word_that_no_run_has_is_refused_with_the_nearest():
    paper = load_paper("zhang_2018")
    wrong = dataclasses.replace(paper, here=[HereItem("epochs", "{epoch}", "why")])
    with pytest.raises(ValueError, match="unknown word of a protocol 'epoch': did you mean 'epochs'"):
        protocol_table(wrong, build_grid("category_centers", "smoke"), grids.form)


@pytest.mark.parametrize(("name", "num_classes"), [("I", 10), ("II", 100)])
def test_the_counts_that_are_drawn_are_those_of_the_paper(name, num_classes):
    paper = load_paper("zhang_2018")
    drawn = {kind: zhang_counts(num_classes, kind) for kind in "ABC"}
    found = counts_table(paper, drawn, name)
    assert found["here"].tolist() == ["the same"] * 10
    assert found.loc[9, "type C"] == ("4,000 + 1,000" if num_classes == 10 else "400 + 100")
    train, valid = (int(counts[0]) for counts in drawn["A"])
    drawn["A"][0][0] += 1
    wrong = counts_table(paper, drawn, name)
    assert wrong.loc[0, "here"] == f"type A {train + 1} + {valid}"
    assert wrong.loc[1:, "here"].tolist() == ["the same"] * 9


def test_every_recalled_cell_bears_its_label():
    recalled = recalled_table(load_paper("kocaman_2020"))
    for column in ("F1, unhealthy", "F1, healthy"):
        labelled = recalled[column].str.contains("recalled, not verified", regex=False)
        assert (labelled | (recalled[column] == "could not be read")).all()
