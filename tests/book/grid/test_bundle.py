import functools
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from leaf_photos import write_leaves, write_plant
from packaging.requirements import Requirement
from sample_records import run_config
from tinted_images import write_images

from imbal_book.grid import bundle
from imbal_book.grid.bundle import BundleError, identity_of, pack
from imbal_book.grid.unpacking import open_bundle
from imbal_book.run.prepared import prepare
from imbal_book.run.records import RecordStore
from imbal_book.studies import build_grid
from imbal_core.data.datasets import load_dataset

CHECKOUT = Path(__file__).parents[3]
LENT_MACHINE = (
    "torch torchvision timm numpy pandas scikit-learn seaborn tqdm pyyaml typer safetensors".split()
)


tiny = functools.partial(
    run_config,
    study="category_centers",
    profile="smoke",
    dataset="mnist5k",
    imbalance_scale=0.02,
    epochs=1,
    batch_size=32,
)


@pytest.fixture(scope="module")
def root(digits):
    return digits


@pytest.fixture(scope="module")
def packed(root, tmp_path_factory):
    """Return the files of a bundle of one part and of the same in several parts, which the tests below copy."""
    folder = tmp_path_factory.mktemp("packed")
    store = RecordStore(folder / "home")
    sizes = {"b.zip": 60, "grid.zip": 0.2}
    return {
        name: pack([tiny()], store, folder / name, max_mb=most, root=root) for name, most in sizes.items()
    }


@pytest.fixture
def path(packed, tmp_path):
    return Path(shutil.copy(packed["b.zip"][0], tmp_path))


@pytest.fixture
def parts(packed, tmp_path):
    return [Path(shutil.copy(part, tmp_path)) for part in packed["grid.zip"]]


