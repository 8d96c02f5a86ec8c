"""Products of two activations, and attention blocks, with what ONNX Runtime computes for them.

    python products.py FOLDER [--count COUNT] [--first-seed SEED]

The files are those of `execute.py`. Products come in the forms `QLinearMatMul` and QDQ, of rank 2 to 4 with batches that
broadcast, with zero points on both sides. An attention block is quantized by hand in QDQ form; its outputs are all that it
computes, so that each integer product can be compared by itself.
"""

import argparse
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from execute import runtime

TYPES = {"u8": (TensorProto.UINT8, np.uint8), "s8": (TensorProto.INT8, np.int8)}


class Graph:
    """Nodes and constants; integers have a scale and a zero point of their own."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.constants = [], []

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def parameters(self, kind, scale, zero=None):
        dtype = TYPES[kind][1]
        info = np.iinfo(dtype)
        zero = int(self.rng.integers(info.min, info.max + 1)) if zero is None else zero
        return [self.constant(np.float32(scale)), self.constant(np.asarray(zero, dtype))]

    def node(self, op, inputs, **attributes):
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name + "_y"], name=name, **attributes))
        return name + "_y"

    def qdq(self, x, kind, scale, zero=None):
        parameters = self.parameters(kind, scale, zero)
        return self.node("DequantizeLinear", [self.node("QuantizeLinear", [x, *parameters]), *parameters])

    def model(self, inputs, outputs):
        graph = helper.make_graph(self.nodes, "products", inputs, outputs, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def save(folder, name, model, samples, signed):
    onnx.save(model, folder / f"{name}.onnx")
    try:
        session = runtime(str(folder / f"{name}.onnx"), signed)
        names = [output.name for output in session.get_outputs()]
        results = session.run(names, samples)
    except Exception as error:  # the bindings' own classes have no common base
        print(f"the runtime cannot run {name}: {str(error).splitlines()[0][:200]}")
        (folder / f"{name}.onnx").unlink()
        return
    np.savez(folder / f"{name}.in.npz", **samples)
    np.savez(folder / f"{name}.out.npz", **dict(zip(names, results)))


def shapes(rng):
    m, k, n = (int(size) for size in rng.integers(1, 48, 3))
    rank = int(rng.integers(2, 5))
    batch = [int(size) for size in rng.integers(1, 5, rank - 2)]
    own = lambda: [1 if rng.integers(4) == 0 else dim for dim in batch]
    a, b = own(), own()
    # At most one of them has fewer dimensions.
    if rank > 2 and rng.integers(3) == 0:
        b = b[1:]
    return a + [m, k], b + [k, n]


def product(folder, seed):
    graph = Graph(seed)
    rng = graph.rng
    a, b = shapes(rng)
    kinds = [["u8", "u8"], ["u8", "s8"], ["s8", "s8"]][seed % 3]
    signed = kinds == ["s8", "s8"]
    result = kinds[0]
    k = a[-1]
    # The first dimension of inputs and outputs counts samples: operands get their shapes behind it.
    flat = [1, int(np.prod(a))], [1, int(np.prod(b))]
    shaped = lambda name, shape: graph.node("Reshape", [name, graph.constant(np.asarray(shape, np.int64))])
    if seed % 2 == 0:
        inputs = [helper.make_tensor_value_info(name, TYPES[kind][0], shape) for name, kind, shape in zip("ab", kinds, flat)]
        # Seven bits where the runtime's kernels of signed factors would saturate: its session option against that is
        # for constant weights.
        samples = {}
        for name, kind, shape in zip("ab", kinds, flat):
            low, high = (-64, 64) if kind == "s8" else (0, 256)
            samples[name] = rng.integers(low, high, shape).astype(TYPES[kind][1])
        operands = [shaped("a", a), *graph.parameters(kinds[0], 0.02), shaped("b", b), *graph.parameters(kinds[1], 0.03)]
        y = shaped(graph.node("QLinearMatMul", operands + graph.parameters(result, 0.06 * np.sqrt(k))), [1, -1])
        output = helper.make_tensor_value_info(y, TYPES[result][0], None)
        form = "qop"
    else:
        inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in zip("ab", flat)]
        samples = {name: rng.normal(size=shape).astype(np.float32) for name, shape in zip("ab", flat)}
        limit = 0.06 if signed else 0.03
        zero = 3 if signed else None
        operands = [shaped(graph.qdq(x, kind, limit, zero), shape) for x, kind, shape in zip("ab", kinds, (a, b))]
        y = shaped(graph.qdq(graph.node("MatMul", operands), result, 0.05 * np.sqrt(k)), [1, -1])
        output = helper.make_tensor_value_info(y, TensorProto.FLOAT, None)
        form = "qdq"
    save(folder, f"product{seed}_{form}_{kinds[0]}{kinds[1]}", graph.model(inputs, [output]), samples, signed)


def attention(folder, seed):
    """Projections, heads, scores with scale and mask, softmax, values, projection, residual."""
    graph = Graph(seed)
    rng = graph.rng
    heads, depth, length = int(rng.integers(1, 5)), int(rng.integers(4, 17)), int(rng.integers(4, 33))
    width = heads * depth
    shape = lambda *dims: graph.constant(np.asarray(dims, np.int64))
    weights = lambda: graph.node(
        "DequantizeLinear",
        [
            graph.constant(np.clip(np.round(rng.normal(size=(width, width)) * 30), -127, 127).astype(np.int8)),
            graph.constant(np.float32(1 / (30 * np.sqrt(width)))),
            graph.constant(np.int8(0)),
        ],
    )
    x = graph.qdq("x", "u8", 6 / 255, 128)
    outputs = []

    def watched(value):
        outputs.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, None))
        return value

    def split(perm):
        projected = watched(graph.qdq(graph.node("MatMul", [x, weights()]), "u8", 8 / 255, 128))
        return graph.node("Transpose", [graph.node("Reshape", [projected, shape(1, length, heads, depth)])], perm=perm)

    q, k, v = split([0, 2, 1, 3]), split([0, 2, 3, 1]), split([0, 2, 1, 3])
    scores = watched(graph.qdq(graph.node("MatMul", [q, k]), "u8", np.sqrt(depth) * 8 / 255, 120))
    factor = graph.node("DequantizeLinear", [graph.constant(np.asarray(255, np.uint8)), *graph.parameters("u8", 1 / (255 * np.sqrt(depth)), 0)])
    scaled = graph.qdq(graph.node("Mul", [scores, factor]), "u8", 8 / 255, 120)
    mask = np.where(np.tri(length, dtype=bool), 255, 0).astype(np.uint8)[None, None]
    mask = graph.node("DequantizeLinear", [graph.constant(mask), *graph.parameters("u8", 6 / 255, 255)])
    masked = watched(graph.qdq(graph.node("Add", [scaled, mask]), "u8", 14 / 255, 180))
    mixed = watched(graph.qdq(graph.node("Softmax", [masked], axis=-1), "u8", 1 / 256, 0))
    values = watched(graph.qdq(graph.node("MatMul", [mixed, v]), "u8", 8 / 255, 128))
    joined = graph.node("Reshape", [graph.node("Transpose", [values], perm=[0, 2, 1, 3]), shape(1, length, width)])
    projected = watched(graph.qdq(graph.node("MatMul", [joined, weights()]), "u8", 8 / 255, 128))
    watched(graph.qdq(graph.node("Add", [x, projected]), "u8", 10 / 255, 128))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, length, width])]
    samples = {"x": rng.normal(size=(1, length, width)).astype(np.float32)}
    last = outputs[-1:]
    save(folder, f"attention{seed}", graph.model(inputs, last), samples, False)
    save(folder, f"attention{seed}_watched", graph.model(inputs, outputs), samples, False)


def main(make, count):
    """Makes the networks of the seeds that the command line asks for, `count` by default."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=count)
    parser.add_argument("--first-seed", type=int, default=0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for seed in range(options.first_seed, options.first_seed + options.count):
        make(options.folder, seed)


def product_or_attention(folder, seed):
    product(folder, seed)
    if seed % 10 == 0:
        attention(folder, seed)


if __name__ == "__main__":
    main(product_or_attention, 60)
