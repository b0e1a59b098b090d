"""One engine in one process, driven over standard input.

Started with one JSON argument: engine, onnx, caffemodel, prototxt, batch, input, threads. Prints one
JSON line when ready. Then "run N" answers the milliseconds of N runs, and "save FILE" writes the
output as .npy.
"""

import json
import os
import sys
import time

import numpy as np


class OnnxRuntime:
    def __init__(self, job, x):
        import onnxruntime as ort

        self.version, self.note, self.x = ort.__version__, "", x
        options = ort.SessionOptions()
        options.intra_op_num_threads = job["threads"]
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = ort.InferenceSession(job["onnx"], options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    def run(self):
        return self.session.run(None, {self.input: self.x})[0]


class OpenVino:
    def __init__(self, job, x):
        import openvino as ov

        self.version, self.note, self.x = ov.__version__.split("-")[0], "f32", x
        properties = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": job["threads"],
            "NUM_STREAMS": 1,
        }
        self.request = ov.Core().compile_model(job["onnx"], "CPU", properties).create_infer_request()
        self.input = ov.Tensor(x)

    def run(self):
        self.request.set_input_tensor(self.input)
        self.request.infer()
        return self.request.get_output_tensor().data


class OpenCv:
    def __init__(self, job, x):
        import cv2

        self.version, self.x = cv2.__version__, x
        cv2.setNumThreads(job["threads"])
        try:
            self.net = cv2.dnn.readNetFromCaffe(job["prototxt"], job["caffemodel"])
            self.note = "Caffe importer"
        except cv2.error:
            self.net = cv2.dnn.readNetFromONNX(job["onnx"])
            self.note = "ONNX importer"

    def run(self):
        self.net.setInput(self.x)
        return self.net.forward()


class Torch:
    def __init__(self, job, x):
        import torch

        import torch_net

        torch.set_num_threads(job["threads"])
        self.torch, self.version, self.x = torch, torch.__version__, torch.from_numpy(x)
        net = torch_net.build(job["caffemodel"], job["topology"], job["batch"])
        with torch.inference_mode():
            self.net, self.note = torch_net.compiled(net, self.x)

    def run(self):
        with self.torch.inference_mode():
            return self.net(self.x).numpy()


class DeepSparse:
    def __init__(self, job, x):
        os.environ["NM_DISABLE_ANALYTICS"] = "1"
        import deepsparse

        self.version, self.note, self.x = deepsparse.__version__, "", [x]
        self.engine = deepsparse.Engine(model=job["onnx"], batch_size=job["batch"], num_cores=job["threads"])

    def run(self):
        return self.engine.run(self.x)[0]


ENGINES = {
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
    "opencv": OpenCv,
    "torch": Torch,
    "deepsparse": DeepSparse,
}


def private_answers():
    """A stream to whoever started this; what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return answers


def timed(engine, count):
    times = []
    for _ in range(count):
        started = time.perf_counter()
        engine.run()
        times.append(1e3 * (time.perf_counter() - started))
    return times


def main():
    answers = private_answers()
    job = json.loads(sys.argv[1])
    engine = ENGINES[job["engine"]](job, np.load(job["input"]))
    engine.run()
    print(json.dumps(dict(version=engine.version, note=engine.note)), file=answers)
    for line in sys.stdin:
        command, argument = line.split(None, 1)
        if command == "run":
            print(json.dumps(timed(engine, int(argument))), file=answers)
        elif command == "save":
            np.save(argument.strip(), np.array(engine.run(), np.float32))
            print(json.dumps("saved"), file=answers)


if __name__ == "__main__":
    main()
