"""Writes the layer lists of this directory: topologies from the literature, scales from one calibration run.

    python3 models/make_layer_lists.py [name ...]

Needs numpy. The topologies stand below. The scales come from executing each network once on a smooth random image with
the weights that the importer gives it (`src/import/ron.rs`, `src/import/synthetic.rs`): the base scale of a layer's
weights makes the sums before the activation have a deviation of 1 (1.25 in front of a ReLU6), the output's scale makes
the stored values have a deviation of 30 steps of 256 (a ReLU6 has 6/255). So nothing saturates and nothing vanishes, at
any depth. Every random number is seeded; numbers are rounded to four digits.
"""

import pathlib
import sys
import zlib

import numpy as np

SIGMA = np.float32(127 / 4.5)  # deviation of weights, in steps
SPREAD = 0.5  # of the scales of output channels
STEPS = 30.0  # deviation of outputs, in steps
INPUT_SCALE, INPUT_ZERO = 0.01866, 114  # ImageNet's normalization: -2.12..2.64 in 256 steps


class Net:
    """A layer list under construction; every method adds a layer and gives its name."""

    def __init__(self, name, shape, head):
        self.name, self.shape, self.head = name, shape, head
        self.layers = []  # (name, from, kind, attributes); blank lines are None

    def blank(self):
        self.layers.append(None)

    def add(self, name, kind, source=None, **attributes):
        previous = next((layer[0] for layer in reversed(self.layers) if layer), "input")
        source = [previous] if source is None else [source] if isinstance(source, str) else source
        self.layers.append((name, source, kind, attributes, source != [previous]))
        return name

    def conv(self, name, out, kernel, stride=1, pad=0, groups=1, act=None, source=None):
        return self.add(name, "Conv", source, out=out, kernel=kernel, stride=stride, pad=pad, groups=groups, activation=act)


def resnet50():
    net = Net("resnet50", (3, 224, 224), """
ResNet-50 v1.5 (He et al. 2015; the stride of a stage is on the 3x3 convolution, as in torchvision and MLPerf),
batch normalization folded.""")
    net.conv("conv1", 64, 7, 2, 3, act="Relu")
    x = net.add("maxpool", "MaxPool", kernel=3, stride=2, pad=1)
    for stage, (blocks, width) in enumerate([(3, 64), (4, 128), (6, 256), (3, 512)], 1):
        for block in range(blocks):
            net.blank()
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            net.conv(f"{name}.conv1", width, 1, act="Relu", source=x)
            net.conv(f"{name}.conv2", width, 3, stride, 1, act="Relu")
            y = net.conv(f"{name}.conv3", 4 * width, 1)
            if block == 0:
                x = net.conv(f"{name}.downsample", 4 * width, 1, stride, source=x)
            x = net.add(f"{name}.add", "Add", [y, x], activation="Relu")
    net.blank()
    net.add("avgpool", "GlobalAvgPool")
    net.add("flatten", "Flatten")
    net.add("fc", "FullyConnected", out=1000)
    return net


def vgg16():
    net = Net("vgg16", (3, 224, 224), """
VGG-16, configuration D (Simonyan and Zisserman 2014).""")
    for stage, (depth, width) in enumerate([(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)], 1):
        for layer in range(depth):
            net.conv(f"conv{stage}_{layer + 1}", width, 3, 1, 1, act="Relu")
        net.add(f"pool{stage}", "MaxPool", kernel=2, stride=2)
    net.blank()
    net.add("flatten", "Flatten")
    net.add("fc6", "FullyConnected", out=4096, activation="Relu")
    net.add("fc7", "FullyConnected", out=4096, activation="Relu")
    net.add("fc8", "FullyConnected", out=1000)
    return net


def alexnet():
    net = Net("alexnet", (3, 227, 227), """
AlexNet as published (Krizhevsky et al. 2012): an input of 227x227, and two groups in conv2, conv4 and conv5, which
once were two graphics cards. Local response normalization is left out. (torchvision's `alexnet` is another one: no
groups, fewer channels.)""")
    net.conv("conv1", 96, 11, 4, act="Relu")
    net.add("pool1", "MaxPool", kernel=3, stride=2)
    net.conv("conv2", 256, 5, 1, 2, 2, act="Relu")
    net.add("pool2", "MaxPool", kernel=3, stride=2)
    net.conv("conv3", 384, 3, 1, 1, act="Relu")
    net.conv("conv4", 384, 3, 1, 1, 2, act="Relu")
    net.conv("conv5", 256, 3, 1, 1, 2, act="Relu")
    net.add("pool5", "MaxPool", kernel=3, stride=2)
    net.blank()
    net.add("flatten", "Flatten")
    net.add("fc6", "FullyConnected", out=4096, activation="Relu")
    net.add("fc7", "FullyConnected", out=4096, activation="Relu")
    net.add("fc8", "FullyConnected", out=1000)
    return net


