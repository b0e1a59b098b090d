"""Pictures in, labels out."""

import numpy
import pytest
import skimjit
from conftest import ROOT
from skimjit import vision

DIGIT = ROOT / "models/demo/3.png"


def picture(height, width, channels=3):
    return numpy.random.default_rng(0).integers(0, 256, (height, width, channels), numpy.uint8)


def test_a_model_says_how(lenet):
    [[plane]] = vision.load(DIGIT, lenet)
    assert plane.shape == (28, 28) and plane.dtype == numpy.float32 and 0 <= plane.min() < plane.max() <= 1
    for given in (str(DIGIT), DIGIT.read_bytes(), [DIGIT]):
        assert numpy.array_equal(vision.load(given, lenet), [[plane]])
    with pytest.raises(skimjit.ShapeError, match="28"):
        vision.load(picture(20, 20, 1), lenet)


def test_caffe():
    x = vision.load(picture(300, 400), "caffe")
    assert x.shape == (1, 3, 256, 256)
    gray = numpy.full((256, 256, 3), 100, numpy.uint8)
    gray[:, :, 0] = 150
    x = vision.load(gray, vision.CAFFE)
    assert x[0, :, 5, 5].tolist() == [100 - 104, 100 - 117, 150 - 123]


def test_torchvision_against_its_formula():
    pixels = picture(256, 256)
    x = vision.load([pixels, pixels], "torchvision")
    assert x.shape == (2, 3, 224, 224)
    cut = pixels[16:240, 16:240].transpose(2, 0, 1) / 255
    mean, std = ([[[0.485]], [[0.456]], [[0.406]]], [[[0.229]], [[0.224]], [[0.225]]])
    numpy.testing.assert_allclose(x[0], (cut - mean) / std, atol=1e-5)


def test_smooth_resizing_is_pillows():
    image = pytest.importorskip("PIL.Image")
    pixels = picture(97, 131)
    for height, width in ((40, 64), (200, 131), (97, 30)):
        expected = numpy.asarray(image.fromarray(pixels).resize((width, height), image.BILINEAR))
        how = vision.Preprocess("RGB", (height, width), smooth=True)
        found = how(pixels).transpose(1, 2, 0)
        assert abs(found - expected).max() <= 1
    assert numpy.array_equal(vision.load(image.fromarray(pixels), how), vision.load(pixels, how))
    gray = image.fromarray(pixels).convert("L")
    assert vision.load(gray, vision.Preprocess())[0].std(axis=0).max() == 0


def test_sharp_resizing_is_between_neighbours():
    pixels = picture(8, 8)
    how = vision.Preprocess("RGB", (16, 16))
    x = how(pixels)
    assert x.shape == (3, 16, 16) and x[0, 0, 0] == pixels[0, 0, 0]
    assert vision.Preprocess("RGB", 4)(picture(8, 12)).shape == (3, 4, 6)


def test_mean_images():
    pixels = picture(10, 12)
    how = vision.Preprocess("RGB", None, 8, pixels.transpose(2, 0, 1), 2.0)
    assert not how(pixels).any() and how(pixels).shape == (3, 8, 8)
    with pytest.raises(skimjit.ShapeError):
        how(picture(11, 12))


def test_errors(tmp_path, engine):
    with pytest.raises(skimjit.OptionError, match="caffe"):
        vision.load(DIGIT, "keras")
    with pytest.raises(skimjit.FileError):
        vision.load(tmp_path / "nothing.png", "caffe")
    with pytest.raises(skimjit.ModelError):
        vision.load(b"no picture", "caffe")
    with pytest.raises(skimjit.DTypeError):
        vision.load(picture(8, 8).astype(float), "caffe")
    with pytest.raises(skimjit.ShapeError):
        vision.load([picture(8, 8), picture(8, 9)], vision.Preprocess())
    with pytest.raises(skimjit.ShapeError):
        vision.load([], "caffe")
    with pytest.raises(skimjit.OptionError):
        vision.Preprocess("GBR")


def test_top_k():
    scores = numpy.array([[0.1, 0.7, 0.2], [0.5, 0.0, 0.5]], numpy.float32)
    best = vision.top_k(scores, 2, ["a", "b", "c"])
    assert [[guess.label for guess in row] for row in best] == [["b", "c"], ["a", "c"]]
    assert best[0][0].index == 1 and best[0][0].score == pytest.approx(0.7)
    assert vision.top_k(scores[:, :, None, None])[0][0].label == "1"
    for wrong in (scores[0], numpy.zeros((2, 3, 4))):
        with pytest.raises(skimjit.ShapeError):
            vision.top_k(wrong)
    with pytest.raises(skimjit.ShapeError):
        vision.top_k(scores, labels=["a"])


def test_photographs_of_imagenet(data):
    folder = data("imagenet")
    weights = data("models/squeezenet_v1.0_dc")
    pixels = numpy.load(folder / "pixels_u8_bgr_hwc_first8.npy")
    logits = numpy.load(folder / "logits_squeezenet.npy")
    files = sorted(weights.glob("*.caffemodel")), sorted(weights.glob("*.prototxt"))
    if not files[0] or not files[1]:
        pytest.skip("no SqueezeNet in SKIMJIT_DATA")
    model = skimjit.Model(files[0][0], prototxt=files[1][0])
    how = vision.Preprocess("BGR", None, None, (104.0, 117.0, 123.0))
    size = model.inputs[0].shape[2]
    how = vision.Preprocess("BGR", None, size, (104.0, 117.0, 123.0))
    x = vision.load(list(pixels[..., ::-1]), how)
    scores = skimjit.compile(model, threads=1).run(x).reshape(len(x), -1)
    assert (scores.argmax(axis=1) == logits[: len(x)].reshape(len(x), -1).argmax(axis=1)).all()