def repack(path, change):
    """Rewrite a part with ``change(members: dict[name, bytes])`` applied; the manifest is not adapted."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def change_manifest(path, change, rename=False):
    """Change the manifest of a bundle of one part; with ``rename`` it gets the identity of its new content."""

    def apply(members):
        manifest = json.loads(members["manifest.json"])
        hashes = [(name, manifest["members"][name]) for name in members if name != "manifest.json"]
        change(manifest)
        if rename:
            manifest["bundle"] = identity_of(manifest, hashes)
        members["manifest.json"] = json.dumps(manifest).encode()

    repack(path, apply)


def test_a_run_has_the_same_images_split_and_key_as_at_home(root, store, tmp_path):
    configs = [tiny(split_seed=seed) for seed in range(2)]
    contents = open_bundle(pack(configs, store, tmp_path / "b.zip", root=root), tmp_path / "there")
    assert contents.configs == configs
    for config in configs:
        home, there = prepare(config, root=root), prepare(config, root=contents.root)
        assert there.key == home.key
        assert there.train.fingerprint == home.train.fingerprint
        assert np.array_equal(there.train.labels, home.train.labels)
        drawn = np.concatenate([home.split.train, home.split.valid])
        assert np.array_equal(there.train.images[drawn], home.train.images[drawn])
        assert np.array_equal(there.test.images, home.test.images)


def test_images_that_no_run_needs_stay_at_home(root, path, tmp_path):
    contents = open_bundle([path], tmp_path / "there")
    split = prepare(tiny(), root=root).split
    there = load_dataset("mnist5k", "train", root=contents.root)
    present = set(np.flatnonzero(there.images.any(axis=(1, 2, 3))))
    assert present == set(split.train) | set(split.valid)
    assert len(present) < len(there.labels) / 5


def test_parts_are_no_larger_than_asked_and_open_in_any_order(root, store, tmp_path):
    parts = pack([tiny()], store, tmp_path / "grid.zip", max_mb=0.08, root=root)
    assert len(parts) > 2
    assert [path.name for path in parts] == [f"grid-{n}of{len(parts)}.zip" for n in range(1, len(parts) + 1)]
    assert all(path.stat().st_size <= 80_000 for path in parts)
    contents = open_bundle(reversed(parts), tmp_path / "there")
    assert prepare(tiny(), root=contents.root).key == prepare(tiny(), root=root).key


def test_the_whole_smoke_grid_fits_into_60_mb(root, store, tmp_path):
    grid = build_grid("category_centers", "smoke")
    (path,) = pack(grid, store, tmp_path / "smoke.zip", root=root)
    assert path.stat().st_size <= 60_000_000
    assert open_bundle([path], tmp_path / "there").configs == grid


def test_a_limit_below_one_manifest_is_refused(root, store, tmp_path):
    with pytest.raises(BundleError, match="max_mb=0.001 is too small"):
        pack([tiny()], store, tmp_path / "b.zip", max_mb=0.001, root=root)
    assert list(tmp_path.glob("*.zip")) == []


def test_the_same_bundle_has_the_same_bytes(path, root, store, tmp_path):
    (again,) = pack([tiny()], store, tmp_path / "again.zip", root=root)
    assert again.read_bytes() == path.read_bytes()


def test_nothing_to_pack_is_an_error(store, tmp_path):
    store.missing = lambda grid: []
    with pytest.raises(BundleError, match="nothing to pack: all 1 runs"):
        pack([tiny()], store, tmp_path / "b.zip")


def test_a_lossy_mosaic_is_noticed_while_packing(root, store, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "decode_mosaic", lambda data, shape, columns: np.zeros(shape, dtype=np.uint8))
    with pytest.raises(BundleError, match="mosaic 0 changed when it was compressed"):
        pack([tiny()], store, tmp_path / "b.zip", root=root)


def test_a_missing_part_is_named(parts, tmp_path):
    with pytest.raises(BundleError, match=rf"has {len(parts)} parts; missing: part 2"):
        open_bundle([parts[0], *parts[2:]], tmp_path / "there")


def test_a_part_given_twice_is_named(parts, tmp_path):
    copy = tmp_path / "copy.zip"
    copy.write_bytes(parts[0].read_bytes())
    with pytest.raises(BundleError, match="copy.zip and grid-1of.* are both part 1"):
        open_bundle([*parts, copy], tmp_path / "there")


def test_parts_of_two_bundles_are_not_mixed(parts, root, store, tmp_path):
    other = pack([tiny(split_seed=5)], store, tmp_path / "other.zip", max_mb=0.2, root=root)
    with pytest.raises(BundleError, match=r"other-2of\d.zip is a part of bundle \w+, but grid-1of"):
        open_bundle([parts[0], *other[1:]], tmp_path / "there")


def test_a_changed_member_is_named(parts, tmp_path):
    changed = []

    def change(members):
        changed.append(next(name for name in members if name.endswith(".webp")))
        members[changed[0]] += b"x"

    repack(parts[1], change)
    with pytest.raises(BundleError) as raised:
        open_bundle(parts, tmp_path / "there")
    assert parts[1].name in str(raised.value)
    assert f"{changed[0]} has changed" in str(raised.value)
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_truncated_part_is_named(parts, tmp_path, keep):
    data = parts[1].read_bytes()
    parts[1].write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    with pytest.raises(BundleError, match=f"{parts[1].name} is damaged"):
        open_bundle(parts, tmp_path / "there")


def test_a_flipped_byte_is_noticed_wherever_it_is(parts, tmp_path):
    data = parts[0].read_bytes()
    for position in range(40, len(data), len(data) // 7):
        parts[0].write_bytes(data[:position] + bytes([data[position] ^ 255]) + data[position + 1 :])
        with pytest.raises(BundleError, match=parts[0].name):
            open_bundle(parts, tmp_path / "there")


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("beach.txt", "holiday.zip is no bundle: it has no manifest"),
        ("manifest.json", "holiday.zip is no bundle: its manifest.json is of something else"),
        ("", "holiday.zip: no such file"),
    ],
)
def test_a_foreign_zip_is_named(tmp_path, member, message):
    if member:
        with zipfile.ZipFile(tmp_path / "holiday.zip", "w") as archive:
            archive.writestr(member, "[1]")
    with pytest.raises(BundleError, match=message):
        open_bundle([tmp_path / "holiday.zip"], tmp_path / "there")


def test_a_bundle_of_another_schema_is_refused(path, tmp_path):
    change_manifest(path, lambda manifest: manifest.update(schema=2))
    with pytest.raises(BundleError, match="b.zip has schema 2, this version reads 1"):
        open_bundle([path], tmp_path / "there")


@pytest.mark.parametrize("identity", ["/somewhere/else", "../up", "0" * 16, "", 7])
def test_a_bundle_is_unpacked_under_the_name_that_its_content_gives_it(path, tmp_path, identity):
    outside = str(tmp_path / "elsewhere") if identity == "/somewhere/else" else identity
    change_manifest(path, lambda manifest: manifest.update(bundle=outside))
    before = set(tmp_path.rglob("*"))
    with pytest.raises(BundleError, match=r"b\.zip.*(bundle is .*expected|is not the name of its content)"):
        open_bundle([path], tmp_path / "there")
    assert set(tmp_path.rglob("*")) == before


def test_a_size_that_the_file_cannot_hold_is_refused_before_anything_is_allocated(path, tmp_path):
    whole = path.read_bytes()

    def claim(manifest):
        (entry,) = (entry for name, entry in manifest["images"].items() if name.endswith("train.npz"))
        entry["shape"][1:3] = [2**17, 2**17]

    tracemalloc.start()
    change_manifest(path, claim, rename=True)
    with pytest.raises(
        BundleError, match=r"mnist5k/train.npz in the manifest does not fit its members \(shape"
    ):
        open_bundle([path], tmp_path / "there")
    path.write_bytes(whole)
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo("manifest.json").file_size
    path.write_bytes(whole.replace(size.to_bytes(4, "little"), (2**31).to_bytes(4, "little")))
    with pytest.raises(BundleError, match=r"b.zip is damaged: manifest.json claims 2,147,483,648 bytes"):
        open_bundle([path], tmp_path / "there")
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()


@pytest.mark.parametrize("place", ["../../outside.npz", "/outside.npz", "a\\..\\b.npz", "c:/outside.npz", ""])
def test_a_bundle_cannot_write_outside_its_folder(path, tmp_path, place):

    def escape(manifest):
        manifest["images"][place] = manifest["images"].pop("mnist5k/test.npz")

    change_manifest(path, escape, rename=True)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(BundleError, match="leads out of the folder"):
        open_bundle([path], tmp_path / "there")
    assert set(tmp_path.rglob("*")) - before <= {tmp_path / "there"}


@pytest.mark.parametrize(
    "place",
    [
        "CON",
        "folders/nul.npz",
        "a/Aux",
        "com1.txt",
        "file:stream.npz",
        "stars*.npz",
        "end.",
        "end ",
        "line\nbreak",
        "a|b",
    ],
)
def test_a_name_that_some_system_takes_for_another_is_refused(path, tmp_path, place):
    """Windows would write to a device, drop the dot, or write beside a file."""

    def rename(manifest):
        manifest["images"][place] = manifest["images"].pop("mnist5k/test.npz")

    change_manifest(path, rename, rename=True)
    with pytest.raises(BundleError, match="is no file name on every system"):
        open_bundle([path], tmp_path / "there")
    assert list((tmp_path / "there").iterdir()) == []


def test_two_names_that_are_one_file_on_some_systems_are_refused(path, tmp_path):
    def twin(manifest):
        manifest["images"]["MNIST5K/test.npz"] = manifest["images"]["mnist5k/test.npz"]

    change_manifest(path, twin, rename=True)
    with pytest.raises(BundleError, match="'MNIST5K/test.npz' are one file on some systems"):
        open_bundle([path], tmp_path / "there")


def test_weights_travel_in_pieces(root, store, tmp_path):
    (root / "weights").mkdir(exist_ok=True)
    data = np.random.default_rng(0).bytes(300_000)
    file = root / "weights" / "resnet34-b627a593.pth"
    file.write_bytes(data)
    config = tiny(model="resnet34", pretrained=True, image_size=32)
    try:
        parts = pack([config], store, tmp_path / "b.zip", max_mb=0.2, root=root)
    finally:
        file.unlink()
    assert all(path.stat().st_size <= 200_000 for path in parts)
    contents = open_bundle(parts, tmp_path / "there")
    assert (contents.root / "weights" / file.name).read_bytes() == data


def test_weights_that_are_not_here_are_named(root, store, tmp_path):
    config = tiny(model="vgg16", pretrained=True, image_size=32)
    with pytest.raises(BundleError, match=r"the weights of 'vgg16' are not in .*weights"):
        pack([config], store, tmp_path / "b.zip", root=root)


def test_a_folder_of_images_travels_without_the_folder(store, tmp_path):
    for split, number in (("train", 6), ("test", 2)):
        write_images(tmp_path / "mine" / split, {"cat": number, "dog": number})
    config = tiny(
        dataset=f"folder:{tmp_path / 'mine'}", imbalance="step-2", imbalance_scale=1.0, image_size=16
    )
    home = prepare(config, root=tmp_path / "data")
    paths = pack([config], store, tmp_path / "b.zip", root=tmp_path / "data")
    (tmp_path / "mine").rename(tmp_path / "elsewhere")
    there = prepare(config, root=open_bundle(paths, tmp_path / "there").root)
    assert there.key == home.key
    assert np.array_equal(there.train.images[there.split.train], home.train.images[home.split.train])


def test_a_pool_of_leaves_travels_with_its_groups_and_only_the_images_it_needs(store, tmp_path):
    files = write_plant(tmp_path / "data" / "plantvillage" / "color", healthy=190, diseased=60)
    write_leaves(tmp_path / "data", files, per_leaf=2)
    configs = [
        tiny(
            dataset="plantvillage-apple",
            imbalance="rare-20-2-6-3",
            imbalance_scale=1.0,
            image_size=16,
            split_groups=split_groups,
        )
        for split_groups in (False, True)
    ]
    paths = pack(configs, store, tmp_path / "b.zip", root=tmp_path / "data")
    contents = open_bundle(paths, tmp_path / "there")
    needed = set()
    for config in configs:
        home, there = prepare(config, root=tmp_path / "data"), prepare(config, root=contents.root)
        assert there.key == home.key and there.split.sha256 == home.split.sha256
        assert there.train.groups.tolist() == home.train.groups.tolist()
        used = np.concatenate([home.split.train, home.split.valid, home.split.test])
        assert np.array_equal(there.train.images[used], home.train.images[used])
        needed |= set(used)
    assert set(np.flatnonzero(there.train.images.any(axis=(1, 2, 3)))) == needed
    assert len(needed) < len(there.train.labels)
    assert not (contents.root / "plantvillage" / "color").exists()


def test_a_pool_without_leaves_travels_without_groups(store, tmp_path):
    write_plant(tmp_path / "data" / "plantvillage" / "color", healthy=180, diseased=60)
    config = tiny(dataset="plantvillage-apple", imbalance="rare-20-2", imbalance_scale=1.0, image_size=8)
    contents = open_bundle(
        pack([config], store, tmp_path / "b.zip", root=tmp_path / "data"), tmp_path / "there"
    )
    there = prepare(config, root=contents.root)
    assert there.train.groups is None
    assert there.key == prepare(config, root=tmp_path / "data").key


def test_a_bundle_is_unpacked_once(path, tmp_path):
    first = open_bundle([path], tmp_path / "there")
    before = {file: file.stat().st_mtime_ns for file in first.root.rglob("*")}
    second = open_bundle([path], tmp_path / "there")
    assert second == first
    assert {file: file.stat().st_mtime_ns for file in second.root.rglob("*")} == before


def modules_that_the_lent_machine_lacks():
    """Top-level modules of everything installed here beside the lent machine's packages and what they need."""

    def normal(name):
        return re.sub(r"[-_.]+", "-", name).lower()

    allowed, waiting = set(), [normal(name) for name in LENT_MACHINE]
    while waiting:
        name = waiting.pop()
        if name in allowed:
            continue
        allowed.add(name)
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        parsed = [Requirement(text) for text in requirements]
        waiting += [
            normal(item.name) for item in parsed if not item.marker or item.marker.evaluate({"extra": ""})
        ]
    return sorted(
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if not any(normal(owner) in allowed for owner in owners)
        and module not in ("imbal_core", "imbal_book")
    )


