"""Networks without a convolution or product, quantized by hand in QDQ form, with what ONNX Runtime computes for them.

    python elementwise.py FOLDER [--count COUNT] [--first-seed SEED]

The files are those of `execute.py`. Each is one operator between `DequantizeLinear` and `QuantizeLinear`: `Add`, `Mul`, `Sub`, `Div`
with a second activation or a constant, which is float (one number, or one a channel) or stands behind `DequantizeLinear`; or
`BatchNormalization`. Half of the scales are powers of two, so that results often lie halfway. All 256 integers are fed.
"""

import numpy as np
from onnx import TensorProto, helper

from products import TYPES, Graph, main, save

OPERATORS = ["Add", "Mul", "Sub", "Div", "BatchNormalization"]
SECOND = ["activation", "dequantized", "quantized", "number", "channels"]


def network(folder, seed):
    graph = Graph(seed)
    rng = graph.rng
    op = OPERATORS[seed % len(OPERATORS)]
    second = "channels" if op == "BatchNormalization" else SECOND[seed // len(OPERATORS) % len(SECOND)]
    kind = ["u8", "s8"][rng.integers(2)]
    info = np.iinfo(TYPES[kind][1])
    channels = int(rng.integers(2, 6))
    shape = [1, channels, 4, 4] if rng.integers(3) else [1, channels]
    ties = bool(rng.integers(2))

    def scale(low, high):
        exponent = rng.uniform(low, high)
        return float(2.0 ** (np.round(exponent) if ties else exponent))

    def zero():
        return int(rng.integers(-60, 60)) + (128 if kind == "u8" else 0)

    def activation(name, scale, zero):
        size = (128, *shape[1:])
        steps = rng.permutation(np.resize(np.arange(info.min, info.max + 1), int(np.prod(size))))
        samples[name] = ((steps - zero) * scale).reshape(size).astype(np.float32)
        inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape[1:]]))
        return graph.qdq(name, kind, scale, zero)

    inputs, samples = [], {}
    x_scale = scale(-6, -3)
    x = activation("x", x_scale, zero())
    along = [[1], [channels, 1, 1] if len(shape) == 4 else [channels]][second != "number"]
    constant = (rng.uniform(0.3, 3, along) * (1 if op == "Div" else rng.choice([-1, 1], along))).astype(np.float32)
    if op == "Div" and second == "number":
        # A table stands for it only where the reciprocal is exact; other divisors come with the channels.
        constant = np.exp2(rng.integers(-3, 4, along)).astype(np.float32)
    if op == "BatchNormalization":
        lists = [rng.normal(1, 0.5, channels), rng.normal(size=channels), rng.normal(size=channels), rng.uniform(0.2, 3, channels)]
        y = graph.node(op, [x, *(graph.constant(values.astype(np.float32)) for values in lists)], epsilon=1e-3)
    else:
        if second == "activation":
            other_zero = int(info.min) if op == "Div" else zero()
            other = activation("z", scale(-6, -3), other_zero)
            if op == "Div":
                samples["z"] += np.float32(0.5)
        elif second == "dequantized":
            parameters = graph.parameters(kind, scale(-7, -5), int(info.min) if op == "Div" else zero())
            integers = rng.integers(info.min + 1, info.max + 1, along).astype(TYPES[kind][1])
            other = graph.node("DequantizeLinear", [graph.constant(integers), *parameters])
        elif second == "quantized":
            other = graph.qdq(graph.constant(constant), kind, scale(-6, -5), int(info.min) if op == "Div" else zero())
        else:
            other = graph.constant(constant)
        swapped = op in ("Add", "Mul") and rng.integers(2)
        y = graph.node(op, [other, x] if swapped else [x, other])
    y = graph.qdq(y, kind, x_scale * scale(-0.5, 1.5), zero())
    outputs = [helper.make_tensor_value_info(y, TensorProto.FLOAT, None)]
    save(folder, f"{op.lower()}_{second}_{kind}_{seed:03}", graph.model(inputs, outputs), samples, kind == "s8")


if __name__ == "__main__":
    main(network, 100)
