"""Writes `operator_cases.npz` and `host_cases.npz`: single operators with the outputs that ONNX Runtime computes.

    pip install onnx==1.18.0 onnxruntime==1.32.0 numpy
    python tests/conformance/make_operator_cases.py

The first has the quantized operators of ONNX Runtime, the second what else runs on a machine's host. Both are two arrays of
bytes: `cases`, a JSON list, and `data`, the elements of all tensors one after the other (little endian).
A case is `{"op", "class", "attributes", "inputs", "output"}`; a tensor is `[dtype, shape, scales, zero points, axis]`,
scales as the bits of float32, tensors of a case in the order of `data`: inputs, then the output. Classes:

- `random`: random shapes, scales and zero points;
- `ties`: power-of-two scales, and accumulators aimed at halves. They do not come by chance;
- `large`: accumulators past 2^24, where the conversion to float32 rounds;
- `aimed`: accumulators for which another order of the multiplier's scales, or double precision, rounds the other way;
- `float`: float32 operands and result;
- `between`: a float operator between `DequantizeLinear` and `QuantizeLinear`;
- `moved`: integers that keep their scale and zero point.

Operators that ONNX Runtime has no integer form of run between `DequantizeLinear` and `QuantizeLinear`, in float.

ONNX Runtime runs on x86 with `session.x64quantprecision=1`: without it, u8 x s8 saturates where there is no VNNI.
"""

import json
import pathlib

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"
rng = np.random.default_rng(20240607)
cases, blobs = [], []


class Q:
    """A quantized tensor."""

    def __init__(self, data, scale, zero, axis=None):
        self.data = np.ascontiguousarray(data)
        self.scale = np.atleast_1d(np.float32(scale))
        self.zero = np.atleast_1d(np.asarray(zero)).astype(self.data.dtype)
        self.axis = axis

    def parameters(self):
        per_tensor = self.axis is None
        shape = (lambda a: a.reshape(())) if per_tensor else (lambda a: a)
        return shape(self.scale), shape(self.zero)

    def description(self):
        bits = [int(bits) for bits in self.scale.view(np.uint32)]
        return [str(self.data.dtype), list(self.data.shape), bits, [int(z) for z in self.zero], self.axis]


def run(op, domain, arrays, out_dtype, attributes, in_float=False):
    """Runs one node; `arrays` are its inputs, the first ones fed, those named as constants bound. `in_float`: they are
    (data, scale, zero point) of each operand and scale and zero point of the result, around a node on floats."""
    names, feeds, inits, infos = [], {}, [], []
    for index, (array, constant) in enumerate(arrays):
        name = f"i{index}"
        names.append(name)
        array = np.asarray(array)
        if constant:
            inits.append(numpy_helper.from_array(array, name))
        else:
            feeds[name] = array
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            infos.append(helper.make_tensor_value_info(name, kind, array.shape))
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(out_dtype))
    if in_float:
        operands = [names[at : at + 3] for at in range(0, len(names) - 2, 3)]
        nodes = [helper.make_node("DequantizeLinear", three, [three[0] + "_real"]) for three in operands]
        nodes.append(helper.make_node(op, [three[0] + "_real" for three in operands], ["real"], **attributes))
        nodes.append(helper.make_node("QuantizeLinear", ["real", *names[-2:]], ["y"]))
    else:
        nodes = [helper.make_node(op, names, ["y"], domain=domain, **attributes)]
    graph = helper.make_graph(nodes, "g", infos, [helper.make_tensor_value_info("y", kind, None)], inits)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    options = ort.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if np.asarray(arrays[0][0]).dtype == np.int8:
        # Past this level, weights of signed products become unsigned, for which there is no kernel. Unsigned products
        # need the full level: it is where `x64quantprecision` acts.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(["y"], feeds)[0]


def record(op, kind, attributes, inputs, output):
    cases.append(
        {
            "op": op,
            "class": kind,
            "attributes": attributes,
            "inputs": [t.description() for t in inputs],
            "output": output.description(),
        }
    )
    for tensor in [*inputs, output]:
        data = tensor.data.astype(tensor.data.dtype.newbyteorder("<"))
        blobs.append(np.frombuffer(data.tobytes(), np.uint8))


