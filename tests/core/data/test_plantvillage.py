import csv
import os
import re
import warnings
from collections import Counter

import numpy as np
import pytest
from leaf_photos import jpeg, write_leaves, write_plant
from PIL import Image

from imbal_core.data import image_folders
from imbal_core.data.datasets import decoded_size, load_dataset, prepared_path
from imbal_core.data.plantvillage import (
    PLANTVILLAGE_NAMES,
    file_tail,
    leaf_from_name,
    read_leaves,
    survey,
)
from imbal_core.data.prepared import DatasetError
from imbal_core.data.root import data_root
from imbal_core.data.splits import draw_split, shared_groups, split_counts


@pytest.fixture
def apples(root):
    """Six healthy apple leaves and three of each of three diseases, in the pool's order."""
    return write_plant(root / "plantvillage" / "color", "apple")


def load(root, name="plantvillage-apple", **options):
    return load_dataset(name, "train", root=root, image_size=8, **options)


def decoded(files):
    return np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])


def test_a_plant_is_one_pool_of_healthy_and_diseased_leaves(apples, root):
    data = load(root)
    assert data.class_names == ("healthy", "diseased")
    assert data.labels.tolist() == [0] * 6 + [1] * 9
    assert np.array_equal(data.images, decoded(apples)), "images that have the size already are unchanged"
    assert data.test_per_class == 150
    with pytest.raises(
        DatasetError, match="plantvillage-apple has no test side.*draw_split with test_counts"
    ):
        load_dataset("plantvillage-apple", "test", root=root)


def test_every_disease_can_be_a_class_of_its_own(apples, root):
    data = load(root, "plantvillage-apple:by-disease")
    assert data.class_names == ("healthy", "Apple_scab", "Black_rot", "Cedar_apple_rust")
    assert data.labels.tolist() == [0] * 6 + [1] * 3 + [2] * 3 + [3] * 3
    assert np.array_equal(data.images, load(root).images) and data.fingerprint != load(root).fingerprint
    assert data.test_per_class == 10, "diseases have few images"


def test_one_disease_can_be_named(apples, root):
    data = load(root, "plantvillage-apple:Black_rot")
    assert np.array_equal(data.images, decoded(apples[:6] + apples[9:12]))
    assert data.labels.tolist() == [0] * 6 + [1] * 3
    assert data.fingerprint != load(root).fingerprint
    with pytest.raises(
        DatasetError, match="unknown disease of plantvillage-apple 'Apple_scap': did you mean 'App"
    ):
        load(root, "plantvillage-apple:Apple_scap")
    with pytest.raises(DatasetError, match="unknown disease of plantvillage-apple ''"):
        load(root, "plantvillage-apple:")
    with pytest.raises(
        DatasetError, match="unknown dataset 'plantvillage-appel': did you mean 'plantvillage-apple'"
    ):
        load(root, "plantvillage-appel")


def test_the_size_is_the_one_asked_for_and_128_pixels_else(apples, root):
    assert load_dataset("plantvillage-apple", "train", root=root).images.shape == (15, 128, 128, 3)
    assert load(root).images.shape == (15, 8, 8, 3)
    names = [path.name for path in (root / "plantvillage").glob("*.npz")]
    assert sorted(names) == ["prepared-apple-128.npz", "prepared-apple-8.npz"]
    path = prepared_path("plantvillage-tomato:Spider_mites Two-spotted_spider_mite", "train", root=root)
    assert path.name == "prepared-tomato-Spider_mites_Two-spotted_spider_mite-128.npz"


def test_only_data_that_are_decoded_from_files_take_a_size():
    assert decoded_size("plantvillage-apple:Black_rot", 96) == decoded_size("folder:x", 96) == 96
    assert decoded_size("cifar10", 96) is None and decoded_size("plantvillage-apple", None) is None


@pytest.mark.parametrize("change", ["nothing", "an image added", "an image edited", "the leaves edited"])
def test_a_pool_is_decoded_once_until_its_files_change(apples, root, change, monkeypatch):
    write_leaves(root, apples, per_leaf=2)
    before = load(root)
    if change == "an image added":
        (apples[0].parent / "zz___CAM 1.JPG").write_bytes(jpeg(1))
    elif change == "an image edited":
        apples[0].write_bytes(jpeg(1))
    elif change == "the leaves edited":
        write_leaves(root, apples, per_leaf=5)
    calls = []
    real = image_folders.decode_image
    monkeypatch.setattr(image_folders, "decode_image", lambda *given: calls.append(given) or real(*given))
    after = load(root)
    assert bool(calls) == (change != "nothing")
    assert (after.fingerprint != before.fingerprint) == ("image" in change)
    assert np.array_equal(after.groups, before.groups) == (
        change not in ("an image added", "the leaves edited")
    )


