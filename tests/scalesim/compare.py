"""Runs SCALE-Sim and `systole scalesim` on the same files, compares every number of the three reports, and times both.

    python compare.py SYSTOLE DATA FOLDER [--quick]

Integers must be equal, percentages and bandwidths to 1e-9; column names must be equal as text. The exit status is 1 if
anything differs.
"""

import pathlib
import random
import resource
import shutil
import subprocess
import sys

from make_accesses import config, layers

REPORTS = ("COMPUTE_REPORT.csv", "BANDWIDTH_REPORT.csv", "DETAILED_ACCESS_REPORT.csv")
CONVOLUTIONS = "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n"
OURS_TIMES = 3


def cpu_seconds():
    """Processor time of all processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def timed(command, log):
    """Runs a command; its processor time, which does not depend on what else the machine does."""
    begin = cpu_seconds()
    with open(log, "w", encoding="utf-8") as out:
        subprocess.run(command, check=True, stdout=out, stderr=subprocess.STDOUT)
    return max(cpu_seconds() - begin, 1e-3)


def same(theirs, ours):
    """Whether two fields are the same number, or the same text."""
    try:
        first, second = float(theirs), float(ours)
    except ValueError:
        return theirs == ours
    whole = first.is_integer() and second.is_integer()
    return first == second if whole else abs(first - second) <= 1e-9 * max(1.0, abs(first))


def compare(theirs, ours):
    """Numbers compared, fields that differ, and files of which every byte is equal."""
    numbers, different, equal = 0, [], 0
    for report in REPORTS:
        texts = [(folder / report).read_text(encoding="utf-8") for folder in (theirs, ours)]
        equal += texts[0] == texts[1]
        rows = [[line.split(",") for line in text.splitlines()] for text in texts]
        if len(rows[0]) != len(rows[1]) or rows[0][0] != rows[1][0]:
            different.append(f"{report}: rows or columns")
            continue
        for first, second in zip(*(it[1:] for it in rows)):
            numbers += len(first) - 1
            different += [f"{report} layer {first[0]}: {a.strip()} {b.strip()}" for a, b in zip(first, second) if not same(a, b)]
            if len(first) != len(second):
                different.append(f"{report} layer {first[0]}: columns")
    return numbers, different, equal


def main():
    systole, data, folder = map(pathlib.Path, sys.argv[1:4])
    quick = "--quick" in sys.argv
    layout = data / "layouts/conv_nets/test.csv"
    work = folder / "compare"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)

    products = work / "products.csv"
    products.write_text("Layer,M,N,K,\nL0,10,12,20,\nL1,40,50,33,\nL2,1,1,1,\nL3,129,3,260,\n", encoding="utf-8")
    odd = work / "odd.csv"
    rng = random.Random(99)
    odd.write_text(CONVOLUTIONS + "".join(f"L{index},{','.join(map(str, it))},\n" for index, it in enumerate(layers(rng))),
                   encoding="utf-8")
    cases = [(name, array, flow, kilobytes, topology, form)
             for flow in ("os", "ws", "is")
             for name, array, kilobytes, topology, form in (
                 ("odd", (8, 16), (1, 1, 1), odd, "conv"),
                 ("products", (8, 16), (1, 2, 1), products, "gemm"),
                 ("test", (32, 32), (64, 64, 64), data / "topologies/conv_nets/test.csv", "conv"))]
    if not quick:
        resnet = data / "topologies/conv_nets/Resnet18.csv"
        cases += [("resnet18", (128, 128), flow, (256, 256, 128), resnet, "conv") for flow in ("os", "ws", "is")]

    numbers, different, equal, ratios = 0, [], 0, []
    for name, array, flow, kilobytes, topology, form in cases:
        run = f"{name}_{flow}"
        path = work / f"{run}.cfg"
        path.write_text(config(run, array, flow, kilobytes), encoding="utf-8")
        theirs = timed([sys.executable, "-m", "scalesim.scale", "-c", path, "-t", topology, "-l", layout, "-p", work / "theirs", "-i", form,
                        "-s", "N"], work / f"{run}.log")
        command = [systole, "scalesim", "--config", path, "--topology", topology, "-o", work / "ours"]
        command += ["--gemm"] if form == "gemm" else []
        ours = min(timed(command, work / f"{run}.ours.log") for _ in range(OURS_TIMES))
        counted, wrong, bytewise = compare(work / "theirs" / run, work / "ours" / run)
        numbers, different, equal = numbers + counted, different + wrong, equal + bytewise
        print(f"{run:<16} {array[0]}x{array[1]:<4} SCALE-Sim {theirs:8.2f} s, ours {ours:8.4f} s, {theirs / ours:8.0f} times; "
              f"{counted} numbers, {len(wrong)} differ, {bytewise} of 3 files equal byte for byte", flush=True)
        if name == "resnet18":
            ratios.append(theirs / ours)
        # Its traces are large, and nothing else reads them.
        shutil.rmtree(work / "theirs" / run, ignore_errors=True)
    for line in different[:20]:
        print("differs:", line)
    speed = f", at least {min(ratios):.0f} times faster on ResNet-18" if ratios else ""
    print(f"{len(cases)} runs, {numbers} numbers, {len(different)} differ, {equal} of {3 * len(cases)} files equal{speed}")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