def mobilenet_v2():
    net = Net("mobilenet_v2", (3, 224, 224), """
MobileNetV2 of width 1.0 (Sandler et al. 2018), batch normalization folded.""")
    net.conv("stem", 32, 3, 2, 1, act="Relu6")
    channels, block = 32, 0
    x = "stem"
    for expand, out, repeat, first in [
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ]:
        for index in range(repeat):
            net.blank()
            stride = first if index == 0 else 1
            name = f"block{block}"
            if expand > 1:
                net.conv(f"{name}.expand", channels * expand, 1, act="Relu6", source=x)
            net.add(f"{name}.depthwise", "Depthwise", kernel=3, stride=stride, pad=1, activation="Relu6")
            y = net.conv(f"{name}.project", out, 1)
            residual = stride == 1 and channels == out
            x = net.add(f"{name}.add", "Add", [y, x]) if residual else y
            channels, block = out, block + 1
    net.blank()
    net.conv("head", 1280, 1, act="Relu6", source=x)
    net.add("avgpool", "GlobalAvgPool")
    net.add("flatten", "Flatten")
    net.add("fc", "FullyConnected", out=1000)
    return net


def googlenet():
    net = Net("googlenet", (3, 224, 224), """
GoogLeNet, Inception v1 (Szegedy et al. 2014), for inference: without the auxiliary classifiers, without local
response normalization. Pools round up, which is the padding at the bottom and on the right. (torchvision's has a 3x3
in place of each 5x5.)""")
    up = [0, 0, 1, 1]
    net.conv("conv1", 64, 7, 2, 3, act="Relu")
    net.add("pool1", "MaxPool", kernel=3, stride=2, pad=up)
    net.conv("conv2.reduce", 64, 1, act="Relu")
    net.conv("conv2", 192, 3, 1, 1, act="Relu")
    x = net.add("pool2", "MaxPool", kernel=3, stride=2, pad=up)
    table = {
        "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64),
        "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64),
        "4d": (112, 144, 288, 32, 64, 64), "4e": (256, 160, 320, 32, 128, 128),
        "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128),
    }
    for name, (one, reduce3, three, reduce5, five, pool) in table.items():
        net.blank()
        branches = [net.conv(f"{name}.1x1", one, 1, act="Relu", source=x)]
        net.conv(f"{name}.3x3.reduce", reduce3, 1, act="Relu", source=x)
        branches.append(net.conv(f"{name}.3x3", three, 3, 1, 1, act="Relu"))
        net.conv(f"{name}.5x5.reduce", reduce5, 1, act="Relu", source=x)
        branches.append(net.conv(f"{name}.5x5", five, 5, 1, 2, act="Relu"))
        net.add(f"{name}.pool", "MaxPool", x, kernel=3, stride=1, pad=1)
        branches.append(net.conv(f"{name}.pool.project", pool, 1, act="Relu"))
        x = net.add(f"{name}.concat", "Concat", branches)
        if name in ("3b", "4e"):
            x = net.add(f"pool{name[0]}", "MaxPool", kernel=3, stride=2, pad=up)
    net.blank()
    net.add("avgpool", "GlobalAvgPool")
    net.add("flatten", "Flatten")
    net.add("fc", "FullyConnected", out=1000)
    return net


def seed(*parts):
    """FNV-1a over the parts, each closed by a zero byte."""
    value = 0xCBF29CE484222325
    for byte in b"".join(part.encode() + b"\0" for part in parts):
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def hashes(seed, count):
    """splitmix64 at the counters 0 to `count - 1`."""
    with np.errstate(over="ignore"):
        bits = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ bits >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ bits >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        return bits ^ bits >> np.uint64(31)


def lanes(bits):
    """Four numbers of 16 bits of each hash, the lowest first."""
    return (bits[:, None] >> np.array([0, 16, 32, 48], np.uint64)).astype(np.uint16)