def test_a_class_folder_that_is_missing_is_an_error_that_says_how_to_get_it(apples, root):
    (apples[0].parents[1] / "Apple___Black_rot").rename(root / "elsewhere")
    for name in ("plantvillage-apple", "plantvillage-apple:Apple_scab"):
        with pytest.raises(DatasetError) as caught:
            load(root, name)
        message = str(caught.value)
        assert "1 of its 4 class folders are missing, such as Apple___Black_rot" in message
        assert "`imbal data plantvillage`" in message and "--from PATH" in message and "IMBAL_DATA" in message
    with pytest.raises(DatasetError, match="2 of its 2 class folders are missing"):
        load(root, "plantvillage-pepper")


def test_an_empty_class_is_an_error(apples, root):
    for file in apples[:6]:
        file.unlink()
    with pytest.raises(DatasetError, match=r"no images of class 0 \('healthy'\)"):
        load(root)


def test_oddities_are_handled_and_listed(apples, root):
    healthy, scab, rot = apples[0].parent, apples[6].parent, apples[9].parent
    (healthy / "aa___empty 1.JPG").write_bytes(b"")
    Image.open(apples[1]).save(healthy / "ab___png 1.JPG", "PNG")
    (healthy / "ac___copy 1.JPG").write_bytes(apples[2].read_bytes())
    (scab / "ad___again 1.JPG").write_bytes(apples[3].read_bytes())
    (rot / "ae___again 2.JPG").write_bytes(apples[6].read_bytes())
    found = survey("plantvillage-apple", root)
    kept = [*apples[:3], *apples[4:6], healthy / "ab___png 1.JPG", *apples[7:]]
    assert found.file[found.kept].tolist() == kept
    assert found.short[found.void].tolist() == ["Apple___healthy/aa___empty 1.JPG"]
    assert found.short[found.misnamed].tolist() == ["Apple___healthy/ab___png 1.JPG"]
    assert found.file[found.copied].tolist() == [apples[2], healthy / "ac___copy 1.JPG"]
    torn = [apples[3], apples[6], scab / "ad___again 1.JPG", rot / "ae___again 2.JPG"]
    assert found.file[found.torn].tolist() == torn
    assert np.array_equal(load(root).images, decoded(kept))


def test_an_image_in_two_classes_is_dropped_whichever_disease_is_named(apples, root):
    (apples[6].parent / "ad___again 1.JPG").write_bytes(apples[3].read_bytes())
    assert load(root, "plantvillage-apple:Black_rot").class_counts.tolist() == [5, 3]


def test_any_other_damaged_file_is_an_error_that_names_it(apples, root):
    bad = apples[0].parent / "bad.JPG"
    bad.write_bytes(apples[0].read_bytes()[:100])
    with pytest.raises(DatasetError, match=re.escape(str(bad))):
        load(root)
    assert not list(root.rglob("*.npz"))


def test_groups_are_the_leaves_and_an_unknown_leaf_is_a_group_of_its_own(apples, root):
    assert load(root).groups is None, "nothing is known of any leaf"
    write_leaves(root, apples[:8], per_leaf=3)
    groups = load(root).groups
    assert (
        groups[:8].tolist()
        == ["Apple___healthy:0"] * 3 + ["Apple___healthy:1"] * 3 + ["Apple___Apple_scab:2"] * 2
    )
    assert len(set(groups[8:])) == 7 and not set(groups[8:]) & set(groups[:8])
    assert survey("plantvillage-apple", root).leaf.notna().tolist() == [True] * 8 + [False] * 7
    assert load(root).groups.tolist() == groups.tolist(), "the same from the prepared form"


def test_two_cuts_of_one_photograph_are_one_group_although_its_leaf_is_unknown(apples, root):
    (apples[0].parent / "aa___CAM_apple 0000 copy 2.JPG").write_bytes(jpeg(1))
    write_leaves(root, apples[6:8], per_leaf=2)
    counts = Counter(load(root).groups.tolist())
    assert counts["unknown:Apple___healthy/CAM_apple 0000"] == 2


def test_a_table_of_leaves_without_its_columns_is_named(apples, root):
    (root / "plantvillage" / "leaves.csv").write_text("image,leaf\na,b\n")
    with pytest.raises(DatasetError, match=r"leaves\.csv: not a table with the columns file and leaf"):
        load(root)


def test_a_table_of_leaves_may_have_gaps(tmp_path):
    (tmp_path / "leaves.csv").write_text("file,leaf\nA/1.JPG,\nA/2.JPG,7\nA/3.JPG\n")
    assert read_leaves(tmp_path / "leaves.csv") == {"A/2.JPG": "7"}


