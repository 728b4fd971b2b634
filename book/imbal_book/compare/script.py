"""The script beside a saved model: its predictions in plain torch, without this package."""

from __future__ import annotations

from string import Template

__all__ = ["plain_script"]

#: How a network is made by its own library: what makes it, and the features that the head reads.
_TIMM = (
    'timm.create_model("{}", num_classes=2)',
    "network.forward_head(network.forward_features(batch), pre_logits=True)",
)
_TORCHVISION = "torchvision.models.resnet34()", "network(batch)"
_SCRIPT = Template('''\
"""The model of this folder in plain torch: `python predict.py IMAGE ...`, or `predict(IMAGE)` in your own code."""

import json
import sys
from pathlib import Path

$imports
from PIL import Image, ImageOps
from safetensors.torch import load_file
from torchvision.transforms.functional import normalize, to_tensor

here = Path(__file__).parent
about, saved = json.loads((here / "pipeline.json").read_text("utf-8")), load_file(here / "model.safetensors")
network = $network
network.load_state_dict({key[13:]: value for key, value in saved.items() if key.startswith("network.body.")})


@torch.no_grad()
def predict(file, side=about["image_size"]):  # transparent parts of an image: lay it on white first
    image = Image.open(file)
    image.draft("RGB", (side, side))
    image = ImageOps.fit(ImageOps.exif_transpose(image).convert("RGB"), (side, side), Image.Resampling.BILINEAR)
    batch = normalize(to_tensor(image), about["mean"], about["std"])[None]
    feature = $features
    feature = torch.nn.functional.normalize(feature.half().float())
    logits = (feature @ saved["head.weight"] + saved["head.bias"]) / about["temperature"]
    return dict(zip(about["classes"], logits.softmax(1)[0].tolist()))


for file in sys.argv[1:]:
    print(file, predict(file))
''')


def plain_script(backbone: str) -> str | None:
    """Return the text of ``predict.py``, None for a network that neither timm nor torchvision makes.

    Parameters
    ----------
    backbone : str
        Name of the network, as `imbal_core.build_model` takes it.
    """
    if backbone.startswith("timm:"):
        network, features = _TIMM[0].format(backbone.removeprefix("timm:")), _TIMM[1]
    elif backbone == "resnet34":
        network, features = _TORCHVISION
    else:
        return None
    imports = "\n".join(sorted(("import torch", f"import {network.split('.')[0]}")))
    # without its own classifier torchvision's network gives what that would read
    rest = "\nnetwork.fc = torch.nn.Identity()" if backbone == "resnet34" else ""
    return _SCRIPT.substitute(imports=imports, network=f"{network}.eval(){rest}", features=features)
