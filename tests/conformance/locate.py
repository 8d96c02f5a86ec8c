"""Finds the first layer of a quantized model where a run differs from ONNX Runtime.

    python locate.py MODEL.onnx MODEL.in.npz [PRESET]

Each quantized tensor in turn is made the model's output: of a QOperator model any, of a QDQ model only the results of
QuantizeLinear, since exposing others changes what the runtime fuses. Use the interpreter of target/conformance/venv.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx

from execute import runtime

ROOT = pathlib.Path(__file__).resolve().parents[2]


def cut(model, name):
    """The model up to a value, which becomes its only output."""
    part = onnx.ModelProto()
    part.CopyFrom(model)
    producers = {output: node for node in model.graph.node for output in node.output}
    wanted, stack = set(), [name]
    while stack:
        node = producers.get(stack.pop())
        if node is not None and node.output[0] not in wanted:
            wanted.add(node.output[0])
            stack.extend(node.input)
    kept = [node for node in model.graph.node if node.output[0] in wanted]
    del part.graph.node[:]
    part.graph.node.extend(kept)
    del part.graph.output[:]
    part.graph.output.append(onnx.ValueInfoProto(name=name))
    used = {value for node in kept for value in node.input}
    constants = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del part.graph.initializer[:]
    part.graph.initializer.extend(constants)
    return part


def typed(part, name):
    """The output's type as the runtime needs it; from inference, or 8 bits by trial."""
    for element in (onnx.TensorProto.UINT8, onnx.TensorProto.INT8, onnx.TensorProto.FLOAT):
        part.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info(name, element, None))
        yield part.SerializeToString()


def main():
    path, data = pathlib.Path(sys.argv[1]), sys.argv[2]
    preset = sys.argv[3] if len(sys.argv) > 3 else "edge_16x16"
    model, inputs = onnx.load(path), dict(np.load(data))
    layers = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    if any(node.op_type.startswith(("QLinear", "QGemm")) for node in model.graph.node):
        layers = [node for node in model.graph.node if node.op_type != "DequantizeLinear"]
    signed = "s8s8" in path.name
    with tempfile.TemporaryDirectory() as folder:
        target, expected = pathlib.Path(folder, "part.onnx"), pathlib.Path(folder, "expected.npz")
        for node in layers:
            name = node.output[0]
            for serialized in typed(cut(model, name), name):
                target.write_bytes(serialized)
                try:
                    [result] = runtime(str(target), signed).run([name], inputs)
                    break
                except Exception:  # the bindings' own classes have no common base
                    continue
            else:
                print(f"{node.op_type} {name}: the runtime does not run it alone")
                continue
            np.savez(expected, **{name: result})
            binary = next(ROOT / f"target/{kind}/systole" for kind in ("release", "debug") if (ROOT / f"target/{kind}/systole").exists())
            command = [binary, "run", preset, target, "--data", data, "--expect", expected, "--json"]
            done = subprocess.run(command, capture_output=True, text=True)
            if not done.stdout:
                print(f"{node.op_type} {name}: {done.stderr.strip().splitlines()[0]}")
                continue
            expectation = json.loads(done.stdout)["expectation"]
            print(f"{node.op_type} {name}: {expectation['mismatches']} of {expectation['compared']} differ")
            if expectation["mismatches"]:
                return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
