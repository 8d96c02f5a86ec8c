//! Packets into a file: tracks, slices and counter values, names interned. Knows the format, not what is traced.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use super::proto::{
    CLEARED, COUNTER, CounterDescriptor, DebugAnnotation, EXPLICIT, INSTANT, InternedData, InternedName, NEEDED,
    SIZE_BYTES, SLICE_BEGIN, SLICE_END, TracePacket, TrackDescriptor, TrackEvent,
};

/// The only sequence of packets.
const SEQUENCE: u32 = 1;
/// `Trace.packet`.
const PACKET: u32 = 1;
/// Femtoseconds in a nanosecond, the unit of a trace's times.
pub const FS_PER_NS: u64 = 1_000_000;

/// What a name is used for; each kind has numbers of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Name,
    Category,
    Argument,
    Text,
}

/// The number of an interned name.
pub type Iid = u64;
/// The number of a track.
pub type Track = u64;

/// What a counter counts.
#[derive(Clone, Copy, Debug)]
pub enum Unit {
    Bytes,
    GigabytesPerSecond,
}

/// The value of a slice's argument.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    Number(u64),
    Text(Iid),
}

/// A slice, times in femtoseconds.
#[derive(Clone, Debug, Default)]
pub struct Slice {
    pub track: Track,
    pub start: u64,
    pub end: u64,
    pub name: Iid,
    pub category: Iid,
    pub arguments: [Option<(Iid, Value)>; 2],
    /// Arrows that begin and end here.
    pub flows: Vec<u64>,
    pub ends: Vec<u64>,
}

/// A trace that is being written, under a name of its own until it is whole.
#[derive(Debug)]
pub struct Packets {
    path: PathBuf,
    partial: PathBuf,
    out: Option<BufWriter<File>>,
    /// The first failure; nothing is written after it.
    error: Option<io::Error>,
    buffer: Vec<u8>,
    names: HashMap<(Kind, String), Iid>,
    tracks: Track,
}

impl Packets {
    /// Begins a file beside `path`.
    pub fn create(path: &Path) -> io::Result<Self> {
        let Some(name) = path.file_name() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it names no file"));
        };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(".partial");
        let partial = path.with_file_name(hidden);
        let out = Some(BufWriter::new(File::create(&partial)?));
        let mut packets = Self {
            path: path.to_path_buf(),
            partial,
            out,
            error: None,
            buffer: Vec::new(),
            names: HashMap::new(),
            tracks: 0,
        };
        packets.put(TracePacket { sequence_flags: Some(CLEARED), ..TracePacket::default() });
        Ok(packets)
    }

    /// The number of a name, which is written where it is new.
    pub fn intern(&mut self, kind: Kind, text: &str) -> Iid {
        if let Some(&iid) = self.names.get(&(kind, text.to_owned())) {
            return iid;
        }
        let iid = self.names.len() as u64 + 1;
        self.names.insert((kind, text.to_owned()), iid);
        let mut data = InternedData::default();
        let list = match kind {
            Kind::Name => &mut data.event_names,
            Kind::Category => &mut data.event_categories,
            Kind::Argument => &mut data.debug_annotation_names,
            Kind::Text => &mut data.debug_annotation_string_values,
        };
        list.push(InternedName { iid: Some(iid), name: Some(text.to_owned()) });
        self.put(TracePacket { interned_data: Some(data), ..TracePacket::default() });
        iid
    }

    /// A new track below another, siblings in the order of their ranks.
    pub fn track(&mut self, name: &str, parent: Option<Track>, rank: usize, unit: Option<Unit>) -> Track {
        self.tracks += 1;
        let counter = unit.map(|unit| match unit {
            Unit::Bytes => CounterDescriptor { unit: Some(SIZE_BYTES), unit_name: None },
            Unit::GigabytesPerSecond => CounterDescriptor { unit: None, unit_name: Some("GB/s".to_owned()) },
        });
        let descriptor = TrackDescriptor {
            uuid: Some(self.tracks),
            name: Some(name.to_owned()),
            parent_uuid: parent,
            child_ordering: counter.is_none().then_some(EXPLICIT),
            counter,
            sibling_order_rank: i32::try_from(rank).ok(),
        };
        self.put(TracePacket { track_descriptor: Some(descriptor), ..TracePacket::default() });
        self.tracks
    }

    /// Writes a slice. Those of one track come in the order of time.
    pub fn slice(&mut self, slice: &Slice) {
        let annotations = slice.arguments.iter().flatten().map(|&(name, value)| {
            let (uint_value, string_value_iid) = match value {
                Value::Number(number) => (Some(number), None),
                Value::Text(iid) => (None, Some(iid)),
            };
            DebugAnnotation { name_iid: Some(name), uint_value, string_value_iid }
        });
        let begin = TrackEvent {
            category_iids: vec![slice.category],
            debug_annotations: annotations.collect(),
            r#type: Some(SLICE_BEGIN),
            name_iid: Some(slice.name),
            track_uuid: Some(slice.track),
            flow_ids: slice.flows.clone(),
            terminating_flow_ids: slice.ends.clone(),
            ..TrackEvent::default()
        };
        self.event(slice.start, begin);
        let end = TrackEvent { r#type: Some(SLICE_END), track_uuid: Some(slice.track), ..TrackEvent::default() };
        self.event(slice.end, end);
    }

    /// Writes a remark.
    pub fn remark(&mut self, track: Track, time: u64, text: String) {
        let event =
            TrackEvent { r#type: Some(INSTANT), track_uuid: Some(track), name: Some(text), ..TrackEvent::default() };
        self.event(time, event);
    }

    /// Writes a counter's value from `time` on.
    pub fn bytes(&mut self, track: Track, time: u64, value: i64) {
        let event = TrackEvent {
            r#type: Some(COUNTER),
            track_uuid: Some(track),
            counter_value: Some(value),
            ..TrackEvent::default()
        };
        self.event(time, event);
    }

    /// The same of a counter that is no integer.
    pub fn rate(&mut self, track: Track, time: u64, value: f64) {
        let event = TrackEvent {
            r#type: Some(COUNTER),
            track_uuid: Some(track),
            double_counter_value: Some(value),
            ..TrackEvent::default()
        };
        self.event(time, event);
    }

    fn event(&mut self, time: u64, event: TrackEvent) {
        self.put(TracePacket { timestamp: Some(time / FS_PER_NS), track_event: Some(event), ..TracePacket::default() });
    }

    fn put(&mut self, mut packet: TracePacket) {
        packet.trusted_packet_sequence_id = Some(SEQUENCE);
        packet.sequence_flags = packet.sequence_flags.or(Some(NEEDED));
        self.buffer.clear();
        prost::encoding::message::encode(PACKET, &packet, &mut self.buffer);
        if let Some(out) = &mut self.out
            && let Err(error) = out.write_all(&self.buffer)
        {
            self.error = Some(error);
            self.out = None;
        }
    }

    /// Gives the file its name.
    pub fn finish(mut self) -> io::Result<()> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        if let Some(out) = self.out.take() {
            out.into_inner().map_err(io::IntoInnerError::into_error)?;
            fs::rename(&self.partial, &self.path)?;
            self.partial.clear();
        }
        Ok(())
    }
}

impl Drop for Packets {
    /// A file that is not whole is not left behind.
    fn drop(&mut self) {
        if !self.partial.as_os_str().is_empty() {
            self.out = None;
            // There is no one to tell, and the first failure is told already.
            let _ = fs::remove_file(&self.partial);
        }
    }
}
