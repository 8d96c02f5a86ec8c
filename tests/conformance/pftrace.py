"""Reads a trace of `systole run --trace` with the definitions of the `perfetto` package.

Field numbers and types come from that package and nothing from `src/trace/proto.rs`. What the format asks for and a reader
may drop without a word is refused here: a `Fault` that names the packet. Knows the format and not what is traced.
"""

import bisect
import dataclasses
import pathlib

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as perfetto

EVENT = perfetto.TrackEvent
CLEARED = perfetto.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
NEEDED = perfetto.TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
UNITS = {perfetto.CounterDescriptor.UNIT_SIZE_BYTES: "B", perfetto.CounterDescriptor.UNIT_COUNT: "", perfetto.CounterDescriptor.UNIT_TIME_NS: "ns"}
# Lists of interned names: the field of `InternedData`, and the field of an entry that holds the text.
INTERNED = {"event_names": "name", "event_categories": "name", "debug_annotation_names": "name", "debug_annotation_string_values": "str"}


class Fault(Exception):
    """A trace that Perfetto would not take as it is meant, or that says something else than the record."""


def insist(condition, message):
    if not condition:
        raise Fault(message)


@dataclasses.dataclass
class Track:
    """A track; its path goes from the root's name to its own, and tracks of one path are drawn as one."""

    path: tuple
    parent: int
    rank: int
    unit: str | None  # of a counter


@dataclasses.dataclass
class Slice:
    """Times in nanoseconds."""

    track: int
    start: int
    end: int | None
    name: str
    category: str
    arguments: dict
    flows: list
    ends: list


@dataclasses.dataclass
class Trace:
    tracks: dict = dataclasses.field(default_factory=dict)
    slices: list = dataclasses.field(default_factory=list)
    counters: dict = dataclasses.field(default_factory=dict)  # (time, value) by path
    remarks: list = dataclasses.field(default_factory=list)
    arrows: list = dataclasses.field(default_factory=list)  # pairs of slices

    def rows(self):
        """Slices by the path of their tracks, in the order of time."""
        rows = {}
        for piece in sorted(self.slices, key=lambda piece: (piece.start, piece.end)):
            rows.setdefault(self.tracks[piece.track].path[1:], []).append(piece)
        return rows


def read(path):
    """The trace in a file."""
    message = perfetto.Trace()
    data = pathlib.Path(path).read_bytes()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise Fault(str(error)) from None
    insist(message.ByteSize() == len(data), f"{len(data)} bytes, of which {message.ByteSize()} say something")
    return decode(message)


def unknown(message, path):
    """The first field that the definitions do not have, or do not have with this type or value."""
    for field in UnknownFieldSet(message):
        return f"{path}.{field.field_number}"
    for descriptor, value in message.ListFields():
        if descriptor.message_type:
            for index, part in enumerate(value if descriptor.is_repeated else [value]):
                if found := unknown(part, f"{path}.{descriptor.name}[{index}]"):
                    return found
    return None


def decode(message):
    """What the packets of a trace say."""
    known = perfetto.Trace()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    if known.ByteSize() != message.ByteSize():
        raise Fault(f"unknown field {unknown(message, 'trace')}")
    reader = Reader()
    for index, packet in enumerate(message.packet):
        try:
            reader.packet(packet)
        except Fault as fault:
            raise Fault(f"packet {index}: {fault}") from None
    return reader.finish()