def full(dtype, shape):
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


def zero_of(dtype):
    info = np.iinfo(dtype)
    return rng.choice([0, info.min, info.max, int(rng.integers(info.min, info.max + 1))])


def scale(low=-8, high=0):
    return np.float32(2.0 ** rng.uniform(low, high))


def power(low=-8, high=0):
    return np.float32(2.0 ** int(rng.integers(low, high)))


def pick_types():
    return [(np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8)][rng.integers(3)]


def weights(wt, shape, axis, per_channel, kind):
    """A weight with its parameters; zero points differ by channel where there is one each."""
    count = shape[axis] if per_channel else 1
    draw = power if kind == "ties" else scale
    scales = np.array([draw(-9, -4) for _ in range(count)], np.float32)
    zeros = np.array([zero_of(wt) if rng.random() < 0.5 else 0 for _ in range(count)])
    return Q(full(wt, shape), scales, zeros, axis if per_channel else None)


def aim(kind, x_scale, w, y_scale, channels):
    """Biases of a class: near the range of the output, at halves of it, or past 2^24."""
    ws = np.broadcast_to(w.scale, (channels,)).astype(np.float64)
    steps = y_scale / (x_scale * ws)
    if kind == "large":
        return rng.integers(-(2**30), 2**30, channels).astype(np.int32)
    if kind == "ties":
        return np.clip((rng.integers(-130, 130, channels) + 0.5) * steps, -(2**30), 2**30).astype(np.int32)
    return np.clip(rng.normal(0, 40, channels) * steps, -(2**30), 2**30).astype(np.int32)


def conv(kind):
    xt, wt = pick_types()
    groups = int(rng.choice([1, 1, 2, 3]))
    depthwise = rng.random() < 0.25
    c, o = (int(rng.integers(1, 5)), int(rng.integers(1, 5)))
    if depthwise:
        groups, c, o = int(rng.integers(2, 7)), 1, 1
    kernel = [int(k) for k in rng.integers(1, 4, 2)]
    stride = [int(s) for s in rng.integers(1, 3, 2)]
    dilation = [int(d) for d in rng.integers(1, 3, 2)]
    pads = [int(p) for p in rng.integers(0, 2, 4)]
    h, w = (int(v) for v in rng.integers(5, 8, 2))
    x = Q(full(xt, (1, c * groups, h, w)), (power if kind == "ties" else scale)(), zero_of(xt))
    weight = weights(wt, (o * groups, c, *kernel), 0, rng.random() < 0.6, kind)
    # The output spans about what random products reach.
    reach = float(x.scale[0]) * float(weight.scale.mean()) * 8000 * np.sqrt(c * kernel[0] * kernel[1]) / 128
    y_scale = np.float32(reach * 2 ** rng.uniform(-2, 2))
    if kind == "ties":
        y_scale = np.float32(2.0 ** np.round(np.log2(y_scale)))
        if rng.random() < 0.6:
            x.data[...] = x.zero[0]
            y_scale = np.float32(2.0 ** rng.integers(1, 9)) * x.scale[0] * np.float32(weight.scale.max())
    if kind == "large":
        y_scale = np.float32(float(x.scale[0]) * float(weight.scale.mean()) * 2**30 / 128 * 2 ** rng.uniform(-1, 1))
        if rng.random() < 0.5:
            y_scale = np.float32(2.0 ** np.round(np.log2(y_scale)))
    inputs = [x, weight]
    if kind != "random" or rng.random() < 0.7:
        inputs.append(Q(aim(kind, x.scale[0], weight, y_scale, o * groups), 1.0, 0))
    y_zero = np.asarray(zero_of(xt) if kind == "random" else rng.integers(-60, 60) + (128 if xt == np.uint8 else 0)).astype(xt)
    arrays = [(x.data, False), *((p, True) for p in x.parameters()), (weight.data, True)]
    arrays += [(p, True) for p in weight.parameters()] + [(y_scale, True), (y_zero, True)]
    if len(inputs) == 3:
        arrays.append((inputs[2].data, True))
    attributes = {"kernel_shape": kernel, "strides": stride, "dilations": dilation, "pads": pads, "group": groups}
    y = run("QLinearConv", "", arrays, xt, attributes)
    record("QLinearConv", kind, attributes, inputs, Q(y, y_scale, y_zero))


