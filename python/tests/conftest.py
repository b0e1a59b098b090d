"""What tests share: the repository's LeNet, small networks of Caffe, and data that need not be there."""

import os
import pathlib
import warnings

import numpy
import pytest
import skimjit

ROOT = pathlib.Path(__file__).resolve().parents[2]
LENET = ROOT / "models/demo/lenet.skim"

# An input of two channels, a convolution, two outputs of different shapes.
TWO_OUTPUTS = """
name: "two"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 dim: 6 dim: 5 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 3 kernel_size: 3 pad: 1 } }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 4 } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
"""

TWO_INPUTS = """
name: "sum"
layer { name: "a" type: "Input" top: "a" input_param { shape { dim: 1 dim: 3 dim: 4 dim: 4 } } }
layer { name: "b" type: "Input" top: "b" input_param { shape { dim: 1 dim: 3 dim: 4 dim: 4 } } }
layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "b" top: "sum" }
"""

# Takes pictures of any size, and long enough to see what runs at the same time.
SLOW = """
name: "slow"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 32 dim: 64 dim: 64 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 64 kernel_size: 3 pad: 1 } }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2"
        convolution_param { num_output: 64 kernel_size: 3 pad: 1 } }
"""


@pytest.fixture
def network(tmp_path):
    """Makes a model from a definition, with random weights."""

    def make(text, **options):
        path = tmp_path / "net.prototxt"
        path.write_text(text)
        options = {"allow_missing_weights": True, "random_weights": True, **options}
        with warnings.catch_warnings():
            # That there are no weights.
            warnings.simplefilter("ignore", skimjit.ModelWarning)
            return skimjit.Model(path, **options)

    return make


@pytest.fixture(scope="session")
def lenet():
    return skimjit.Model(LENET)


@pytest.fixture(scope="session")
def engine(lenet):
    """The LeNet on one thread."""
    return skimjit.compile(lenet, batch=1, threads=1)


@pytest.fixture(scope="session")
def digits(lenet):
    """Ten digits as inputs, in order."""
    return skimjit.vision.load([ROOT / f"models/demo/{digit}.png" for digit in range(10)], lenet)


@pytest.fixture
def data():
    """Data that is not part of the repository."""

    def find(name):
        folder = pathlib.Path(os.environ.get("SKIMJIT_DATA", ROOT / "../shared/data"))
        path = folder / name
        if not path.exists():
            pytest.skip(f"no {name} in SKIMJIT_DATA")
        return path

    return find


def random(shape, seed=0):
    return numpy.random.default_rng(seed).standard_normal(shape, numpy.float32)
