import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tinted_images import untrained_network, write_images
from typer.testing import CliRunner

from imbal_book.build.cli import app
from imbal_book.compare import compare
from imbal_book.compare.features import difference_hash, read_features
from imbal_book.compare.look import CompareError, list_images
from imbal_book.heads.remedies import PLAIN
from imbal_core.data.prepared import DatasetError

QUICK = {"repeats": 3, "progress": False, "say": lambda text: None}


def run(folder, tmp_path, **options):
    return compare(folder, tmp_path / "out", cache=tmp_path / "cache", **(QUICK | options))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({}, "found no class"),
        ({"one": 20}, "only the class 'one'"),
        ({"a": 40, "b": 3}, "fewer than 2 classes have the 6 images"),
    ],
)
def test_too_few_classes_are_refused_in_a_sentence(tmp_path, small_network, sizes, message):
    (tmp_path / "images").mkdir()
    with pytest.raises(CompareError, match=message):
        run(write_images(tmp_path / "images", sizes) if sizes else tmp_path / "images", tmp_path)


def test_a_missing_folder_and_a_link_that_leads_nowhere_are_refused(tmp_path):
    with pytest.raises(CompareError, match="there is no folder or CSV file"):
        list_images(tmp_path / "nowhere")
    write_images(tmp_path / "images", {"a": 3, "b": 3})
    (tmp_path / "images" / "a" / "gone.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(DatasetError, match="leads nowhere"):
        list_images(tmp_path / "images")


def test_files_that_are_no_images_are_named_and_left_out(tmp_path, small_network):
    images = write_images(tmp_path / "images", {"a": 20, "b": 12})
    (images / "a" / "notes.txt").write_text("no image")
    (images / "b" / "torn.png").write_bytes((images / "b" / "000.png").read_bytes()[:60])
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(images / "b" / "deep.png")
    (images / "stray.png").write_bytes((images / "a" / "000.png").read_bytes())
    (images / "empty class").mkdir()
    found = run(images, tmp_path)
    text = "\n".join(found.problems)
    for name in ("a/notes.txt", "b/torn.png", "b/deep.png", "stray.png", "'empty class'"):
        assert name in text
    assert len(found.files) == 32


def test_a_folder_of_videos_says_what_is_needed(tmp_path, small_network):
    for name in ("a", "b"):
        (tmp_path / "clips" / name).mkdir(parents=True)
        for i in range(8):
            (tmp_path / "clips" / name / f"{i}.mp4").write_bytes(b"\0\0\0 ftypmp42" + bytes([i]) * 99)
    with pytest.raises(CompareError, match="save single frames"):
        run(tmp_path / "clips", tmp_path)


def test_every_usual_mode_is_read(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (30, 20, 3), np.uint8)
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    for mode, name in (("L", "grey.png"), ("RGBA", "alpha.png"), ("CMYK", "cmyk.jpg"), ("P", "palette.png")):
        image.convert(mode).save(tmp_path / name)
    image.save(tmp_path / "moving.gif", save_all=True, append_images=[image.rotate(90)])
    files = sorted(tmp_path.iterdir())
    _, facts = read_features(untrained_network(), files, cache=None, progress=False)
    assert (facts["problem"] == "").all()
    assert facts["frames"].tolist() == [2 if file.suffix == ".gif" else 1 for file in files]


def test_an_unmeasured_class_trains_and_is_said(tmp_path, small_network):
    found = run(write_images(tmp_path / "images", {"a": 40, "b": 12, "tiny": 2}), tmp_path)
    assert "'tiny' is too small to be measured: 2 images" in "\n".join(found.problems)
    assert found.parts.measured.tolist() == [True, True, False]
    assert found.pipeline.classes == ["a", "b", "tiny"]


def test_given_sides_are_kept_and_leaks_between_them_closed(tmp_path, small_network):
    images = write_images(tmp_path / "sides" / "Train", {"a": 40, "b": 12, "c": 6})
    write_images(tmp_path / "sides" / "TESTING", {"a": 10, "b": 4, "only here": 3}, seed=1)
    copied = tmp_path / "sides" / "TESTING" / "b" / "copy.png"
    copied.write_bytes((images / "b" / "003.png").read_bytes())
    (tmp_path / "sides" / "train.npz").write_bytes(b"no image")
    found = run(tmp_path / "sides", tmp_path)
    text = "\n".join(found.problems)
    assert "1 training image left out because" in text and "Train/b/003.png" in text
    assert "'only here' has images in test but none in train" in text
    assert "1 file outside the class folders left out, such as 'train.npz'" in text
    assert "'c' has no images in test: only the repeated splits measure it" in text
    side = found.files.set_index("name")["side"]
    assert "Train/b/003.png" not in side.index
    held_out = side.index.str.startswith("TESTING/")
    assert (side == np.where(held_out, "test", "train")).all()
    assert found.parts.measure[-1].tolist() == np.flatnonzero(held_out).tolist()
    told = json.loads((found.out / "report.json").read_text(encoding="utf-8"))["test"]["mean_recall"]
    assert told[PLAIN] == found.measured.recalls(PLAIN, test=True)[:2].mean()


def test_a_test_side_without_images_is_said_and_drawn(tmp_path, small_network):
    write_images(tmp_path / "sides" / "train", {"a": 30, "b": 12})
    write_images(tmp_path / "sides" / "test", {"only here": 3}, seed=1)
    found = run(tmp_path / "sides", tmp_path)
    assert "no image in test can be used" in "\n".join(found.problems)
    assert np.bincount(found.parts.measure[-1] >= 30).tolist() == [6, 2]


def test_a_folder_of_folders_with_sides_is_refused(tmp_path):
    """As the data root: its data sets would be taken for classes."""
    for side in ("train", "test"):
        write_images(tmp_path / "scenes" / side, SIDES)
    write_images(tmp_path, {"leaves": 3})
    with pytest.raises(CompareError, match=r"scenes: holds train/ and test/, so it is a folder of classes"):
        list_images(tmp_path)


SIDES = {"a": 3, "b": 2}


@pytest.mark.parametrize(
    ("sides", "found"),
    [
        (("train", "val"), {""}),
        (("Training", "VALID"), {""}),
        (("train",), {""}),
        (("train", "testing"), {"train", "test"}),
        (("TRAIN", "validation", "Test"), {"train", "test"}),
    ],
)
def test_sides_by_their_usual_names_are_no_classes(tmp_path, sides, found):
    """As of an issue: train/ and val/ were read as two classes of these names."""
    for seed, side in enumerate(sides):
        write_images(tmp_path / side, SIDES, seed=seed)
    listing = list_images(tmp_path)
    assert listing.files.groupby("label").size().to_dict() == {k: n * len(sides) for k, n in SIDES.items()}
    assert set(listing.files["side"]) == found
    assert any("no folder test" in problem for problem in listing.problems) == (found == {""})


def test_a_layout_that_could_mean_two_things_is_refused(tmp_path):
    write_images(tmp_path / "tested" / "test", SIDES)
    with pytest.raises(CompareError, match="has test/ but no train/"):
        list_images(tmp_path / "tested")
    write_images(tmp_path / "nested" / "cats", {"black": 2, "white": 2})
    write_images(tmp_path / "nested", {"dogs": 2})
    with pytest.raises(
        CompareError, match=r"cats: holds only sub-folders \(black, white\), no images of its own"
    ):
        list_images(tmp_path / "nested")


def test_a_class_may_be_called_like_a_side_and_what_lies_beside_sides_is_named(tmp_path):
    listing = list_images(write_images(tmp_path / "vehicles", {"bus": 3, "train": 2}))
    assert sorted(set(listing.files["label"])) == ["bus", "train"]
    for side in ("train", "test", "extra"):
        write_images(tmp_path / "sides" / side, SIDES)
    listing = list_images(tmp_path / "sides")
    assert len(listing.files) == 10
    assert (
        "the folder 'extra' beside test and train was left out: move it into one of them" in listing.problems
    )


def test_one_image_in_two_classes_is_left_out_and_copies_count_once(tmp_path, small_network):
    images = write_images(tmp_path / "images", {"a": 30, "b": 12})
    (images / "b" / "same.png").write_bytes((images / "a" / "004.png").read_bytes())
    (images / "a" / "again.png").write_bytes((images / "a" / "005.png").read_bytes())
    found = run(images, tmp_path)
    text = "\n".join(found.problems)
    assert "a/004.png and b/same.png are the same image in different classes" in text
    assert "1 exact copy of other images left out" in text
    names = set(found.files["name"])
    assert not {"a/004.png", "b/same.png"} & names and len(names) == 41


def test_near_duplicates_share_a_group(tmp_path):
    rng = np.random.default_rng(0)
    smooth = np.kron(rng.integers(0, 255, (4, 4, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    other = np.kron(rng.integers(0, 255, (4, 4, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    brighter = np.clip(smooth * 0.9 + 12, 0, 255).astype(np.uint8)
    near = (difference_hash(smooth) ^ difference_hash(brighter)).bit_count()
    far = (difference_hash(smooth) ^ difference_hash(other)).bit_count()
    assert near <= 2 < 8 < far


def test_a_csv_gives_labels_and_groups(tmp_path, small_network):
    images = write_images(tmp_path / "images", {"a": 60, "b": 40})
    rows = [
        {"path": f"images/{label}/{file.name}", "label": label, "group": f"{label}{i // 4}"}
        for label in ("a", "b")
        for i, file in enumerate(sorted((images / label).iterdir()))
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "images.csv", index=False)
    found = run(tmp_path / "images.csv", tmp_path)
    groups = {row["path"]: row["group"] for row in rows}
    of = found.files["name"].map(groups).to_numpy()
    for train, measure in zip(found.parts.train, found.parts.measure, strict=True):
        assert not set(of[train]) & set(of[measure])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na.png,a\n", "no 'path'"),
        ("path,label,side\na.png,a,left\n", "expected train, val or test"),
        ("path,label,side\na.png,a,test\nb.png,b,\n", "some rows have a side and some have none"),
        ("", "cannot be read as a CSV"),
    ],
)
def test_a_csv_of_another_form_is_refused(tmp_path, text, message):
    (tmp_path / "images.csv").write_text(text)
    with pytest.raises(CompareError, match=message):
        list_images(tmp_path / "images.csv")


def test_a_second_run_finds_the_features_of_the_first(tmp_path, monkeypatch):
    """The classifier of a network for these features is drawn, and must be the same each time."""
    from imbal_book.compare import features
    from imbal_core.models.build import build_model

    monkeypatch.setattr(features, "build_model", lambda *_, **__: build_model("small_cnn", 2, image_size=16))
    files = sorted((write_images(tmp_path / "images", {"a": 5}) / "a").iterdir())
    first, _ = read_features(features.load_backbone(), files, cache=tmp_path / "cache", progress=False)
    monkeypatch.setattr(features, "_forward", lambda *_: pytest.fail("computed again"))
    second, _ = read_features(features.load_backbone(), files, cache=tmp_path / "cache", progress=False)
    np.testing.assert_array_equal(first, second)


def test_an_interrupted_run_goes_on_and_a_full_disk_costs_the_cache_alone(tmp_path, monkeypatch):
    from imbal_book.compare import features

    monkeypatch.setattr(features, "_CHUNK", 8)
    files = sorted((write_images(tmp_path / "images", {"a": 24}) / "a").iterdir())
    network, cache = untrained_network(), tmp_path / "cache"
    read_features(network, files[:16], cache=cache, progress=False)
    forward, seen = features._forward, []
    monkeypatch.setattr(features, "_forward", lambda *given: seen.append(len(given[2])) or forward(*given))
    resumed, _ = read_features(network, files, cache=cache, progress=False)
    assert seen == [8]
    fresh, _ = read_features(network, files, cache=None, progress=False)
    np.testing.assert_array_equal(resumed, fresh)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(features, "write_atomically", full)
    with pytest.warns(RuntimeWarning, match="No space left on device"):
        found, _ = read_features(network, files, cache=tmp_path / "full", progress=False)
    np.testing.assert_array_equal(found, fresh)


@pytest.mark.parametrize("wrong", [{"metric": "balanced"}, {"focus": "c"}, {"repeats": 2}])
def test_wrong_settings_are_refused_before_anything_is_read(tmp_path, monkeypatch, wrong):
    from imbal_book.compare import comparison

    monkeypatch.setattr(comparison, "read_features", lambda *_, **__: pytest.fail("images were read"))
    with pytest.raises(ValueError):
        run(write_images(tmp_path / "images", {"a": 3, "b": 3}), tmp_path, **wrong)


def test_the_commands_speak_in_sentences(tmp_path, small_network):
    images = write_images(tmp_path / "images", {"a": 30, "b": 12})
    options = ["--repeats", "3", "--cache", str(tmp_path / "cache")]
    command = ["compare", str(images), "--out", str(tmp_path / "out"), *options]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "report.html" in result.stdout
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 2 and "--overwrite" in again.output and "Traceback" not in again.output
    wrong = CliRunner().invoke(app, [*command, "--overwrite", "--focus", "bb"])
    assert wrong.exit_code == 2 and "did you mean 'b'" in wrong.output
    table = tmp_path / "table.csv"
    result = CliRunner().invoke(app, ["predict", str(tmp_path / "out"), str(images), "--out", str(table)])
    assert result.exit_code == 0, result.output
    assert list(pd.read_csv(table).columns) == ["file", "label", "unlike_training", "p:a", "p:b"]
    nothing = CliRunner().invoke(
        app, ["predict", str(tmp_path / "out"), str(tmp_path / "no"), "--out", "x.csv"]
    )
    assert nothing.exit_code == 2 and "there is no folder" in nothing.output