def matmul(kind):
    xt, wt = pick_types()
    m, k, n = int(rng.integers(1, 7)), int(rng.integers(1, 40)), int(rng.integers(1, 14))
    large = kind == "large"
    if large:
        m, k, n = 2, 700, 3
    x = Q(full(xt, (m, k)), (power if kind == "ties" else scale)(), zero_of(xt))
    w = weights(wt, (k, n), 1, rng.random() < 0.6, kind)
    reach = float(x.scale[0]) * float(w.scale.mean()) * 8000 * np.sqrt(k) / 128
    if large:
        # All operands at one end: 700 * 127 * 255 is past 2^24.
        low, high = np.iinfo(xt).min, np.iinfo(wt).max
        x = Q(np.where(rng.random((m, k)) < 0.1, full(xt, (m, k)), np.iinfo(xt).max).astype(xt), x.scale, low)
        w = Q(np.where(rng.random((k, n)) < 0.1, full(wt, (k, n)), high).astype(wt), w.scale, np.zeros_like(w.zero), w.axis)
        reach = float(x.scale[0]) * float(w.scale.mean()) * k * 32000 / 128
    y_scale = np.float32(reach * 2 ** rng.uniform(-1, 1))
    if kind == "ties":
        y_scale = np.float32(2.0 ** np.round(np.log2(y_scale)))
    y_zero = np.asarray(zero_of(xt)).astype(xt)
    arrays = [(x.data, False), *((p, True) for p in x.parameters()), (w.data, True)]
    arrays += [(p, True) for p in w.parameters()] + [(y_scale, True), (y_zero, True)]
    y = run("QLinearMatMul", "", arrays, xt, {})
    record("QLinearMatMul", kind, {}, [x, w], Q(y, y_scale, y_zero))


def elementwise(op, kind):
    t = [np.uint8, np.int8][rng.integers(2)]
    draw = power if kind == "ties" else scale
    shape = (1, int(rng.integers(1, 5)), int(rng.integers(2, 8)), int(rng.integers(2, 8)))
    other = [shape, shape, (shape[1], 1, 1), (1,), (1, shape[1], 1, 1)][rng.integers(5)]
    a, b = Q(full(t, shape), draw(-4, 0), zero_of(t)), Q(full(t, other), draw(-4, 0), zero_of(t))
    if op == "QLinearAdd":
        y_scale = np.float32(max(a.scale[0], b.scale[0]) * 2 ** rng.uniform(-0.5, 1.5))
    else:
        y_scale = np.float32(a.scale[0] * b.scale[0] * 100 * 2 ** rng.uniform(-2, 2))
    if kind == "ties":
        y_scale = np.float32(2.0 ** np.round(np.log2(y_scale)))
    y_zero = np.asarray(zero_of(t)).astype(t)
    arrays = [(a.data, False), *((p, True) for p in a.parameters()), (b.data, False)]
    arrays += [(p, True) for p in b.parameters()] + [(y_scale, True), (y_zero, True)]
    y = run(op, MICROSOFT, arrays, t, {})
    record(op, kind, {}, [a, b], Q(y, y_scale, y_zero))


