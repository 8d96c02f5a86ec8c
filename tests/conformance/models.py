"""Writes one small convolutional network and its quantized forms, made by ONNX Runtime, into a folder.

    python models.py FOLDER

The network has the operators that ONNX Runtime quantizes, some of them twice. The forms are QOperator and QDQ, with
one scale a weight and one a channel, with unsigned and signed activations; the weights are seeded.
"""

import logging
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quant_pre_process, quantize_static


def network(rng):
    def weight(name, *shape):
        return numpy_helper.from_array(rng.normal(size=shape).astype(np.float32) * 0.2, name)

    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="conv1", pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Clip", ["c1", "low", "high"], ["r1"], name="relu6"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="depthwise", pads=[1] * 4, group=8),
        helper.make_node("Relu", ["c2"], ["r2"], name="relu"),
        helper.make_node("Add", ["r1", "r2"], ["a"], name="residual"),
        helper.make_node("MaxPool", ["a"], ["p"], name="maxpool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Concat", ["p", "p"], ["cc"], name="concat", axis=1),
        helper.make_node("LeakyRelu", ["cc"], ["lr"], name="leaky", alpha=0.1),
        helper.make_node("Sigmoid", ["lr"], ["sg"], name="sigmoid"),
        helper.make_node("Mul", ["lr", "sg"], ["m"], name="gate"),
        helper.make_node("AveragePool", ["m"], ["ap"], name="avgpool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["ap"], ["g"], name="global"),
        helper.make_node("Flatten", ["g"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["fc"], name="classifier", transB=1),
        helper.make_node("MatMul", ["fc", "w4"], ["mm"], name="matmul"),
        helper.make_node("Softmax", ["mm"], ["y"], name="softmax", axis=1),
    ]
    constants = [weight("w1", 8, 3, 3, 3), weight("b1", 8), weight("w2", 8, 1, 3, 3), weight("b2", 8)]
    constants += [weight("w3", 10, 16), weight("b3", 10), weight("w4", 10, 10)]
    constants += [numpy_helper.from_array(np.float32(0), "low"), numpy_helper.from_array(np.float32(6), "high")]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 32, 32])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])]
    graph = helper.make_graph(nodes, "small_cnn", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


class Images(CalibrationDataReader):
    def __init__(self):
        rng = np.random.default_rng(1)
        self.images = iter([{"x": rng.normal(size=(1, 3, 32, 32)).astype(np.float32)} for _ in range(8)])

    def get_next(self):
        return next(self.images, None)


def main(folder):
    logging.getLogger().setLevel(logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(network(np.random.default_rng(0)), folder / "float.onnx")
    prepared = folder / "prepared.onnx"
    quant_pre_process(folder / "float.onnx", prepared, skip_symbolic_shape=True)
    for form in (QuantFormat.QOperator, QuantFormat.QDQ):
        for channels in (False, True):
            for activations in (QuantType.QUInt8, QuantType.QInt8):
                name = f"{form.name}_{'channel' if channels else 'tensor'}_{activations.name}.onnx"
                quantize_static(
                    prepared,
                    folder / name,
                    Images(),
                    quant_format=form,
                    per_channel=channels,
                    activation_type=activations,
                    weight_type=QuantType.QInt8,
                )


main(pathlib.Path(sys.argv[1]))
