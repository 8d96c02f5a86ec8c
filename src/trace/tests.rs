//! Traces of whole networks, read again and held to the report of the same run.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use prost::Message as _;

use super::{
    proto::{COUNTER, INSTANT, SLICE_BEGIN, SLICE_END, Trace},
    *,
};
use crate::{
    engine::timing::{self, TimingReport},
    pipeline::{self, Mapped, TraceSettings},
};

/// A slice as it is read again.
#[derive(Clone, Debug)]
struct Read {
    name: String,
    category: String,
    start: u64,
    end: u64,
    layer: Option<String>,
    instruction: Option<u64>,
    flows: Vec<u64>,
    ends: Vec<u64>,
}

/// A trace as it is read again: tracks by their path from the root, times in nanoseconds.
#[derive(Debug, Default)]
struct Decoded {
    slices: BTreeMap<(String, u64), Vec<Read>>,
    counters: BTreeMap<String, Vec<(u64, f64)>>,
    remarks: Vec<String>,
    events: u64,
}

impl Decoded {
    /// Reads a trace as its format says, and holds it to what a track is: slices that end before the next begins.
    fn read(path: &Path) -> Self {
        let trace = Trace::decode(std::fs::read(path).unwrap().as_slice()).unwrap();
        let mut names: [HashMap<u64, String>; 4] = Default::default();
        let mut tracks: HashMap<u64, (String, bool)> = HashMap::new();
        let mut open: HashMap<u64, Read> = HashMap::new();
        let mut last: HashMap<u64, u64> = HashMap::new();
        let mut decoded = Self::default();
        for (index, packet) in trace.packet.iter().enumerate() {
            assert_eq!(packet.sequence_flags, Some(if index == 0 { 1 } else { 2 }));
            if let Some(data) = &packet.interned_data {
                let lists = [
                    &data.event_names,
                    &data.event_categories,
                    &data.debug_annotation_names,
                    &data.debug_annotation_string_values,
                ];
                for (names, list) in names.iter_mut().zip(lists) {
                    for entry in list {
                        assert!(names.insert(entry.iid.unwrap(), entry.name.clone().unwrap()).is_none());
                    }
                }
            }
            if let Some(track) = &packet.track_descriptor {
                let parent = track.parent_uuid.map(|parent| tracks[&parent].0.clone() + "/").unwrap_or_default();
                let name = parent + track.name.as_ref().unwrap();
                assert!(tracks.insert(track.uuid.unwrap(), (name, track.counter.is_some())).is_none());
            }
            let Some(event) = &packet.track_event else { continue };
            let (uuid, time) = (event.track_uuid.unwrap(), packet.timestamp.unwrap());
            let (track, is_counter) = tracks[&uuid].clone();
            let kind = event.r#type.unwrap();
            assert_eq!(is_counter, kind == COUNTER);
            if kind == INSTANT {
                decoded.remarks.push(event.name.clone().unwrap());
                continue;
            }
            decoded.events += 1;
            let before = last.insert(uuid, time).unwrap_or(0);
            assert!(before <= time, "{track}: {before} before {time}");
            match kind {
                SLICE_BEGIN => {
                    let argument = |name: &str| {
                        event.debug_annotations.iter().find(|argument| names[2][&argument.name_iid.unwrap()] == name)
                    };
                    let read = Read {
                        name: names[0][&event.name_iid.unwrap()].clone(),
                        category: names[1][&event.category_iids[0]].clone(),
                        start: time,
                        end: 0,
                        layer: argument("layer").map(|layer| names[3][&layer.string_value_iid.unwrap()].clone()),
                        instruction: argument("instruction").map(|argument| argument.uint_value.unwrap()),
                        flows: event.flow_ids.clone(),
                        ends: event.terminating_flow_ids.clone(),
                    };
                    // No slice begins inside another of its track.
                    assert!(open.insert(uuid, read).is_none(), "{track} at {time}");
                }
                SLICE_END => {
                    let slice = Read { end: time, ..open.remove(&uuid).unwrap() };
                    decoded.slices.entry((track, uuid)).or_default().push(slice);
                }
                COUNTER => {
                    let value = event.double_counter_value.or(event.counter_value.map(|bytes| bytes as f64));
                    decoded.counters.entry(track).or_default().push((time, value.unwrap()));
                }
                other => panic!("an event of type {other}"),
            }
        }
        assert!(open.is_empty(), "slices without an end");
        decoded
    }