@pytest.mark.parametrize(
    ("folder", "name", "leaf"),
    [
        ("Tomato___healthy", "0___GH_HL Leaf 259.1.JPG", "Tomato___healthy:gh_hl leaf 259"),
        ("Tomato___healthy", "0___GH_HL Leaf 259.JPG", "Tomato___healthy:gh_hl leaf 259"),
        ("Tomato___healthy", "0___GH_HL Leaf 354.1JPG.JPG", "Tomato___healthy:gh_hl leaf 354"),
        ("Tomato___Late_blight", "0___GHLB2 Leaf 86.2.JPG", "Tomato___Late_blight:ghlb2 leaf 86"),
        ("Tomato___Late_blight", "0___GHLB_PS leaf 23.7 Day 13.jpg", "Tomato___Late_blight:ghlb_ps leaf 23"),
        ("Tomato___Late_blight", "0___GHLB2 Leaf 8565.JPG", None),
        ("Tomato___healthy", "0___RS_HL 0003.JPG", "Tomato___healthy:rs_hl 3-6"),
        ("Tomato___healthy", "0___RS_HL 0006.JPG", "Tomato___healthy:rs_hl 3-6"),
        ("Tomato___healthy", "0___RS_HL 0642.JPG", "Tomato___healthy:rs_hl 639-642"),
        ("Tomato___healthy", "0___RS_HL 9622.JPG", "Tomato___healthy:rs_hl 9622-9625"),
        ("Tomato___healthy", "0___RS_HL 9997 copy.jpg", "Tomato___healthy:rs_hl 9994-9997"),
        ("Tomato___healthy", "0___RS_HL 0643.JPG", None),
        ("Apple___healthy", "0___RS_HL 5672.JPG", None),
        ("Pepper,_bell___healthy", "0___JR_HL 7886.JPG", None),
        ("Tomato___healthy", "2700323949_95aa2eaa01_o.jpg", None),
    ],
)
def test_what_a_file_name_tells_of_the_leaf(folder, name, leaf):
    assert leaf_from_name(folder, name) == leaf


def test_the_tail_of_a_name_is_what_the_leaf_map_lists():
    assert file_tail("0055dd26-23a7-4415-ac61-e0b44ebfaf80___RS_HL 5672.JPG") == "RS_HL 5672"
    assert file_tail("af647b0e___R.S_HL 8101 copy .jpg") == "R.S_HL 8101"
    assert file_tail("bell-pepper-plant-61726.jpg") == "bell-pepper-plant-61726"


def test_a_data_root_that_cannot_be_written_is_a_warning(apples, root, monkeypatch):
    def full(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr("imbal_core.data.prepared.write_atomically", full)
    with pytest.warns(UserWarning, match="no space left"):
        assert len(load(root).labels) == 15


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A data root whose PlantVillage is the real one, while what is decoded stays out of it."""
    if not os.environ.get("IMBAL_DATA"):
        pytest.skip("IMBAL_DATA is not set")
    source = data_root() / "plantvillage"
    if not (source / "color").is_dir() or not (source / "leaves.csv").is_file():
        pytest.skip("IMBAL_DATA holds no plantvillage/color and plantvillage/leaves.csv")
    root = tmp_path_factory.mktemp("real")
    (root / "plantvillage").mkdir()
    for name in ("color", "leaves.csv"):
        (root / "plantvillage" / name).symlink_to(source / name)
    return root


@pytest.mark.real_data
@pytest.mark.parametrize("name", PLANTVILLAGE_NAMES)
def test_the_papers_split_can_be_drawn_of_real_leaves_at_random_and_by_leaf(name, real):
    # 16 pixels: the splits depend on labels and leaves alone
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = load_dataset(name, "train", root=real, image_size=16)
    assert data.class_counts[0] >= 1320 and data.class_counts[1] >= 300
    train, valid, test = split_counts(data, "rare-1000-10-150-7")
    assert (train.tolist(), valid.tolist(), test.tolist()) == ([1000, 10], [150, 7], [150, 150])
    assert (data.groups is None) == (name == "plantvillage-pepper"), "no leaf of the peppers is known"
    for seed in range(10):
        drawn = {"seed": seed, "test_counts": test}
        random = draw_split(data.labels, train, valid, **drawn)
        assert len(set(random.train) | set(random.valid) | set(random.test)) == 1467
        if data.groups is not None:
            grouped = draw_split(data.labels, train, valid, groups=data.groups, **drawn)
            assert shared_groups(grouped, data.groups)["test"] == 0
            assert shared_groups(grouped, data.groups)["valid"] == 0
            assert shared_groups(random, data.groups)["test"] > 0.3


@pytest.mark.real_data
def test_a_random_split_of_real_apples_tests_healthy_leaves_that_it_trained_on(real):
    data = load_dataset("plantvillage-apple", "train", root=real, image_size=16)
    train, valid, test = split_counts(data, "rare-1000-10-150-7")
    split = draw_split(data.labels, train, valid, seed=0, test_counts=test)
    with (real / "plantvillage" / "leaves.csv").open(newline="") as source:
        leaf = {row["file"].split("/")[1]: row["leaf"] for row in csv.DictReader(source)}
    files = sorted((real / "plantvillage" / "color" / "Apple___healthy").iterdir())
    of_train = {leaf[files[i].name] for i in split.train if i < len(files)}
    healthy = [leaf[files[i].name] in of_train for i in split.test if i < len(files)]
    assert len(healthy) == 150 and np.mean(healthy) > 0.95
