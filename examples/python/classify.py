#!/usr/bin/env python3
"""Says what is in pictures.

    python examples/python/classify.py models/demo/lenet.skim models/demo/3.png

A model whose file does not say how pictures become inputs needs --how caffe or torchvision.
"""

import argparse

import skimjit
from skimjit import vision


def main() -> None:
    parser = argparse.ArgumentParser(description="Says what is in pictures.")
    parser.add_argument("model", help="an ONNX model, a caffemodel or an artifact")
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--how", choices=["caffe", "torchvision"], help="preprocessing, if the model does not say")
    parser.add_argument("--labels", help="file with the names of the classes")
    arguments = parser.parse_args()

    model = skimjit.Model(arguments.model, labels=arguments.labels)
    engine = skimjit.compile(model)
    inputs = vision.load(arguments.pictures, arguments.how or model, model=model)
    scores = engine.run(inputs)
    for picture, [best] in zip(arguments.pictures, vision.top_k(scores, 1, model.labels)):
        print(f"{picture}: {best.label} ({best.score:.3f})")


if __name__ == "__main__":
    main()