def one_input(op, kind, attributes, domain=MICROSOFT, shape=None, y_parameters=None, recorded=None):
    t = [np.uint8, np.int8][rng.integers(2)]
    shape = shape or (1, int(rng.integers(1, 5)), int(rng.integers(3, 9)), int(rng.integers(3, 9)))
    x = Q(full(t, shape), (power if kind == "ties" else scale)(-6, -2), zero_of(t))
    y_scale, y_zero = np.float32(x.scale[0] * 2 ** rng.uniform(-1.5, 0.5)), np.asarray(zero_of(t)).astype(t)
    if kind == "ties":
        y_scale = np.float32(2.0 ** np.round(np.log2(y_scale)))
    if y_parameters:
        y_scale, y_zero = y_parameters(t)
    arrays = [(x.data, False), *((p, True) for p in x.parameters()), (y_scale, True), (y_zero, True)]
    y = run(op, domain, arrays, t, attributes)
    record(op, kind, attributes if recorded is None else recorded, [x], Q(y, y_scale, y_zero))


def average_pool(kind):
    kernel, stride = [int(k) for k in rng.integers(1, 4, 2)], [int(s) for s in rng.integers(1, 3, 2)]
    pads = [int(rng.integers(0, kernel[0])), int(rng.integers(0, kernel[1]))] * 2
    attributes = {"kernel_shape": kernel, "strides": stride, "pads": pads, "count_include_pad": int(rng.integers(2))}
    one_input("QLinearAveragePool", kind, attributes)


def max_pool():
    t = [np.uint8, np.int8][rng.integers(2)]
    kernel, stride = [int(k) for k in rng.integers(1, 4, 2)], [int(s) for s in rng.integers(1, 3, 2)]
    pads = [int(rng.integers(0, kernel[0])), int(rng.integers(0, kernel[1]))] * 2
    x = Q(full(t, (1, int(rng.integers(1, 4)), 7, 6)), 0.125, zero_of(t))
    attributes = {"kernel_shape": kernel, "strides": stride, "pads": pads, "dilations": [int(d) for d in rng.integers(1, 3, 2)]}
    y = run("MaxPool", "", [(x.data, False)], t, attributes)
    record("MaxPool", "random", attributes, [x], Q(y, x.scale, x.zero))


def concat(kind):
    t = [np.uint8, np.int8][rng.integers(2)]
    axis = int(rng.integers(1, 4))
    shape = [1, int(rng.integers(1, 4)), int(rng.integers(2, 6)), int(rng.integers(2, 6))]
    draw = power if kind == "ties" else scale
    parts = []
    for _ in range(int(rng.integers(2, 4))):
        shape[axis] = int(rng.integers(1, 6))
        parts.append(Q(full(t, shape), draw(-4, 0), zero_of(t)))
    y_scale, y_zero = draw(-4, 0), np.asarray(zero_of(t)).astype(t)
    arrays = [(y_scale, True), (y_zero, True)]
    for part in parts:
        arrays += [(part.data, False), *((p, True) for p in part.parameters())]
    y = run("QLinearConcat", MICROSOFT, arrays, t, {"axis": axis})
    record("QLinearConcat", kind, {"axis": axis}, parts, Q(y, y_scale, y_zero))


def quantize(kind):
    t = [np.uint8, np.int8][rng.integers(2)]
    shape = (1, int(rng.integers(1, 5)), 6, 6)
    y_scale, y_zero = (power if kind == "ties" else scale)(-6, 0), np.asarray(zero_of(t)).astype(t)
    x = (rng.normal(0, 90, shape) * y_scale).astype(np.float32)
    if kind == "ties":
        x = (np.round(x / y_scale) + np.float32(0.5)) * y_scale
    y = run("QuantizeLinear", "", [(x, False), (y_scale, True), (y_zero, True)], t, {})
    record("QuantizeLinear", kind, {}, [Q(x, 1.0, 0)], Q(y, y_scale, y_zero))


def dequantize():
    t = [np.uint8, np.int8][rng.integers(2)]
    channels = int(rng.integers(1, 5))
    scales = np.array([scale() for _ in range(channels)], np.float32)
    x = Q(full(t, (channels, 9)), scales, [zero_of(t) for _ in range(channels)], 0)
    y = run("DequantizeLinear", "", [(x.data, False), *((p, True) for p in x.parameters())], np.float32, {"axis": 0})
    record("DequantizeLinear", "random", {}, [x], Q(y, 1.0, 0))