# As on a machine where they are not installed: neither an import nor a look for them finds anything.
BLOCKER = """
import sys
from importlib.machinery import PathFinder

ABSENT = frozenset({absent!r})


class WithoutAbsent(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] not in ABSENT:
            return super().find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutAbsent
"""


def test_the_smoke_grid_runs_from_a_bundle_without_network_data_root_or_papermill(root, store, tmp_path):
    absent = modules_that_the_lent_machine_lacks()
    assert {"papermill", "nbformat", "mlxtend", "IPython", "hypothesis", "pytest"} <= set(absent)
    configs = build_grid("category_centers", "smoke")
    parts = pack(configs, store, tmp_path / "grid.zip", max_mb=0.2, root=root)
    machine = tmp_path / "machine"
    (machine / "site").mkdir(parents=True)
    (machine / "site" / "sitecustomize.py").write_text(BLOCKER.format(absent=absent))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(machine),
        "PYTHONPATH": os.pathsep.join(map(str, (machine / "site", CHECKOUT, CHECKOUT / "book"))),
        "OMP_NUM_THREADS": "1",
    }

    def there(*arguments):
        return subprocess.run(
            [sys.executable, *arguments], cwd=machine, env=environment, capture_output=True, text=True
        )

    assert "No module named 'papermill'" in there("-c", "import papermill").stderr
    found = there(
        "-c", "import imbal_book, imbal_core; print(*imbal_book.__path__, *imbal_core.__path__)"
    ).stdout
    assert found.split() == [str(CHECKOUT / "book" / "imbal_book"), str(CHECKOUT / "imbal_core")]
    bundles = [text for path in parts for text in ("--bundle", str(path))]
    trained = []
    for start in range(2):  # the whole grid takes minutes: two starts of it, each as long as a run
        ran = there("-m", "imbal_book.build.cli", "run", *bundles, "--minutes", "0.05")
        assert ran.returncode == 0, ran.stderr
        done, before, failed, left = map(int, re.findall(r"\d+", ran.stdout.splitlines()[-1]))
        assert (failed, before) == (0, sum(trained)), f"start {start}"
        assert done >= 1 and left == len(configs) - before - done
        trained.append(done)
    report = store.add(machine / "results")
    assert (len(report.added), report.refused) == (sum(trained), [])
    assert store.missing(configs) == configs[sum(trained) :]
    expected = {prepare(config, root=root).key for config in configs[: sum(trained)]}
    assert {record.key for record in store.read()} == expected
    assert all(record.measurements["readouts"] for record in store.read())


def test_every_member_has_its_hash_in_the_manifest(parts):
    for number, path in enumerate(parts, start=1):
        with zipfile.ZipFile(path) as archive:
            manifest = json.loads(archive.read("manifest.json"))
            assert (manifest["part"], manifest["parts"]) == (number, len(parts))
            hashes = {
                name: hashlib.sha256(archive.read(name)).hexdigest()
                for name in archive.namelist()
                if name != "manifest.json"
            }
        assert hashes == manifest["members"]
