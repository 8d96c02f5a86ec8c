"""Quantized models with what ONNX Runtime computes for them, for the comparison of whole runs.

    python execute.py FOLDER [--random COUNT] [--samples COUNT]

For each model it writes `NAME.onnx`, `NAME.in.npz` (arrays named as the inputs) and `NAME.out.npz` (as the outputs).
The models are the project's digit classifier and seeded random networks, quantized by ONNX Runtime in the forms of
`FORMS`. Saturating sums of two products (on x86 without VNNI) are avoided: for unsigned activations by the session option
that is there for it; signed ones have kernels only without that option, and get weights of 7 bits, which cannot saturate.
By default the runtime turns signed QDQ models into unsigned ones, and leaves a third of the layers in float where that
fails; it is told that signed integers are allowed.
"""

import argparse
import logging
import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quant_pre_process, quantize_static

ROOT = pathlib.Path(__file__).resolve().parents[2]
U8, S8 = QuantType.QUInt8, QuantType.QInt8
# name: (form, activations, weights, a scale for each channel)
FORMS = {
    "qop_u8s8_channel": (QuantFormat.QOperator, U8, S8, True),
    "qop_u8s8_tensor": (QuantFormat.QOperator, U8, S8, False),
    "qop_u8u8_tensor": (QuantFormat.QOperator, U8, U8, False),
    "qop_s8s8_channel": (QuantFormat.QOperator, S8, S8, True),
    "qdq_u8s8_channel": (QuantFormat.QDQ, U8, S8, True),
    "qdq_u8s8_tensor": (QuantFormat.QDQ, U8, S8, False),
    "qdq_u8u8_tensor": (QuantFormat.QDQ, U8, U8, False),
    "qdq_s8s8_channel": (QuantFormat.QDQ, S8, S8, True),
    "qop_s8s8_tensor": (QuantFormat.QOperator, S8, S8, False),
    "qdq_s8s8_tensor": (QuantFormat.QDQ, S8, S8, False),
}


