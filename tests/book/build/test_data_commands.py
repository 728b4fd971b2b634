"""What ``imbal data`` says of a plant's files beyond their number."""

from leaf_photos import write_plant
from PIL import Image
from typer.testing import CliRunner

from imbal_book.build.data_commands import data_app
from imbal_core.data import plantvillage_files


def test_every_odd_file_is_listed_with_what_becomes_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(plantvillage_files, "MINIMUM", {"healthy": 6, "diseased": 9})
    monkeypatch.setenv("IMBAL_DATA", str(tmp_path / "data"))
    files = write_plant(tmp_path / "copy" / "color", "apple")
    healthy, scab = files[0].parent, files[6].parent
    (healthy / "aa___empty 1.JPG").write_bytes(b"")
    Image.open(files[1]).save(healthy / "ab___png 1.JPG", "PNG")
    (healthy / "ac___copy 1.JPG").write_bytes(files[2].read_bytes())
    (scab / "ad___again 1.JPG").write_bytes(files[3].read_bytes())
    result = CliRunner().invoke(data_app, ["plantvillage", "--from", str(tmp_path / "copy")])
    assert result.exit_code == 0, result.output
    again = f"Apple___healthy/{files[3].name} = Apple___Apple_scab/ad___again 1.JPG"
    for line in (
        "healthy: 6 images, 0 of them with a known leaf (0 leaves)",
        "diseased: 9 images (Apple_scab 3, Black_rot 3, Cedar_apple_rust 3)",
        "empty, left out (1):\n    Apple___healthy/aa___empty 1.JPG",
        "PNG under another name, kept (1):\n    Apple___healthy/ab___png 1.JPG",
        "the same bytes, the first kept (1):",
        f"the same bytes in two classes, all left out (1):\n    {again}",
    ):
        assert line in result.output
