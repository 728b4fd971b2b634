import csv
import hashlib
import io
import json
import os
import zipfile

import pytest
from file_server import serve
from leaf_photos import write_plant

from imbal_core.data import plantvillage_files
from imbal_core.data.datasets import load_dataset
from imbal_core.data.plantvillage_files import download_plantvillage, install_plantvillage
from imbal_core.data.prepared import DatasetError


@pytest.fixture(autouse=True)
def few_images_are_enough(monkeypatch):
    monkeypatch.setattr(plantvillage_files, "MINIMUM", {"healthy": 6, "diseased": 9})


@pytest.fixture
def copy(tmp_path):
    """A folder laid out as in the data set's repository: colour and grey images of one plant, and a leaf map."""
    repository = tmp_path / "repository"
    files = write_plant(repository / "raw" / "color", "apple")
    write_plant(repository / "raw" / "grayscale", "apple", healthy=1, diseased=1)
    (repository / "raw" / "color" / "Corn___healthy").mkdir()
    (repository / "leaf_grouping").mkdir()
    tails = [file.stem.split("___")[1].lower() for file in files]
    leaf_map = {
        tails[0]: ["Apple___healthy:::1.0"],
        tails[1]: ["Apple___healthy:::1.0", "Peach___healthy:::4.0"],
        tails[2]: ["Grape___healthy:::1.0", "Peach___healthy:::4.0"],
    }
    (repository / "leaf_grouping" / "leaf-map.json").write_text(json.dumps(leaf_map))
    return repository


