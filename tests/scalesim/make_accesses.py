"""Asks SCALE-Sim 3.0.0 about small, odd layers in CALC mode and prints its reports as one table.

    python make_accesses.py PYTHON LAYOUT >accesses.csv

PYTHON has `scalesim==3.0.0` and `numpy<2.4`; LAYOUT is any layout file that SCALE-Sim takes (it insists on one and does
not act on it in this mode). Layers are random with fixed seeds: small buffers, ragged folds, strides that leave a
remainder, arrays of one row or one column. `tests/scalesim/run` makes the environment.
"""

import csv
import pathlib
import random
import subprocess
import sys
import tempfile

ARRAYS = [(8, 16), (4, 4), (5, 9), (16, 3), (2, 2), (7, 1), (1, 6), (3, 40), (130, 2)]
RUNS = 27
LAYERS = 5
LEVELS = [f"{level}_{operand}_{what}" for level in ("sram", "dram") for operand in ("ifmap", "filter", "ofmap")
          for what in ("start", "stop", "count")]
HEADING = ["array_rows", "array_cols", "dataflow", "ifmap_kb", "filter_kb", "ofmap_kb", "H", "W", "fh", "fw", "Cin", "N", "sh",
           "total_incl_prefetch", "total_cycles", *LEVELS]


def config(name, array, dataflow, kilobytes, mode="CALC"):
    """A config file's text."""
    buffers = zip(("IfmapSramSzkB", "FilterSramSzkB", "OfmapSramSzkB"), kilobytes)
    lines = ["[general]", f"run_name = {name}", "[architecture_presets]", f"ArrayHeight: {array[0]}", f"ArrayWidth: {array[1]}",
             *(f"{key}: {value}" for key, value in buffers),
             "IfmapOffset: 0", "FilterOffset: 10000000", "OfmapOffset: 20000000", "Bandwidth: 10", f"Dataflow: {dataflow}",
             "MemoryBanks: 1", "ReadRequestBuffer: 32", "WriteRequestBuffer: 32", "[layout]"]
    for operand in ("Ifmap", "Filter"):
        lines += [f"{operand}CustomLayout: False", f"{operand}SRAMBankBandwidth: 10", f"{operand}SRAMBankNum: 10",
                  f"{operand}SRAMBankPort: 2"]
    lines += ["[sparsity]", "SparsitySupport: false", "SparseRep: ellpack_block", "OptimizedMapping: false", "BlockSize: 8",
              "RandomNumberGeneratorSeed: 40", "[run_presets]", f"InterfaceBandwidth: {mode}", "UseRamulatorTrace: False"]
    return "\n".join(lines) + "\n"


def report(folder, name):
    """The rows of a report."""
    with open(folder / f"{name}_REPORT.csv", encoding="utf-8") as file:
        return [row[:-1] for row in csv.reader(file, skipinitialspace=True)][1:]


def layers(rng):
    """Small layers with every kind of remainder."""
    for _ in range(LAYERS):
        fh, fw = rng.choice([1, 1, 2, 3, 5]), rng.randint(1, 4)
        yield [fh + rng.randint(0, 5), fw + rng.randint(0, 5), fh, fw, rng.choice([1, rng.randint(1, 8), 14]),
               rng.choice([1, rng.randint(1, 12), rng.randint(1, 12), 50]), rng.randint(1, 3)]


def main():
    python, layout = sys.argv[1:]
    out = csv.writer(sys.stdout, lineterminator="\n")
    print("# SCALE-Sim 3.0.0 in CALC mode, asked by make_accesses.py.")
    out.writerow(HEADING)
    for seed in range(RUNS):
        rng = random.Random(seed)
        array, dataflow = ARRAYS[seed % len(ARRAYS)], ("os", "ws", "is")[seed // len(ARRAYS)]
        kilobytes = [rng.choice([1, 1, 2, 3]) for _ in range(3)]
        asked = list(layers(rng))
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            (folder / "x.cfg").write_text(config("run", array, dataflow, kilobytes), encoding="utf-8")
            rows = ["Layer name,", *(f"L{index}," + ",".join(map(str, layer)) + "," for index, layer in enumerate(asked))]
            (folder / "x.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
            command = [python, "-m", "scalesim.scale", "-c", folder / "x.cfg", "-t", folder / "x.csv", "-l", layout, "-p", folder,
                       "-i", "conv", "-s", "N"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            computed, accesses = report(folder / "run", "COMPUTE"), report(folder / "run", "DETAILED_ACCESS")
        for layer, row, access in zip(asked, computed, accesses, strict=True):
            numbers = [int(float(number)) for number in access[1:]]
            out.writerow([*array, dataflow, *kilobytes, *layer, row[1], row[2], *numbers])


if __name__ == "__main__":
    main()
