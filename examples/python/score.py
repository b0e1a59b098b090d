#!/usr/bin/env python3
"""Says what is on photographs, with Ray: a process for each core.

    python examples/python/score.py net.onnx photos --how torchvision

Prints a line for each photograph: its path, the number of its best class, the score.
"""

import argparse
import sys
import time

import ray
import skimjit.ray
from skimjit import vision


def main() -> None:
    parser = argparse.ArgumentParser(description="Says what is on photographs, with Ray.")
    parser.add_argument("model", help="an ONNX model, a caffemodel or an artifact")
    parser.add_argument("photographs", help="a folder")
    parser.add_argument("--prototxt", help="Caffe's definition, for a caffemodel")
    parser.add_argument("--how", choices=["caffe", "torchvision", "model"], default="model", help="preprocessing")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=1, help="score the folder so often, to see how fast it is")
    arguments = parser.parse_args()

    model = skimjit.Model(arguments.model, prototxt=arguments.prototxt)
    engine = skimjit.compile(model, batch=8, threads=1)
    ray.init(num_cpus=arguments.workers + 1, log_to_driver=False, configure_logging=False)
    kinds = ["jpg", "jpeg", "png", "bmp", "webp"]
    folders = [arguments.photographs] * arguments.repeat
    photographs = ray.data.read_binary_files(folders, include_paths=True, file_extensions=kinds)
    scored = photographs.map_batches(
        skimjit.ray.Scorer,
        fn_constructor_args=(skimjit.ray.artifact(engine),),
        fn_constructor_kwargs={"column": "bytes", "pictures": arguments.how},
        batch_format="numpy",
        batch_size=16,
        zero_copy_batch=True,
        compute=ray.data.ActorPoolStrategy(size=arguments.workers),
    )
    began = time.monotonic()
    rows = scored.take_all()
    seconds = time.monotonic() - began
    print(f"{len(rows)} photographs in {seconds:.1f} s, the start of the workers included", file=sys.stderr)
    for row in sorted({row["path"]: row for row in rows}.values(), key=lambda row: row["path"]):
        [[best]] = vision.top_k(row["scores"][None], 1, model.labels)
        print(f"{row['path']}: {best.label} ({best.score:.3f})")
    ray.shutdown()


if __name__ == "__main__":
    main()