    /// The slices of all tracks of one name.
    fn row(&self, name: &str) -> Vec<&Read> {
        let tracks = self.slices.iter().filter(|((track, _), _)| track.ends_with(name));
        let mut slices: Vec<_> = tracks.flat_map(|(_, slices)| slices).collect();
        slices.sort_by_key(|slice| (slice.start, slice.end));
        slices
    }
}

/// Time that slices cover, in the order of their starts.
fn covered<'a>(slices: impl IntoIterator<Item = &'a Read>) -> u64 {
    let (mut until, mut total) = (0, 0);
    for slice in slices {
        total += slice.end.saturating_sub(slice.start.max(until));
        until = until.max(slice.end);
    }
    total
}

/// More than a length by what rounding to nanoseconds may take from its stretches.
const fn rounded(length: u64) -> u64 {
    length + length / 50 + 2
}

/// Everything of a run.
const ALL: TraceSettings = TraceSettings { file: PathBuf::new(), window: None, events: 10_000_000 };

#[derive(Default)]
struct Notes(Vec<String>);

impl crate::diag::Progress for Notes {
    fn stage(&mut self, _: &str, _: Option<u64>, _: &'static str) {}
    fn advance(&mut self, _: u64) {}
    fn finish(&mut self) {}
    fn note(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }
}

/// A small network with a residual, on a machine of 1 GHz whose cycles are whole nanoseconds.
fn with_network<T>(overrides: &[&str], then: impl FnOnce(&Mapped) -> T) -> T {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let overrides: Vec<String> =
        ["array.clock_mhz=1000.0"].iter().chain(overrides).map(|&text| text.to_owned()).collect();
    let accelerator = pipeline::load_config("edge_16x16", &overrides).unwrap();
    let model = pipeline::load_model(&root.join("models/mnist_cnn.onnx"), None).unwrap();
    let network = pipeline::prepare(&model, &accelerator, None, true).unwrap();
    then(&pipeline::map(&network, &accelerator).unwrap())
}

fn trace(mapped: &Mapped, settings: &TraceSettings) -> (TimingReport, Decoded, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.pftrace");
    let mut notes = Notes::default();
    let settings = TraceSettings { file: file.clone(), ..settings.clone() };
    let report = pipeline::time_traced(mapped, &settings, None, &mut notes).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a partial file is left");
    (report, Decoded::read(&file), notes.0)
}

#[test]
fn a_trace_says_what_the_report_says() {
    for overrides in [&[][..], &["dma.load_engines=2", "array.hop_registers=1"]] {
        with_network(overrides, |mapped| {
            let (report, trace, notes) = trace(mapped, &ALL);
            assert_eq!(report, pipeline::time(mapped, timing::Options::default()).unwrap());
            assert!(notes[0].contains(&thousands(trace.events)) && !notes[0].contains("cut"), "{notes:?}");
            let accelerator = &mapped.program.accelerator;
            let header = &mapped.program.header;

            let mut causes: BTreeMap<&str, Vec<&Read>> = BTreeMap::new();
            for (info, engine) in accelerator.engines.iter().zip(&report.engines) {
                let slices = trace.row(&format!("/{}/instructions", info.name));
                assert_eq!(slices.len() as u64, engine.instructions, "{}", info.name);
                assert_eq!(covered(slices), engine.busy.0, "{}", info.name);
            }
            for cause in Cause::ALL {
                causes.insert(cause.as_str(), trace.row(&format!("/{}", cause.as_str())));
            }
            // The path that binds goes along phases: no layer's cause is longer than they are.
            for cause in Cause::ALL {
                let slices = causes.get_mut(cause.as_str()).unwrap();
                slices.sort_by_key(|slice| (slice.start, slice.end));
                assert!(slices.iter().all(|slice| slice.name == cause.as_str()));
                assert!(report.causes[cause] <= rounded(covered(slices.iter().copied())), "{}", cause.as_str());
            }
            // Each layer's part, by name, and inside it some phase of each of its causes.
            let parts = trace.row("/layers");
            let timed: Vec<_> = header.layers.iter().zip(&report.layers).filter(|(_, row)| row.cycles.0 > 0).collect();
            assert_eq!(parts.len(), timed.len());
            for (part, (layer, row)) in parts.iter().zip(timed) {
                assert_eq!((part.name.as_str(), part.end - part.start), (layer.name.as_str(), row.cycles.0));
                for cause in Cause::ALL {
                    let inside = causes[cause.as_str()].iter().filter(|p| p.start < part.end && p.end > part.start);
                    let cut: Vec<_> = inside
                        .map(|p| Read { start: p.start.max(part.start), end: p.end.min(part.end), ..(*p).clone() })
                        .collect();
                    assert!(row.causes[cause] <= rounded(covered(&cut)), "{}: {}", layer.name, cause.as_str());
                }
            }
            for (index, (memory, timed)) in accelerator.config.memories.iter().zip(&report.memories).enumerate() {
                let slices = trace.row(&format!("/{}/transfers", memory.name));
                let busy: u64 = slices.iter().map(|slice| slice.end - slice.start).sum();
                // A burst may end within a nanosecond.
                assert!(busy.abs_diff(timed.busy.0 / FS_PER_NS) <= slices.len() as u64, "{index}");
                assert_eq!(covered(slices), busy, "a memory serves one burst at a time");
                let points = &trace.counters[&format!("{}/{}/bandwidth", trace_title(mapped), memory.name)];
                let bytes: f64 = points.windows(2).map(|pair| pair[0].1 * (pair[1].0 - pair[0].0) as f64).sum();
                let rest = points.last().unwrap().1 * 100.0;
                let moved = timed.moved.as_f64();
                assert!((bytes - moved).abs() <= 1e-6 * moved + rest, "{bytes} bytes of {moved}");
            }
        });
    }
}

fn trace_title(mapped: &Mapped) -> String {
    format!("{} on {}", mapped.program.header.name, mapped.program.accelerator.config.name)
}

#[test]
fn stretches_of_one_instruction_that_touch_are_one_slice() {
    with_network(&["dma.load_engines=2"], |mapped| {
        let (_, trace, _) = trace(mapped, &ALL);
        let rows: BTreeSet<_> = trace.slices.keys().map(|(track, _)| track.as_str()).collect();
        for row in rows.into_iter().filter(|row| !row.ends_with("/instructions") && !row.ends_with("/layers")) {
            let mut until = HashMap::new();
            for slice in trace.row(row) {
                let before = until.insert(slice.instruction, slice.end).unwrap_or(0);
                assert!(before <= slice.start, "{row}: {slice:?} begins before {before}");
            }
        }
        // A cause of an engine has as many tracks as instructions overlap, not as transfers have bursts.
        let lanes = |row: &str| trace.slices.keys().filter(|(track, _)| track.ends_with(row)).count();
        assert!((1..=4).contains(&lanes("/store 0/move")), "{}", lanes("/store 0/move"));
    });
}

#[test]
fn buffers_hold_no_more_than_they_can_and_nothing_in_the_end() {
    for overrides in [&[][..], &["buffers.double_buffering=false"]] {
        with_network(overrides, |mapped| {
            let (_, trace, _) = trace(mapped, &ALL);
            let accelerator = &mapped.program.accelerator;
            let sizes = accelerator.buffers.iter().map(|buffer| buffer.bytes);
            let sizes: Vec<u64> = sizes.chain([accelerator.config.accumulators.bytes]).collect();
            let counters: Vec<_> = trace.counters.iter().filter(|(name, _)| !name.ends_with("bandwidth")).collect();
            assert_eq!(counters.len(), sizes.len());
            for (name, points) in counters {
                let index = match name.rsplit('/').next().unwrap() {
                    "accumulators" => sizes.len() - 1,
                    "weight buffer" => 1,
                    "output buffer" => 2,
                    _ => 0,
                };
                let fullest = points.iter().fold(0.0_f64, |most, point| most.max(point.1));
                assert!(fullest > 0.0 && fullest <= sizes[index] as f64, "{name}: {fullest} of {}", sizes[index]);
                assert!(points.iter().all(|point| point.1 >= 0.0), "{name}");
                assert!(points.last().unwrap().1.abs() < 0.5, "{name}");
            }
        });
    }
}

#[test]
fn arrows_are_the_tokens_that_instructions_wait_for() {
    with_network(&[], |mapped| {
        let (_, trace, _) = trace(mapped, &ALL);
        let mut signals = HashMap::new();
        let mut expected = BTreeSet::new();
        for instruction in mapped.program.instructions() {
            for token in &instruction.waits {
                expected.insert((signals[token], instruction.index));
            }
            if let Some(token) = instruction.signals {
                signals.insert(token, instruction.index);
            }
        }
        let mut from = BTreeMap::new();
        let mut to = HashMap::new();
        for slice in trace.slices.values().flatten() {
            for flow in &slice.flows {
                assert!(from.insert(*flow, slice).is_none());
            }
            for flow in &slice.ends {
                assert!(to.insert(*flow, slice).is_none());
            }
        }
        let mut drawn = BTreeSet::new();
        for (flow, from) in from {
            let to = to[&flow];
            assert!(from.end <= to.start);
            drawn.insert((from.instruction.unwrap(), to.instruction.unwrap()));
        }
        assert_eq!(drawn.len(), to.len());
        assert_eq!(drawn, expected);
    });
}

#[test]
fn a_window_of_cycles_and_a_layer_hold_their_part() {
    with_network(&[], |mapped| {
        let (report, whole, _) = trace(mapped, &ALL);
        let middle = report.cycles.0 / 2;
        let window = Some(format!("{middle}..{}", middle + 500));
        let (_, part, _) = trace(mapped, &TraceSettings { window, ..ALL });
        assert!(part.remarks.iter().any(|text| text.contains("a part of the run only")), "{:?}", part.remarks);
        for (track, slices) in &part.slices {
            assert!(slices.iter().all(|s| s.end >= middle && s.start <= middle + 500), "{track:?}");
        }
        let value = |trace: &Decoded, track: &str, time: u64| {
            trace.counters[track].iter().take_while(|point| point.0 <= time).last().unwrap().1
        };
        for track in whole.counters.keys().filter(|name| !name.ends_with("bandwidth")) {
            for time in [middle, middle + 250, middle + 499] {
                assert!((value(&whole, track, time) - value(&part, track, time)).abs() < 0.5, "{track} at {time}");
            }
        }

        let (index, layer) = mapped.program.header.layers.iter().enumerate().rfind(|(_, l)| l.macs.0 > 0).unwrap();
        let (_, part, _) = trace(mapped, &TraceSettings { window: Some(layer.name.clone()), ..ALL });
        let of_layer = |trace: &Decoded| -> usize {
            let all = trace.slices.iter().filter(|((track, _), _)| track.ends_with("/instructions"));
            all.flat_map(|(_, slices)| slices).filter(|slice| slice.name == layer.name).count()
        };
        assert!(part.slices.values().flatten().all(|s| s.layer.as_ref().unwrap_or(&s.name) == &layer.name));
        assert_eq!(of_layer(&part), of_layer(&whole));
        assert_eq!(of_layer(&part) as u64, report.layers[index].instructions);
        let last = report.layers[index].last_retirement.0 / FS_PER_NS;
        assert!(part.counters.values().flatten().all(|point| point.0 <= last));
    });
}

#[test]
fn a_trace_that_is_cut_says_so_and_keeps_to_its_limit() {
    with_network(&[], |mapped| {
        let limit = 3000;
        let (report, cut, notes) = trace(mapped, &TraceSettings { events: limit, ..ALL });
        // Layers come on top, a value for each counter, and what leaves a buffer before the cut and is known after it.
        let more = 2 * report.layers.len() + 2 * cut.counters.len() + 100;
        assert!(cut.events <= limit + more as u64, "{}", cut.events);
        assert!(cut.remarks.iter().any(|text| text.contains("cut at 3,000 events")), "{:?}", cut.remarks);
        assert!(notes[0].contains("is cut") && notes[0].contains("--trace-window"), "{notes:?}");
        let kinds: BTreeSet<_> = cut.slices.values().flatten().map(|slice| slice.category.clone()).collect();
        assert!(kinds.contains("layer") && kinds.contains("load"), "{kinds:?}");
    });
}

#[test]
fn a_file_that_cannot_be_written_is_the_user_s_fault_and_leaves_nothing() {
    with_network(&[], |mapped| {
        let folder = tempfile::tempdir().unwrap();
        let taken = folder.path().join("taken");
        std::fs::create_dir(&taken).unwrap();
        for (file, expected) in [(folder.path().join("none/run"), "none"), (taken, "taken")] {
            let settings = TraceSettings { file, ..ALL };
            let fault = pipeline::time_traced(mapped, &settings, None, &mut Notes::default()).unwrap_err().to_string();
            assert!(fault.contains(expected) && fault.contains("--trace"), "{fault}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    });
}