def in_float(op, kind, attributes):
    """An operator of one or two operands between `DequantizeLinear` and `QuantizeLinear`."""
    t = [np.uint8, np.int8][rng.integers(2)]
    draw = power if kind == "ties" else scale
    shape = (1, int(rng.integers(1, 5)), int(rng.integers(2, 8)), int(rng.integers(2, 8)))
    operands = [Q(full(t, shape), draw(-6, -2), zero_of(t))]
    if op in ("Min", "Max", "PRelu"):
        other = [shape, (shape[1], 1, 1), (1,), (1, shape[1], 1, 1)][rng.integers(4)]
        scale_range = (-7, -5) if op == "PRelu" else (-6, -2)
        operands.append(Q(full(t, other), draw(*scale_range), zero_of(t)))
    y_scale = np.float32(max(x.scale[0] for x in operands) * 2 ** rng.uniform(-1.5, 0.5))
    if op == "Elu":
        y_scale = np.float32(operands[0].scale[0] * 2 ** rng.uniform(-3, 0))
    if kind == "ties":
        y_scale = np.float32(2.0 ** np.round(np.log2(y_scale)))
    y_zero = np.asarray(zero_of(t)).astype(t)
    if op == "GlobalMaxPool":
        y_scale, y_zero = operands[0].scale[0], operands[0].zero.reshape(())
    arrays = []
    for x in operands:
        arrays += [(x.data, False), *((p, True) for p in x.parameters())]
    arrays += [(y_scale, True), (y_zero, True)]
    y = run(op, "", arrays, t, attributes, in_float=True)
    record(op, kind, attributes, operands, Q(y, y_scale, y_zero))


def unit(t):
    return np.float32(1 / 256), np.asarray(0 if t == np.uint8 else -128).astype(t)


def aimed():
    """A 1x1 convolution whose input is at its zero point, so that accumulators are biases, each of which tells the float32
    multiplier `(xs ws) / ys` from one of the formulas that come near it."""
    f32, f64 = np.float32, np.float64
    xs, ws = scale(-8, -2), scale(-9, -4)
    ys = f32(xs * ws * 2.0 ** rng.uniform(15, 20))
    near = [
        lambda acc: acc.astype(f32) * f32(xs * f32(ws / ys)),
        lambda acc: f32(f32(acc.astype(f32) * xs) * ws) / ys,
        lambda acc: acc.astype(f64) * (f64(xs) * f64(ws) / f64(ys)),
    ]
    exact = lambda acc: np.rint(acc.astype(f32) * f32(f32(xs * ws) / ys))
    halves = (rng.integers(-120, 120, 4000) + 0.5) * (f64(ys) / (f64(xs) * f64(ws)))
    acc = (np.rint(halves)[:, None] + np.arange(-2, 3)).astype(np.int64).ravel()
    chosen = []
    for formula in near:
        chosen.extend(acc[np.rint(formula(acc)) != exact(acc)][:16])
    biases = np.array(chosen, np.int32)
    if not biases.size:
        return
    x = Q(np.full((1, 1, 1, 1), 128, np.uint8), xs, 128)
    weight = Q(full(np.int8, (biases.size, 1, 1, 1)), ws, 0)
    y_zero = np.asarray(128).astype(np.uint8)
    arrays = [(x.data, False)] + [(part, True) for part in [*x.parameters(), weight.data, *weight.parameters(), ys, y_zero, biases]]
    y = run("QLinearConv", "", arrays, np.uint8, {})
    expected = np.clip(exact(biases) + 128, 0, 255)
    assert (y.ravel() == expected).all(), "the runtime's formula is another"
    attributes = {"kernel_shape": [1, 1], "strides": [1, 1], "dilations": [1, 1], "pads": [0, 0, 0, 0], "group": 1}
    record("QLinearConv", "aimed", attributes, [x, weight, Q(biases, 1.0, 0)], Q(y, ys, y_zero))