def zipped(folder, **extra):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
        for name, data in extra.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def contents(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def leaves(root):
    with (root / "plantvillage" / "leaves.csv").open(newline="") as source:
        return list(csv.reader(source))


def check_installed(root, copy):
    """The colour images of the plant are there, nothing else, and the leaves that the leaf map knows."""
    place = root / "plantvillage"
    assert sorted(entry.name for entry in place.iterdir()) == ["color", "leaves.csv"]
    assert contents(place / "color") == contents(copy / "raw" / "color")
    assert len(list((place / "color").iterdir())) == 4
    names = sorted(f"{f.parent.name}/{f.name}" for f in (place / "color" / "Apple___healthy").iterdir())
    assert leaves(root) == [
        ["file", "leaf"],
        [names[0], "Apple___healthy:1.0"],
        [names[1], "Apple___healthy:1.0"],
    ]


@pytest.mark.parametrize("place", ["", "raw", "raw/color"])
def test_a_folder_is_copied_and_stays(copy, root, place):
    before = contents(copy)
    install_plantvillage(copy / place, root)
    check_installed(root, copy)
    assert contents(copy) == before
    assert load_dataset("plantvillage-apple", "train", root=root, image_size=8).class_counts.tolist() == [
        6,
        9,
    ]


def test_a_zip_is_unpacked_and_its_hash_checked_if_given(copy, root, tmp_path):
    archive = tmp_path / "copy.zip"
    archive.write_bytes(zipped(copy))
    with pytest.raises(DatasetError, match="expected the SHA-256"):
        install_plantvillage(archive, root, sha256="0" * 64)
    assert contents(root) == {}
    install_plantvillage(archive, root, sha256=hashlib.sha256(archive.read_bytes()).hexdigest())
    check_installed(root, copy)
    with pytest.raises(DatasetError, match="only an archive has a hash"):
        install_plantvillage(copy, root, sha256="0" * 64)


def test_files_are_added_to_those_that_are_there(copy, root):
    others = write_plant(root / "plantvillage" / "color", "pepper")
    mine = root / "plantvillage" / "color" / "Apple___healthy" / "mine.JPG"
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    install_plantvillage(copy, root)
    assert mine.read_bytes() == b"mine" and all(file.exists() for file in others)
    assert len(list(mine.parent.iterdir())) == 7


def test_the_data_root_itself_can_be_named(copy, root):
    install_plantvillage(copy, root)
    before = contents(root)
    install_plantvillage(root / "plantvillage", root)
    assert contents(root) == before


def test_leaves_that_are_there_stay_if_the_copy_has_none(copy, root):
    install_plantvillage(copy, root)
    before = leaves(root)
    (copy / "leaf_grouping" / "leaf-map.json").unlink()
    install_plantvillage(copy, root)
    assert leaves(root) == before


def test_a_table_of_leaves_is_taken_as_it_is(copy, root):
    (copy / "raw" / "leaves.csv").write_text("file,leaf\nApple___healthy/a.JPG,7\n")
    install_plantvillage(copy, root)
    assert leaves(root) == [["file", "leaf"], ["Apple___healthy/a.JPG", "7"]]


def break_copy(copy, how):
    color = copy / "raw" / "color"
    if how == "few":
        next((color / "Apple___healthy").iterdir()).unlink()
    elif how == "few diseased":
        next((color / "Apple___Black_rot").iterdir()).unlink()
    elif how == "class":
        (color / "Apple___Black_rot").rename(color / "Apple___rot")
    elif how == "none":
        (copy / "raw").rename(copy / "raws")
        for folder in (copy / "raws").glob("*/Apple___*"):
            folder.rename(folder.with_name(folder.name.replace("Apple", "Maple")))
    elif how == "twice":
        color.rename(color.with_name("colour"))
    elif how == "map":
        (copy / "leaf_grouping" / "leaf-map.json").write_text('["no map"]')


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("few", "apple has 5 healthy images, expected at least 6"),
        ("few diseased", "apple has 8 diseased images, expected at least 9"),
        ("class", "apple lacks the class folder Apple___Black_rot"),
        ("none", "no class folder such as Apple___healthy"),
        ("twice", "class folders in 2 places"),
        ("map", "leaf-map.json: not a leaf map"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_copy_that_is_not_the_data_set_is_refused(copy, root, tmp_path, how, message, packed):
    break_copy(copy, how)
    source = copy
    if packed:
        source = tmp_path / "copy.zip"
        source.write_bytes(zipped(copy))
    with pytest.raises(DatasetError, match=message):
        install_plantvillage(source, root)
    assert how == "map" or contents(root) == {}


def test_a_path_out_of_the_folder_is_refused_before_anything_is_written(copy, root, tmp_path):
    archive = tmp_path / "evil.zip"
    archive.write_bytes(zipped(copy, **{"../../escaped.txt": b"out"}))
    with pytest.raises(DatasetError, match="leads out of the folder"):
        install_plantvillage(archive, root)
    assert contents(root) == {} and not list(tmp_path.rglob("escaped.txt"))


@pytest.fixture
def server(copy, monkeypatch):
    """The publisher's server, with the archive and the leaf map of the copy."""
    archive = zipped(copy / "raw", **{"padding": os.urandom(200_000)})
    leaf_map = (copy / "leaf_grouping" / "leaf-map.json").read_bytes()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve({"/data.zip": archive, "/leaf-map.json": leaf_map}) as served:
        for constant, name in (("ARCHIVE", "/data.zip"), ("LEAF_MAP", "/leaf-map.json")):
            sha256 = hashlib.sha256(served.files[name]).hexdigest()
            monkeypatch.setattr(plantvillage_files, constant, (served.url + name, sha256))
        yield served


def test_a_download_leaves_the_images_and_leaves_and_no_archive(server, copy, root):
    data = load_dataset("plantvillage-apple", "train", root=root, download=True, image_size=8)
    assert data.class_counts.tolist() == [6, 9]
    assert data.groups is not None and data.groups[0] == data.groups[1] == "Apple___healthy:1.0"
    (root / "plantvillage" / "prepared-apple-8.npz").unlink()
    check_installed(root, copy)
    asked = len(server.asked)
    load_dataset("plantvillage-apple", "train", root=root, download=True, image_size=8)
    assert len(server.asked) == asked


def test_a_truncated_download_is_resumed_by_the_same_call(server, copy, root):
    server.cuts[:] = [10**6, 150_000]
    with pytest.raises(DatasetError, match="The same command continues it"):
        download_plantvillage(root)
    assert not (root / "plantvillage" / "color").exists()
    download_plantvillage(root)
    assert [name for name, _ in server.asked] == ["/leaf-map.json", "/data.zip", "/data.zip"]
    assert server.asked[-1][1].startswith("bytes=")
    check_installed(root, copy)


def test_another_archive_needs_its_own_hash(server, copy, root):
    server.files["/data.zip"] = zipped(copy / "raw", **{"new": b"release"})
    with pytest.raises(DatasetError, match="is not the file that was expected"):
        download_plantvillage(root)
    assert not (root / "plantvillage" / "color").exists()
    download_plantvillage(root, sha256=hashlib.sha256(server.files["/data.zip"]).hexdigest())
    check_installed(root, copy)


def test_a_downloaded_archive_with_the_right_hash_still_cannot_write_elsewhere(server, root, tmp_path):
    server.files["/data.zip"] = evil = zipped(tmp_path / "nothing", **{"../../../escaped.txt": b"out"})
    with pytest.raises(DatasetError, match="leads out of the folder"):
        download_plantvillage(root, sha256=hashlib.sha256(evil).hexdigest())
    assert not list(tmp_path.rglob("escaped.txt"))


def test_the_recorded_addresses_name_a_revision_and_full_hashes():
    for url, sha256 in (plantvillage_files.ARCHIVE, plantvillage_files.LEAF_MAP):
        assert "/resolve/9e97599868962bd0079b8db4b7f1efa9185fa1e7/" in url
        assert len(sha256) == 64 and int(sha256, 16)
