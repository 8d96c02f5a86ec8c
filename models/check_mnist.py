"""Checks the committed digit classifier with ONNX Runtime: accuracy in float, and after static int8 quantization
(unsigned activations, signed weights with a scale a channel). Prints the numbers of README.md.

    venv/bin/python check_mnist.py
"""

import pathlib
import tempfile

import numpy as np
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

HERE = pathlib.Path(__file__).parent


class Images(CalibrationDataReader):
    """One image at a time."""

    def __init__(self, images):
        self.left = iter(images)

    def get_next(self):
        image = next(self.left, None)
        return None if image is None else {"image": image[None]}


def accuracy(model):
    """Share of the test images that a model file gets right."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # Without it, products of unsigned and signed bytes saturate in 16 bits on x86 processors that lack VNNI.
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    test = np.load(HERE / "mnist_test.npz")
    (logits,) = session.run(["logits"], {"image": test["image"]})
    return (logits.argmax(-1) == test["labels"]).mean()


def main():
    model = HERE / "mnist_cnn.onnx"
    print(f"float: {accuracy(model):.2%}")
    with tempfile.TemporaryDirectory() as folder:
        folded, quantized = pathlib.Path(folder) / "folded.onnx", pathlib.Path(folder) / "int8.onnx"
        quant_pre_process(str(model), str(folded), skip_symbolic_shape=True)
        quantize_static(
            str(folded),
            str(quantized),
            Images(np.load(HERE / "mnist_calibrate.npz")["image"]),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        print(f"int8:  {accuracy(quantized):.2%}")


if __name__ == "__main__":
    main()