def main():
    for kind, count in [("random", 60), ("ties", 60), ("large", 40)]:
        for _ in range(count):
            conv(kind)
    for kind, count in [("random", 25), ("ties", 25), ("large", 8)]:
        for _ in range(count):
            matmul(kind)
    for kind in ["random", "ties"]:
        for _ in range(30):
            elementwise("QLinearAdd", kind)
            elementwise("QLinearMul", kind)
        for _ in range(15):
            one_input("QLinearGlobalAveragePool", kind, {"channels_last": 0}, recorded={})
            average_pool(kind)
            concat(kind)
        for _ in range(10):
            quantize(kind)
            one_input("QLinearLeakyRelu", kind, {"alpha": float(np.float32(rng.choice([0.01, 0.1, 0.25])))})
    for _ in range(15):
        max_pool()
        one_input("QLinearSoftmax", "random", {"axis": 1, "opset": 13}, shape=(3, int(rng.integers(2, 30))),
                  y_parameters=unit, recorded={"axis": 1})
    for _ in range(10):
        dequantize()
        one_input("QLinearSigmoid", "random", {}, y_parameters=unit)
    # What is drawn after these stays as it was.
    state = rng.bit_generator.state
    for kind in ["random", "ties"]:
        for _ in range(20):
            for op in ["Min", "Max", "PRelu", "GlobalMaxPool"]:
                in_float(op, kind, {})
            in_float("Elu", kind, {"alpha": float(np.float32(rng.choice([0.25, 0.7, 1.0, 1.5])))})
    for _ in range(30):
        aimed()
    rng.bit_generator.state = state
    save("operator_cases.npz")


# What else runs on a machine's host: floats, and integers that ONNX computes in floats between DequantizeLinear and
# QuantizeLinear or moves as they are.

SHAPE = (2, 3, 4, 5)
UNARY = {
    "Relu": {},
    "LeakyRelu": {"alpha": 0.25},
    "Sigmoid": {},
    "Tanh": {},
    "HardSigmoid": {"alpha": 0.25, "beta": 0.5},
    "HardSwish": {},
}


def reals(shape, spread=2.0):
    return rng.normal(0, spread, shape).astype(np.float32)


def float_case(op, operands, attributes=None, parameters=(), recorded=None):
    """`parameters` are inputs of the ONNX node that are attributes of ours."""
    arrays = [(operand, False) for operand in operands] + [(parameter, True) for parameter in parameters]
    y = run(op, "", arrays, np.float32, attributes or {})
    inputs = [Q(operand, 1.0, 0) for operand in operands]
    record(op, "float", attributes or {} if recorded is None else recorded, inputs, Q(y, 1.0, 0))


