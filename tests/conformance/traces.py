"""Traces of whole networks against the definitions of the `perfetto` package, and against the records of the same runs.

    python traces.py SYSTOLE FOLDER [--quick]

SYSTOLE is the program; the traces stay in FOLDER. Then one fault after the other is put into a trace and into a record, and
each must be found: a check that cannot fail is an error. Use the interpreter of target/conformance/venv.
"""

import argparse
import copy
import fractions
import json
import pathlib
import subprocess
import sys

import pftrace
from pftrace import EVENT, Fault, covered, insist, perfetto

ROOT = pathlib.Path(__file__).resolve().parents[2]
MNIST = "models/mnist_cnn.onnx"
# Machine, network and further arguments: one and two memories, shared and separate buffers, clocks of whole nanoseconds,
# of parts of one, and of less than one.
CASES = [(preset, MNIST, []) for preset in ("edge_16x16", "edge_32x32", "gemmini_like", "tpu_v1_like", "neuroncore_like")]
CASES += [("edge_32x32", MNIST, ["--set", "dma.load_engines=2", "--set", "buffers.double_buffering=false"])]
SLOW = [("edge_32x32", "models/mobilenet_v2.ron", [])]
# Length of the stretches over which bandwidth is averaged.
BIN_NS = 100


def run(program, folder, preset, model, arguments):
    """The file of a trace, and the record of the run."""
    file = folder / ("_".join([pathlib.Path(model).stem, preset, *arguments]).replace("/", "_") + ".pftrace")
    command = [program, "run", preset, model, "--no-execute", "--json", "--trace", file, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    insist(done.returncode == 0, f"{preset} {model}: {done.stderr.strip()}")
    return file, json.loads(done.stdout)


def compare(trace, record):
    """Holds a trace of a whole run to the record of the run."""
    rows, totals = trace.rows(), record["totals"]
    period = fractions.Fraction(1000) / fractions.Fraction(record["machine"]["clock_mhz"])

    def equal(what, nanoseconds, cycles, roundings):
        """Times are whole nanoseconds, and cycles are whole femtoseconds: without either no difference is excused."""
        allowed = 0 if period.denominator == 1 else roundings + period / 1_000_000 * totals["cycles"]
        off = abs(nanoseconds - cycles * period)
        insist(off <= allowed, f"{what}: {nanoseconds} ns in the trace, {float(cycles * period)} ns in the record")

    insist(not any("cut at" in remark or "part of the run" in remark for remark in trace.remarks), "it is no whole trace")
    equal("the run", max(piece.end for piece in trace.slices), totals["cycles"], 1)

    layers = [layer for layer in record["layers"] if layer["cycles"]]
    parts, begin = rows.get(("layers",), []), 0
    insist([part.name for part in parts] == [layer["name"] for layer in layers], "other layers than in the record")
    for part, layer in zip(parts, layers):
        equal(f"the beginning of {layer['name']}", part.start, begin, 1)
        begin += layer["cycles"]
        equal(f"the end of {layer['name']}", part.end, begin, 1)

    for engine in record["engines"]:
        pieces = rows.get((engine["name"], "instructions"), [])
        numbers = {piece.arguments["instruction"] for piece in pieces}
        found = len(numbers) if len(numbers) == len(pieces) else f"{len(pieces)} slices of {len(numbers)}"
        insist(found == engine["instructions"], f"{engine['name']}: {found} instructions, not {engine['instructions']}")
        busy, stretches = covered(pieces)
        # A pause of less than a nanosecond is not in the trace.
        equal(f"busy time of {engine['name']}", busy, engine["busy"], stretches if period >= 1 else len(pieces))

    # The path that binds goes along phases, so that no cause is longer than these.
    for cause, cycles in totals["causes"].items():
        pieces = sorted((p for path, row in rows.items() if path[-1] == cause and len(path) == 2 for p in row), key=lambda p: p.start)
        insist(all(piece.name == cause for piece in pieces), f"slices of {cause} are called otherwise")
        most = covered(pieces)[0] + 1 + len(pieces) * (period.denominator > 1)
        insist(cycles * period <= most, f"{cause}: {float(cycles * period)} ns in the record, {most} ns in the trace")

    for memory in record["memories"]:
        points = trace.counters.get((memory["name"], "bandwidth"), [(0, 0)])
        insist(all(0 <= rate <= memory["pins_gb_per_s"] * 1.001 for _, rate in points), f"{memory['name']}: more than its pins move")
        least = sum(rate * (after - time) for (time, rate), (after, _) in zip(points, points[1:]))
        most, moved = least + points[-1][1] * BIN_NS, memory["moved_bytes"]
        insist(least - 0.5 <= moved <= most + 0.5, f"{memory['name']}: {least} to {most} bytes in the trace, {moved} in the record")
    for buffer in record["buffers"]:
        values = [value for _, value in trace.counters.get((buffer["name"],), [(0, 0)])]
        insist(min(values) >= 0 and values[-1] == 0, f"{buffer['name']}: {min(values)} bytes at least, {values[-1]} in the end")
        # The record's `peak_bytes` are of one layer; where the next begins before one is done, more lies there.
        size = buffer["capacity_bytes"]
        insist(max(values) <= size, f"{buffer['name']}: {max(values)} bytes in the trace, {size} at most in the record")
    insist(trace.arrows, "no arrow")


def first(message, condition):
    return next(packet for packet in message.packet if condition(packet))


def event(kind, condition=lambda event: True):
    return lambda packet: packet.HasField("track_event") and packet.track_event.type == kind and condition(packet.track_event)


BEGIN, END, COUNTER = event(EVENT.TYPE_SLICE_BEGIN), event(EVENT.TYPE_SLICE_END), event(EVENT.TYPE_COUNTER)
SOURCE = event(EVENT.TYPE_SLICE_BEGIN, lambda event: event.flow_ids)
SINK = event(EVENT.TYPE_SLICE_BEGIN, lambda event: event.terminating_flow_ids)


def counter(packet):
    return packet.HasField("track_descriptor") and packet.track_descriptor.HasField("counter")


def child(packet):
    return packet.HasField("track_descriptor") and packet.track_descriptor.parent_uuid and not counter(packet)


def interned(kind):
    return lambda packet: packet.HasField("interned_data") and getattr(packet.interned_data, kind)


def drop(condition):
    return lambda message: message.packet.remove(first(message, condition))


def change(condition, **fields):
    def fault(message):
        packet = first(message, condition)
        part = packet.track_event if packet.HasField("track_event") else packet.track_descriptor
        for name, value in fields.items():
            if value is None:
                part.ClearField(name)
            elif isinstance(value, list):
                getattr(part, name)[:] = value
            else:
                setattr(part, name, value)

    return fault


def every(action):
    def fault(message):
        for packet in message.packet:
            action(packet)

    return fault


def early_sink(message):
    """An arrow that ends where its source begins."""
    sink = first(message, SINK)
    source = first(message, lambda p: SOURCE(p) and sink.track_event.terminating_flow_ids[0] in p.track_event.flow_ids)
    ends = list(sink.track_event.terminating_flow_ids)
    sink.track_event.ClearField("terminating_flow_ids")
    source.track_event.terminating_flow_ids.extend(ends)


def scale(message, field, factor):
    for packet in message.packet:
        if COUNTER(packet) and packet.track_event.HasField(field):
            setattr(packet.track_event, field, getattr(packet.track_event, field) * factor)


def late(message):
    """A track that is told after its events."""
    track = first(message, child)
    message.packet.remove(track)
    message.packet.append(track)


# What is broken in a trace, how, and what must be said of it.
TRACE_FAULTS = [
    ("a field no one knows", lambda m: first(m, BEGIN).track_event.MergeFromString(b"\xd8\x3e\x01"), "unknown field"),
    ("a field of another type", lambda m: m.packet[0].MergeFromString(b"\x42\x01\x00"), "unknown field"),
    ("an enumerator no one knows", lambda m: first(m, BEGIN).track_event.MergeFromString(b"\x48\x63"), "unknown field"),
    ("no sequence", lambda m: m.packet[7].ClearField("trusted_packet_sequence_id"), "trusted_packet_sequence_id"),
    ("state not cleared", lambda m: m.packet[0].ClearField("sequence_flags"), "SEQ_INCREMENTAL_STATE_CLEARED"),
    ("state cleared again", lambda m: setattr(m.packet[len(m.packet) // 2], "sequence_flags", 3), "has no iid"),
    ("state not asked for", lambda m: first(m, BEGIN).ClearField("sequence_flags"), "has no iid"),
    ("a name left out", drop(interned("event_names")), "event_names has no iid"),
    ("a category left out", drop(interned("event_categories")), "event_categories has no iid"),
    ("an argument's name left out", drop(interned("debug_annotation_names")), "debug_annotation_names has no iid"),
    ("an argument's text left out", drop(interned("debug_annotation_string_values")), "debug_annotation_string_values has no iid"),
    ("another name", change(BEGIN, name_iid=99_999), "has no iid 99999"),
    ("two names of one number", every(lambda p: [setattr(name, "iid", 1) for name in p.interned_data.event_names]), "iid 1 is"),
    ("no track", drop(child), "no track"),
    ("a track that comes after its events", late, "no track"),
    ("no parent", change(child, parent_uuid=99_999), "no parent"),
    ("a track twice", lambda m: m.packet.insert(9, m.packet[1]), "two tracks have uuid"),
    ("siblings of one rank", every(lambda p: p.HasField("track_descriptor") and setattr(p.track_descriptor, "sibling_order_rank", 1)), "one rank"),
    ("a counter without a unit", lambda m: first(m, counter).track_descriptor.counter.Clear(), "has no unit"),
    ("a counter that is none", change(counter, counter=None), "an event of type 4"),
    ("a counter without a value", lambda m: first(m, COUNTER).track_event.ClearField("counter_value"), "no value"),
    ("no time", lambda m: first(m, BEGIN).ClearField("timestamp"), "without a timestamp"),
    ("time that goes back", lambda m: setattr([p for p in m.packet if END(p)][-1], "timestamp", 1), "is before 1 ns"),
    ("an end left out", drop(END), "has no end"),
    ("a beginning left out", drop(BEGIN), "without a beginning"),
    ("an arrow without an end", change(SINK, terminating_flow_ids=[]), "has no end"),
    ("an arrow without a beginning", change(SOURCE, flow_ids=[]), "has not begun"),
    ("an arrow with two ends", lambda m: [p for p in m.packet if SINK(p)][-1].track_event.terminating_flow_ids.append(1), "has not begun, or"),
    ("an arrow that ends too early", early_sink, "before its source is done"),
]
# What is broken in a trace that Perfetto would take, or in its record: only comparing the two can find it.
RECORD_FAULTS = [
    ("a longer run", lambda m, r: r["totals"].update(cycles=r["totals"]["cycles"] + 1), "the run"),
    ("another clock", lambda m, r: r["machine"].update(clock_mhz=r["machine"]["clock_mhz"] * 2), "the run"),
    ("a layer with another name", lambda m, r: r["layers"][1].update(name="?"), "other layers"),
    ("a longer layer", lambda m, r: r["layers"][2].update(cycles=r["layers"][2]["cycles"] + 1), "the end of"),
    ("an engine busier by a cycle", lambda m, r: r["engines"][0].update(busy=r["engines"][0]["busy"] + 1), "busy time of load 0"),
    ("the array busier by a cycle", lambda m, r: r["engines"][1].update(busy=r["engines"][1]["busy"] + 1), "busy time of array"),
    ("an instruction more", lambda m, r: r["engines"][2].update(instructions=r["engines"][2]["instructions"] + 1), "instructions, not"),
    ("a cause that no phase has", lambda m, r: r["totals"]["causes"].update(buffer_bank=100), "buffer_bank"),
    ("more bytes", lambda m, r: r["memories"][0].update(moved_bytes=r["memories"][0]["moved_bytes"] + 32), "bytes in the trace"),
    ("slower pins", lambda m, r: r["memories"][0].update(pins_gb_per_s=1.0), "more than its pins"),
    ("a smaller buffer", lambda m, r: r["buffers"][0].update(capacity_bytes=20_000), "at most in the record"),
    ("all times scaled", lambda m, r: every(lambda p: setattr(p, "timestamp", p.timestamp * 1000))(m), "the run"),
    ("counters scaled", lambda m, r: scale(m, "counter_value", 1024), "at most in the record"),
    ("bandwidth halved", lambda m, r: scale(m, "double_counter_value", 0.5), "bytes in the trace"),
    ("a buffer that stays full", lambda m, r: setattr([p for p in m.packet if COUNTER(p) and p.track_event.HasField("counter_value")][-1].track_event, "counter_value", 1), "1 in the end"),
    ("no arrow", lambda m, r: every(lambda p: [p.track_event.ClearField(f) for f in ("flow_ids", "terminating_flow_ids") if p.HasField("track_event")])(m), "no arrow"),
]


def find(file, record):
    """Puts one fault after the other into a trace or its record, and counts those that are found. Says which are not."""
    whole = perfetto.Trace.FromString(file.read_bytes())
    faults = [(what, lambda m, r, fault=fault: fault(m), expected) for what, fault, expected in TRACE_FAULTS]
    found = 0
    for what, fault, expected in faults + RECORD_FAULTS:
        message, changed = perfetto.Trace(), copy.deepcopy(record)
        message.CopyFrom(whole)
        fault(message, changed)
        try:
            compare(pftrace.decode(message), changed)
            print(f"NOT FOUND: {what}")
        except Fault as said:
            if expected in str(said):
                found += 1
            else:
                print(f"FOUND OTHERWISE: {what}: {said}")
    return found, len(faults) + len(RECORD_FAULTS)


def parts(program, folder):
    """Traces of a part of a run, and one that is cut: Perfetto takes them, and they say what they are."""
    for arguments, said in [
        (["--trace-window", "5000..9000"], "a part of the run only: cycles 5,000 to"),
        (["--trace-window", "conv2"], "a part of the run only"),
        (["--trace-events", "1500"], "cut at 1,500 events"),
    ]:
        trace = pftrace.read(run(program, folder, "edge_16x16", MNIST, arguments)[0])
        insist(any(said in remark for remark in trace.remarks), f"{arguments}: {trace.remarks}")
        insist(trace.slices, f"{arguments}: no slice")
        print(f"mnist_cnn on edge_16x16 {' '.join(arguments)}: {len(trace.slices):,} slices, and it says so")


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("program", type=pathlib.Path)
    options.add_argument("folder", type=pathlib.Path)
    options.add_argument("--quick", action="store_true")
    options = options.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    program = options.program.resolve()
    broken = None
    for preset, model, arguments in CASES if options.quick else CASES + SLOW:
        file, record = run(program, options.folder, preset, model, arguments)
        label = f"{record['provenance']['model']} on {preset} {' '.join(arguments)}".strip()
        broken = broken or (file, record)
        try:
            trace = pftrace.read(file)
            compare(trace, record)
        except Fault as fault:
            raise Fault(f"{label}: {fault}") from None
        events = 2 * len(trace.slices) + sum(map(len, trace.counters.values()))
        print(f"{label}: {events:,} events on {len(trace.tracks)} tracks, {len(trace.arrows):,} arrows, as in the record")
    parts(program, options.folder)
    found, faults = find(*broken)
    print(f"{faults} faults put into a trace or its record, {found} found")
    insist(found == faults, "a check does not find what it is for")


if __name__ == "__main__":
    try:
        main()
    except Fault as fault:
        sys.exit(f"traces: {fault}")