def quantiles(sigma):
    """The importer's int8 weight at each of 2^16 ranks: rounded quantiles of the sum of twelve bytes."""
    ways = [1]
    for _ in range(12):
        ways = [sum(ways[max(0, at - 255) : at + 1]) for at in range(len(ways) + 255)]
    table, below = np.empty(2**16, np.float32), 0
    start = 0
    for total, count in enumerate(ways):
        below += count
        end = (below + 2**79) >> 80
        table[start:end] = np.clip(np.rint((total - 1530) / 256 * float(sigma)), -127, 127)
        start = end
    return table


QUANTILES = quantiles(SIGMA)


def weights(network, layer, shape):
    """Weights, relative scales of the output channels and biases in steps, as the importer makes them."""
    count = int(np.prod(shape))
    w = QUANTILES[lanes(hashes(seed(network, layer, "weight"), -(-count // 4))).reshape(-1)[:count]].reshape(shape)
    k = (hashes(seed(network, layer, "scale"), shape[0]) & np.uint64(255)).astype(np.float32) - 128
    channel = 1 + np.float32(SPREAD) * (k / 128)
    sums = lanes(hashes(seed(network, layer, "bias"), 2 * shape[0])).reshape(shape[0], 8).sum(axis=1, dtype=np.int64)
    bias = (sums - 262140) / 53509.9 * 8 * SIGMA * np.sqrt(np.float32(w[0].size))
    return w, channel, bias


def digits(number):
    """Four significant digits."""
    return float(f"{number:.3e}")


def image(shape, generator):
    """A smooth random image, in real values of the input."""
    channels, rows, columns = shape
    coarse = generator.normal(size=(channels, 9, 9)) * 0.5 + generator.normal(size=(9, 9))
    y, x = np.linspace(0, 7.99, rows), np.linspace(0, 7.99, columns)
    (yi, yf), (xi, xf) = (divmod(y, 1), divmod(x, 1))
    yi, xi = yi.astype(int)[:, None], xi.astype(int)[None, :]
    yf, xf = yf[:, None], xf[None, :]
    top = coarse[:, yi, xi] * (1 - xf) + coarse[:, yi, xi + 1] * xf
    bottom = coarse[:, yi + 1, xi] * (1 - xf) + coarse[:, yi + 1, xi + 1] * xf
    smooth = top * (1 - yf) + bottom * yf + generator.normal(size=shape) * 0.1
    smooth = (smooth - smooth.mean()) / smooth.std() + 0.25
    return quantized(smooth, INPUT_SCALE, INPUT_ZERO)


def quantized(x, scale, zero):
    """To the nearest value that the type has."""
    return ((np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale).astype(np.float32)


def pads(pad):
    return [pad] * 4 if isinstance(pad, int) else pad


def windows(x, kernel, stride, pad, fill=0.0):
    """[C, P, Q, R, S]."""
    top, left, bottom, right = pads(pad)
    x = np.pad(x, ((0, 0), (top, bottom), (left, right)), constant_values=fill)
    return np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), axis=(1, 2))[:, ::stride, ::stride]


def convolution(x, w, stride, pad, groups):
    out, _, kernel, _ = w.shape
    taps = windows(x, kernel, stride, pad)
    channels, p, q = taps.shape[:3]
    if groups == channels == out:
        return np.einsum("cpqrs,crs->cpq", taps, w[:, 0], optimize=False)
    parts = []
    for group in range(groups):
        part = taps[group * channels // groups : (group + 1) * channels // groups]
        matrix = part.transpose(0, 3, 4, 1, 2).reshape(-1, p * q)
        parts.append(w[group * out // groups : (group + 1) * out // groups].reshape(out // groups, -1) @ matrix)
    return np.concatenate(parts).reshape(out, p, q)


def calibrate(net):
    """Executes the network; gives each layer's numbers, and the totals of products and of weights."""
    generator = np.random.default_rng(zlib.crc32(net.name.encode()))
    tensors = {"input": (image(net.shape, generator), INPUT_SCALE)}
    numbers, macs, count = {}, 0, 0
    for name, source, kind, attributes, _ in filter(None, net.layers):
        (x, x_scale), *others = (tensors[one] for one in source)
        activation = attributes.get("activation")
        zero = 0 if activation else 118 + zlib.crc32(f"{net.name} {name}".encode()) % 21
        record = {}
        if kind in ("Conv", "Depthwise", "FullyConnected"):
            groups = x.shape[0] if kind == "Depthwise" else attributes.get("groups", 1)
            out = x.shape[0] if kind == "Depthwise" else attributes["out"]
            kernel = attributes.get("kernel", 1)
            w, channel, bias = weights(net.name, name, (out, x.shape[0] // groups, kernel, kernel))
            w = w * channel[:, None, None, None]
            image_x = x.reshape(x.shape[0], *(x.shape[1:] or (1, 1)))
            y = convolution(image_x, w, attributes.get("stride", 1), attributes.get("pad", 0), groups)
            products = w[0].size
            macs += y.size * products
            count += w.size
            bias = bias * x_scale * channel
            y = y + bias[:, None, None]
            record["weight"] = digits((1.25 if activation == "Relu6" else 1.0) / y.std())
            y = (y * record["weight"]).reshape(y.shape if len(x.shape) > 1 else -1)
        elif kind == "Add":
            y = x + others[0][0]
        elif kind == "MaxPool":
            y = windows(x, attributes["kernel"], attributes["stride"], attributes.get("pad", 0), -np.inf).max(axis=(3, 4))
            tensors[name] = (y, x_scale)
            continue
        elif kind == "GlobalAvgPool":
            y, zero = x.mean(axis=(1, 2), keepdims=True), 0
        elif kind == "Concat":
            y, zero = np.concatenate([x] + [other[0] for other in others]), 0
        else:  # Flatten
            tensors[name] = (x.reshape(-1), x_scale)
            continue
        if activation == "Relu6":
            y = y.clip(0, 6)
            record["scale"] = digits(6 / 255)
        else:
            y = np.maximum(y, 0) if activation == "Relu" else y
            # Where the mean lies far from zero, nearly all must fit the range all the same.
            record["scale"] = max(digits(y.std() / STEPS), digits(np.quantile(y, 0.999) / 250))
        if zero:
            record["zero"] = zero
        y = quantized(y, record["scale"], zero)
        steps, clipped = y.std() / record["scale"], np.mean((y / record["scale"] + zero) >= 255)
        print(f"{net.name:13} {name:22} {str(y.shape):18} {steps:6.1f} steps, {clipped:7.3%} at the top", file=sys.stderr)
        tensors[name] = (y, record["scale"])
        numbers[name] = record
    return numbers, macs, count


def text(net):
    numbers, macs, count = calibrate(net)
    rows = []
    for layer in net.layers:
        if layer is None:
            rows.append(None)
            continue
        name, source, kind, attributes, stated = layer
        defaults = {"stride": 1, "pad": 0, "groups": 1, "activation": None}
        inner = ", ".join(f"{key}: {value}" for key, value in attributes.items() if value != defaults.get(key, ""))
        plain = kind in ("GlobalAvgPool", "Concat", "Flatten")
        quoted = [f'"{one}"' for one in source]
        fields = [f'name: "{name}"']
        if stated:
            fields.append(f"from: {quoted[0]}" if len(quoted) == 1 else f"from: [{', '.join(quoted)}]")
        fields.append(f"op: {kind}" if plain else f"op: {kind}({inner})")
        record = numbers.get(name, {})
        fields += [f"{key}: {record[key]!r}" for key in ("weight", "scale", "zero") if key in record]
        rows.append(f"        ({', '.join(fields)}),")
    head = "\n".join(f"// {line}" for line in net.head.strip().splitlines())
    body = "\n".join("" if row is None else row for row in rows)
    shape = ", ".join(map(str, net.shape))
    return f"""{head}
// {macs:,} multiply-accumulates an image, {count:,} weights (biases not counted).
// Written by `make_layer_lists.py`, which says where the scales come from.
(
    name: "{net.name}",
    input: (shape: [{shape}], scale: {INPUT_SCALE}, zero: {INPUT_ZERO}),
    layers: [
{body}
    ],
)
"""


NETWORKS = [alexnet, googlenet, mobilenet_v2, resnet50, vgg16]

if __name__ == "__main__":
    for network in NETWORKS:
        if not sys.argv[1:] or network.__name__ in sys.argv[1:]:
            path = pathlib.Path(__file__).parent / f"{network.__name__}.ron"
            path.write_text(text(network()), encoding="utf-8")