class Network:
    """A random convolutional network, built node by node; shapes are followed along."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.constants = [], []
        self.channels, self.size = int(self.rng.integers(1, 5)), int(self.rng.integers(12, 25))
        self.input_shape = [1, self.channels, self.size, self.size]
        self.value = "x"

    def choose(self, *options):
        return options[int(self.rng.integers(len(options)))]

    def weight(self, *shape, scale=None):
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 4
        data = self.rng.normal(size=shape) * (scale or 1.5 / np.sqrt(fan_in))
        name = f"w{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(data.astype(np.float32), name))
        return name

    def scalar(self, number, dtype=np.float32):
        name = f"w{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(number, dtype), name))
        return name

    def node(self, op, inputs, **attributes):
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name + "_y"], name=name, **attributes))
        self.value = name + "_y"
        return self.value

    def convolution(self, x, channels=None, kernel=None, stride=1, group=None):
        kernel = kernel or self.choose(1, 3, 3, 5)
        dilation = self.choose(1, 1, 2) if kernel == 3 and self.size >= 8 else 1
        reach = dilation * (kernel - 1)
        low = reach // 2
        pads = [low, low, reach - low, reach - low]
        if group is None:
            group = self.choose(1, 1, self.channels, 2 if self.channels % 2 == 0 else 1, 3 if self.channels % 3 == 0 else 1)
        if channels is None:
            channels = group * int(self.rng.integers(1, 3)) if group > 1 else int(self.rng.integers(3, 20))
        inputs = [x, self.weight(channels, self.channels // group, kernel, kernel)]
        if self.choose(True, True, False):
            inputs.append(self.weight(channels, scale=0.3))
        if stride == 2 and self.choose(True, False):
            pads = [0, 0, reach, reach]
        y = self.node(
            "Conv", inputs, kernel_shape=[kernel] * 2, pads=pads, strides=[stride] * 2, dilations=[dilation] * 2, group=group
        )
        self.channels, self.size = channels, (self.size + reach - reach - 1) // stride + 1
        return y

    def activation(self, x):
        kind = self.choose("Relu", "Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSwish", "Tanh", "Elu", "PRelu", None)
        if kind is None:
            return x
        if kind == "Clip":
            return self.node("Clip", [x, self.scalar(0.0), self.scalar(self.choose(6.0, 1.0))])
        if kind == "PRelu":
            # With a slope for each channel it stays in float, on the host.
            return self.node("PRelu", [x, self.weight(*self.choose((1,), (self.channels, 1, 1)), scale=0.3)])
        return self.node(kind, [x], **({"alpha": 0.1} if kind == "LeakyRelu" else {}))

    def block(self):
        x, before, size = self.value, self.channels, self.size
        kind = self.choose(
            "plain", "residual", "concat", "gate", "pool", "stride", "constant", "pad", "shuffle", "row", "normalize", "extreme"
        )
        if kind == "plain":
            self.activation(self.convolution(x))
        elif kind == "stride":
            self.activation(self.convolution(x, stride=2))
        elif kind == "residual":
            y = self.activation(self.convolution(x))
            y = self.convolution(y, channels=before, group=1)
            y = self.node("Add", self.choose([x, y], [y, x]))
            if self.choose(True, False):
                self.node("Relu", [y])
        elif kind == "concat":
            a = self.activation(self.convolution(x, group=1))
            first, self.channels = self.channels, before
            b = self.activation(self.convolution(x, group=1))
            self.channels += first
            self.node("Concat", [a, b], axis=1)
        elif kind == "extreme":
            y = self.convolution(x, channels=before, group=1)
            self.node(self.choose("Min", "Max"), self.choose([x, y], [y, x]))
        elif kind == "gate":
            pooled = self.node("GlobalAveragePool", [x])
            self.size = 1
            gate = self.node("Sigmoid", [self.convolution(pooled, channels=before, kernel=1, group=1)])
            self.size = size
            self.node("Mul", [x, gate])
        elif kind == "constant":
            # Sub and Div stay in float, on the host.
            op = self.choose("Add", "Mul", "Sub", "Div")
            constant = self.weight(*self.choose((1, before, 1, 1), (1,), (before, 1, 1)), scale=0.5)
            if op == "Div":
                self.constants[-1] = numpy_helper.from_array(np.abs(numpy_helper.to_array(self.constants[-1])) + 0.5, constant)
            self.node(op, [x, constant] if op in ("Sub", "Div") else self.choose([x, constant], [constant, x]))
        elif kind == "pad":
            above, left, below, right = (int(self.rng.integers(0, 2)) for _ in range(4))
            padded = self.node("Pad", [x, self.scalar([0, 0, above, left, 0, 0, 1 - above, 1 - left], np.int64)])
            self.size += 1
            self.activation(self.convolution(padded))
        elif kind == "shuffle" and before % 2 == 0:
            parts = self.node("Reshape", [x, self.scalar([0, 2, before // 2, size, size], np.int64)])
            turned = self.node("Transpose", [parts], perm=[0, 2, 1, 3, 4])
            self.node("Reshape", [turned, self.scalar([0, before, size, size], np.int64)])
        elif kind == "row":
            # A kernel and strides that differ in the two directions, brought back to a square by the padding.
            weight = self.weight(before + 1, before, 1, 3)
            self.node("Conv", [x, weight], kernel_shape=[1, 3], pads=[0, 0, 0, 2])
            self.channels += 1
        elif kind == "normalize":
            y = self.convolution(x)
            ones = [self.weight(self.channels) for _ in range(3)]
            variance = self.weight(self.channels)
            self.constants[-1] = numpy_helper.from_array(np.abs(numpy_helper.to_array(self.constants[-1])) + 0.2, variance)
            self.activation(self.node("BatchNormalization", [y, *ones, variance]))
        elif size >= 4:
            op = self.choose("MaxPool", "AveragePool")
            kernel = self.choose(2, 3)
            pad = self.choose(0, 1) if kernel == 3 else 0
            extra = {"count_include_pad": self.choose(0, 1)} if op == "AveragePool" else {}
            ceil = self.choose(0, 1) if op == "MaxPool" else 0
            extra["ceil_mode"] = ceil
            self.node(op, [x], kernel_shape=[kernel] * 2, strides=[2, 2], pads=[pad] * 4, **extra)
            self.size = (size + 2 * pad - kernel + ceil) // 2 + 1
            if ceil and (self.size - 1) * 2 >= size + pad:
                self.size -= 1

    def head(self):
        kind = self.choose("global", "mean", "flatten")
        if kind == "global":
            self.node("Flatten", [self.node(self.choose("GlobalAveragePool", "GlobalMaxPool"), [self.value])])
            features = self.channels
        elif kind == "mean":
            self.node("ReduceMean", [self.value], axes=[2, 3], keepdims=0)
            features = self.channels
        else:
            self.node("Flatten", [self.value])
            features = self.channels * self.size**2
        if self.choose(True, False):
            self.node("Gemm", [self.value, self.weight(12, features), self.weight(12, scale=0.3)], transB=1)
            features = 12
            if self.choose(True, False):
                self.node("Relu", [self.value])
        if self.choose(True, False):
            self.node("MatMul", [self.value, self.weight(features, 10, scale=1 / np.sqrt(features))])
        else:
            self.node("Gemm", [self.value, self.weight(10, features), self.weight(10, scale=0.3)], transB=1)
        if self.choose(True, False):
            self.node("Softmax", [self.value], axis=1)

    def model(self):
        self.activation(self.convolution("x", kernel=3, group=1))
        for _ in range(int(self.rng.integers(2, 6))):
            self.block()
        self.head()
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *self.input_shape[1:]])]
        outputs = [helper.make_tensor_value_info(self.value, TensorProto.FLOAT, None)]
        graph = helper.make_graph(self.nodes, "random", inputs, outputs, self.constants)
        # From 14 on HardSwish is an operator; from 18 on ReduceMean takes its axes as an operand.
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


class Calibration(CalibrationDataReader):
    def __init__(self, name, samples):
        self.batches = iter([{name: sample[None]} for sample in samples])

    def get_next(self):
        return next(self.batches, None)


def runtime(model, signed):
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "0" if signed else "1")
    options.add_session_config_entry("session.qdqisint8allowed", "1" if signed else "0")
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def save_run(folder, name, samples, signed):
    """What the runtime computes for a model in the folder; a model that it made and cannot load is taken away."""
    try:
        session = runtime(str(folder / f"{name}.onnx"), signed)
    except Exception as error:  # the bindings' own classes have no common base
        print(f"the runtime cannot load {name}: {str(error).splitlines()[0][:200]}")
        (folder / f"{name}.onnx").unlink()
        return
    [entry] = session.get_inputs()
    names = [output.name for output in session.get_outputs()]
    results = session.run(names, {entry.name: samples})
    np.savez(folder / f"{name}.in.npz", **{entry.name: samples})
    np.savez(folder / f"{name}.out.npz", **dict(zip(names, results)))


def round_scales(path):
    """Makes all scales of a QOperator model powers of two, so that sums often lie halfway between two results."""
    model = onnx.load(path)
    for index, tensor in enumerate(model.graph.initializer):
        data = numpy_helper.to_array(tensor)
        if tensor.name.endswith("_scale") and data.dtype == np.float32:
            rounded = np.exp2(np.round(np.log2(data))).astype(np.float32)
            model.graph.initializer[index].CopyFrom(numpy_helper.from_array(rounded, tensor.name))
    onnx.save(model, path)


def quantize(folder, prepared, name, calibration, samples, forms=FORMS):
    entry = onnx.load(prepared).graph.input[0].name
    for form, (layout, activations, weights, channels) in forms.items():
        target = f"{name}_{form}"
        quantize_static(
            prepared,
            folder / f"{target}.onnx",
            Calibration(entry, calibration),
            quant_format=layout,
            activation_type=activations,
            weight_type=weights,
            per_channel=channels,
            reduce_range=activations == S8,
        )
        save_run(folder, target, samples, activations == S8)
        if layout == QuantFormat.QOperator and channels:
            halfway = f"{target}_halfway"
            (folder / f"{halfway}.onnx").write_bytes((folder / f"{target}.onnx").read_bytes())
            round_scales(folder / f"{halfway}.onnx")
            save_run(folder, halfway, samples, activations == S8)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--random", type=int, default=16)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=4)
    arguments = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    prepared = folder / "prepared.tmp"

    quant_pre_process(ROOT / "models/mnist_cnn.onnx", prepared, skip_symbolic_shape=True)
    calibration = np.load(ROOT / "models/mnist_calibrate.npz")["image"][:50]
    samples = np.load(ROOT / "models/mnist_test.npz")["image"][: 10 * arguments.samples]
    quantize(folder, prepared, "mnist", calibration, samples)
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.random):
        network = Network(seed)
        onnx.save(network.model(), folder / "float.tmp")
        quant_pre_process(folder / "float.tmp", prepared, skip_symbolic_shape=True)
        rng = np.random.default_rng(1000 + seed)
        shape = network.input_shape[1:]
        calibration = rng.normal(size=(6, *shape)).astype(np.float32)
        samples = rng.normal(size=(arguments.samples, *shape)).astype(np.float32) * 1.2
        quantize(folder, prepared, f"random{seed:03}", calibration, samples)
    for path in folder.glob("*.tmp"):
        path.unlink()


if __name__ == "__main__":
    main()