class Reader:
    """The state of a sequence of packets, and of the tracks."""

    def __init__(self):
        self.trace = Trace()
        self.names = {}  # interned lists by sequence
        self.open = {}  # slices that have no end yet, by track
        self.last = {}  # time of the last event, by track

    def packet(self, packet):
        sequence = packet.trusted_packet_sequence_id
        insist(sequence, "no trusted_packet_sequence_id")
        if packet.sequence_flags & CLEARED:
            self.names[sequence] = {kind: {} for kind in INTERNED}
        if packet.sequence_flags & NEEDED or packet.HasField("interned_data"):
            insist(sequence in self.names, "interned names before SEQ_INCREMENTAL_STATE_CLEARED")
        if packet.HasField("interned_data"):
            self.intern(packet.interned_data, self.names[sequence])
        if packet.HasField("track_descriptor"):
            self.track(packet.track_descriptor)
        if packet.HasField("track_event"):
            insist(packet.HasField("timestamp"), "an event without a timestamp")
            names = self.names[sequence] if packet.sequence_flags & NEEDED else {kind: {} for kind in INTERNED}
            self.event(packet.timestamp, packet.track_event, names)

    @staticmethod
    def intern(data, names):
        for descriptor, entries in data.ListFields():
            insist(descriptor.name in INTERNED, f"interned {descriptor.name} are not read here")
            for entry in entries:
                text = getattr(entry, INTERNED[descriptor.name])
                text = text.decode() if isinstance(text, bytes) else text
                insist(entry.iid, f"{descriptor.name}: {text!r} has no iid")
                before = names[descriptor.name].setdefault(entry.iid, text)
                insist(before == text, f"{descriptor.name}: iid {entry.iid} is {before!r} and {text!r}")

    def track(self, descriptor):
        tracks = self.trace.tracks
        insist(descriptor.uuid, "a track without a uuid")
        insist(descriptor.uuid not in tracks, f"two tracks have uuid {descriptor.uuid}")
        insist(descriptor.name, f"track {descriptor.uuid} has no name")
        parent = None
        if descriptor.HasField("parent_uuid"):
            parent = tracks.get(descriptor.parent_uuid)
            insist(parent, f"track {descriptor.name}: no parent {descriptor.parent_uuid} before it")
        unit = None
        if descriptor.HasField("counter"):
            unit = descriptor.counter.unit_name or UNITS.get(descriptor.counter.unit)
            insist(unit is not None, f"counter {descriptor.name} has no unit")
        path = (*(parent.path if parent else ()), descriptor.name)
        for other in tracks.values():
            if other.parent == descriptor.parent_uuid and other.path != path:
                insist(other.rank != descriptor.sibling_order_rank, f"{path} and {other.path} have one rank")
        tracks[descriptor.uuid] = Track(path, descriptor.parent_uuid, descriptor.sibling_order_rank, unit)

    def event(self, time, event, names):
        def name(kind, iid):
            insist(iid in names[kind], f"{kind} has no iid {iid}")
            return names[kind][iid]

        uuid = event.track_uuid
        insist(uuid in self.trace.tracks, f"no track {uuid} before its event")
        track = self.trace.tracks[uuid]
        before = self.last.setdefault(uuid, time)
        insist(before <= time, f"{track.path}: {before} ns is before {time} ns in the file, and later")
        self.last[uuid] = time
        insist((event.type == EVENT.TYPE_COUNTER) == (track.unit is not None), f"{track.path}: an event of type {event.type}")
        if event.type == EVENT.TYPE_SLICE_BEGIN:
            argument = {}
            for annotation in event.debug_annotations:
                key = name("debug_annotation_names", annotation.name_iid)
                value = annotation.WhichOneof("value")
                insist(value in ("uint_value", "string_value_iid"), f"argument {key} has no value")
                value = getattr(annotation, value)
                argument[key] = value if annotation.HasField("uint_value") else name("debug_annotation_string_values", value)
            insist(len(event.category_iids) == 1, "a slice is of one category")
            text, category = name("event_names", event.name_iid), name("event_categories", event.category_iids[0])
            flows, ends = list(event.flow_ids), list(event.terminating_flow_ids)
            piece = Slice(uuid, time, None, text, category, argument, flows, ends)
            self.open.setdefault(uuid, []).append(piece)
            self.trace.slices.append(piece)
        elif event.type == EVENT.TYPE_SLICE_END:
            insist(self.open.get(uuid), f"{track.path}: an end at {time} ns without a beginning")
            self.open[uuid].pop().end = time
        elif event.type == EVENT.TYPE_COUNTER:
            value = event.WhichOneof("counter_value_field")
            insist(value, f"{track.path}: no value at {time} ns")
            self.trace.counters.setdefault(track.path[1:], []).append((time, getattr(event, value)))
        elif event.type == EVENT.TYPE_INSTANT:
            insist(event.name, "a remark says nothing")
            self.trace.remarks.append(event.name)
        else:
            raise Fault(f"an event of type {event.type}")

    def finish(self):
        for pieces in self.open.values():
            for piece in pieces:
                raise Fault(f"{self.trace.tracks[piece.track].path}: {piece.name} at {piece.start} ns has no end")
        self.connect()
        return self.trace

    def connect(self):
        """Pairs the ends of arrows. The trace processor takes events by time and, where that is equal, as in the file."""
        begun = {}
        for piece in sorted(self.trace.slices, key=lambda piece: piece.start):
            for flow in piece.flows:
                insist(flow not in begun, f"flow {flow} begins twice")
                begun[flow] = piece
            for flow in piece.ends:
                source = begun.get(flow)
                insist(source, f"flow {flow} ends at {piece.start} ns and has not begun, or has ended before")
                insist(source.end <= piece.start, f"flow {flow} ends at {piece.start} ns, before its source is done")
                begun[flow] = None
                self.trace.arrows.append((source, piece))
        for flow, source in begun.items():
            insist(source is None, f"flow {flow} has no end")


def covered(pieces):
    """Time that at least one of the slices covers, and in how many stretches; slices come in the order of time."""
    total, stretches, until = 0, 0, -1
    for piece in pieces:
        total += max(0, piece.end - max(piece.start, until))
        stretches += piece.start > until
        until = max(until, piece.end)
    return total, stretches


def value_at(points, time):
    """A counter's value at a time; 0 before the first."""
    index = bisect.bisect_right(points, time, key=lambda point: point[0])
    return points[index - 1][1] if index else 0