def floats():
    for op, attributes in UNARY.items():
        float_case(op, [reals(SHAPE)], attributes)
    limits = [np.float32(-0.5), np.float32(1.5)]
    float_case("Clip", [reals(SHAPE)], parameters=limits, recorded={"low": -0.5, "high": 1.5})
    for op in ["Add", "Sub", "Mul", "Div"]:
        for other in [SHAPE, (5,), (3, 1, 1), (1, 3, 4, 1), ()]:
            float_case(op, [reals(SHAPE), reals(other)])
        float_case(op, [reals((4, 1)), reals((2, 1, 5))])
    window = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}
    for groups, dilations in [(1, [1, 1]), (3, [1, 2])]:
        attributes = {**window, "dilations": dilations, "group": groups}
        operands = [reals((2, 6, 8, 7)), reals((6, 6 // groups, 3, 2), 0.5), reals((6,))]
        float_case("Conv", operands, attributes)
        float_case("Conv", operands[:2], attributes)
    for shape in [(4, 17), (2, 3, 17)]:
        float_case("MatMul", [reals(shape), reals((17, 6))])
    parameters = [reals((3,)), reals((3,)), reals((3,)), np.abs(reals((3,)))]
    float_case("BatchNormalization", [reals(SHAPE), *parameters], {"epsilon": 0.001})
    float_case("MaxPool", [reals((2, 3, 7, 6))], {**window, "dilations": [1, 2]})
    for include in [0, 1]:
        float_case("AveragePool", [reals((2, 3, 7, 6))], {**window, "count_include_pad": include})
    float_case("GlobalAveragePool", [reals(SHAPE)])
    for axes, keep in [([1], 1), ([0, 3], 0), ([2, 3], 1)]:
        float_case("ReduceMean", [reals(SHAPE)], {"axes": axes, "keepdims": keep})
    for axis in range(4):
        float_case("Softmax", [reals(SHAPE, 4.0)], {"axis": axis})
        parts = [list(SHAPE) for _ in range(3)]
        parts[1][axis], parts[2][axis] = 1, 2
        float_case("Concat", [reals(part) for part in parts], {"axis": axis})


def moves(make, dtype, parameters):
    """Operators that only move elements, on any type; `make(shape)` gives a tensor, `parameters` its scale and zero."""
    def case(op, x, attributes, bound, recorded):
        arrays = [(x, False)] + [(parameter, True) for parameter in bound]
        y = run(op, "", arrays, dtype, attributes)
        kind = "float" if dtype == np.float32 else "moved"
        record(op, kind, recorded, [Q(x, *parameters)], Q(y, *parameters))

    for shape in [(6, 20), (2, 3, 20), (120,), (5, 4, 3, 2)]:
        case("Reshape", make(SHAPE), {}, [np.array(shape, np.int64)], {})
    for perm in [[0, 2, 3, 1], [3, 1, 0, 2]]:
        case("Transpose", make(SHAPE), {"perm": perm}, [], {"perm": perm})
    before, after, steps = [0, 1, 2, 0], [1, 0, 0, 3], 4
    scale, zero = np.float32(parameters[0]), int(parameters[1])
    value = np.asarray(zero + steps if dtype != np.float32 else steps * scale, dtype)
    recorded = {"before": before, "after": after, "value": float(steps * scale)}
    case("Pad", make(SHAPE), {}, [np.array(before + after, np.int64), value], recorded)


def between(op, attributes, parameters=(), recorded=None, shape=SHAPE):
    """A float operator between DequantizeLinear and QuantizeLinear, as it stands: nothing is fused."""
    t = [np.uint8, np.int8][rng.integers(2)]
    x, y_scale, y_zero = Q(full(t, shape), scale(-6, -3), zero_of(t)), scale(-7, -4), np.asarray(zero_of(t)).astype(t)
    names = ["x", *(f"p{index}" for index in range(len(parameters)))]
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "xs", "xz"], ["x"]),
        helper.make_node(op, names, ["y"], **attributes),
        helper.make_node("QuantizeLinear", ["y", "ys", "yz"], ["out"]),
    ]
    bound = {"xs": x.scale[0], "xz": x.zero[0], "ys": y_scale, "yz": y_zero, **dict(zip(names[1:], parameters))}
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(t))
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("q", kind, shape)], [helper.make_tensor_value_info("out", kind, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in bound.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    y = session.run(["out"], {"q": x.data})[0]
    record(op, "between", attributes if recorded is None else recorded, [x], Q(y, y_scale, y_zero))


def host():
    floats()
    moves(reals, np.float32, (1.0, 0))
    for t, zero in [(np.uint8, 100), (np.int8, -7)]:
        moves(lambda shape, t=t: full(t, shape), t, (np.float32(0.25), zero))
    for _ in range(3):
        for op, attributes in UNARY.items():
            between(op, attributes)
        between("Clip", {}, [np.float32(-0.5), np.float32(1.5)], {"low": -0.5, "high": 1.5})
        for axes, keep in [([1], 1), ([0, 3], 0), ([2, 3], 1)]:
            between("ReduceMean", {"axes": axes, "keepdims": keep})
    save("host_cases.npz")


def save(name):
    """Writes what was recorded since the last file."""
    text = "[\n" + ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases) + "\n]\n"
    path = pathlib.Path(__file__).with_name(name)
    np.savez(path, cases=np.frombuffer(text.encode(), np.uint8), data=np.concatenate(blobs))
    print(f"{path.name}: {len(cases)} cases, {path.stat().st_size} bytes, {len(text)} of them text")
    cases.clear()
    blobs.clear()


main()
host()
