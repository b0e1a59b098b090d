"""Models: where they come from, what they say."""

import pickle

import numpy
import pytest
import skimjit
from conftest import LENET, ROOT, TWO_OUTPUTS, random


def test_what_a_model_says(lenet):
    assert lenet.name == "LeNet" or lenet.name
    assert lenet.inputs[0].shape[1:] == [1, 28, 28] and lenet.outputs[0].shape[1:] == [10]
    assert lenet.warnings == () and isinstance(lenet.labels, tuple)
    assert lenet.preprocess.scale == pytest.approx(0.00390625)
    assert "[" in repr(lenet)


def test_a_caffe_pair(engine):
    folder = ROOT / "tests/cli/forks"
    pair = folder / "nvbn.caffemodel", folder / "nvbn.prototxt"
    from_files = skimjit.Model(pair[0], prototxt=pair[1])
    text = skimjit.Model(pair[0], prototxt=pair[1].read_bytes())
    bytes_ = skimjit.Model(pair[0].read_bytes(), prototxt=pair[1].read_bytes())
    mixed = skimjit.Model(memoryview(pair[0].read_bytes()), prototxt=str(pair[1]))
    made = [skimjit.compile(model, threads=1) for model in (from_files, text, bytes_, mixed)]
    feed = {one.name: random(one.shape) for one in made[0].inputs}
    results = [one.run(feed) for one in made]
    for result in results[1:]:
        for name, array in results[0].items():
            assert numpy.array_equal(array, result[name])


def test_other_shapes(network):
    pooled = TWO_OUTPUTS.replace('layer { name: "fc" type: "InnerProduct"', 'layer { name: "fc" type: "Softmax"')
    pooled = pooled.replace("inner_product_param { num_output: 4 }", "")
    model = network(pooled)
    larger = model.with_input_shapes({"data": (1, 2, 8, 9)})
    assert larger.inputs[0].shape == [1, 2, 8, 9] and model.inputs[0].shape == [1, 2, 6, 5]
    assert skimjit.compile(larger, threads=1).run({"data": random((2, 2, 8, 9))})["pool"].shape == (2, 3, 4, 5)
    for shapes in ((1, 2, 8, 9), {"data": [1, 2, 8, 9]}):
        assert network(pooled, input_shapes=shapes).inputs[0].shape == [1, 2, 8, 9]
    with pytest.raises(skimjit.ModelError):
        model.with_input_shapes({"nothing": (1, 2, 8, 9)})


def test_labels(tmp_path):
    names = [f"digit {digit}" for digit in range(10)]
    model = skimjit.Model(LENET, labels=names)
    assert model.labels == tuple(names)
    file = tmp_path / "labels.txt"
    file.write_text("\n".join(names))
    assert skimjit.Model(LENET, labels=file).labels == tuple(names)
    # Artifacts keep them.
    assert skimjit.Model(model.to_bytes()).labels == tuple(names)
    with pytest.raises(skimjit.ModelError, match="names of classes"):
        skimjit.Model(LENET, labels=names[:9])
    with pytest.raises(skimjit.OptionError):
        skimjit.Model(LENET, labels=7)


def test_artifacts(tmp_path, engine, digits):
    expected = engine.run(digits)
    path = tmp_path / "net.skim"
    engine.save(path)
    assert path.read_bytes() == engine.to_bytes()
    for source in (path, str(path), engine.to_bytes(), bytearray(engine.to_bytes())):
        assert numpy.array_equal(skimjit.compile(source, threads=1).run(digits), expected)
    # With the choices that the model's own artifact has.
    assert numpy.array_equal(skimjit.compile(engine.model.to_bytes(), batch=1, threads=1).run(digits), expected)
    with pytest.raises(skimjit.FileError):
        engine.save(tmp_path / "nowhere/net.skim")


def test_models_are_pickled(lenet, digits):
    again = pickle.loads(pickle.dumps(lenet))
    assert again.inputs == lenet.inputs and again.outputs == lenet.outputs and again.name == lenet.name
    assert again.preprocess == lenet.preprocess


def test_what_is_odd_is_a_warning(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(TWO_OUTPUTS)
    with pytest.warns(skimjit.ModelWarning, match="no weights"):
        model = skimjit.Model(path, allow_missing_weights=True)
    assert any("no weights" in text for text in model.warnings)


def test_pruned_networks_as_onnx(data):
    for name, outputs in (("hand_landmark_sparse", 3), ("face_detection_full_range_sparse", 2)):
        path = data(f"onnx/{name}.onnx")
        made = skimjit.compile(path, threads=2)
        x = numpy.load(path.with_name(f"{name}.input.npy"))
        results = list(made.run({made.inputs[0].name: x}).values())
        for index in range(outputs):
            expected = numpy.load(path.with_name(f"{name}.litert_output{index}.npy"))
            found = results[index].reshape(expected.shape)
            assert abs(found - expected).max() <= 1e-4 * abs(expected).max()
