//! What today's build says of many networks on many machines, kept as text: cycles, causes, bytes and mapping of each layer,
//! a digest of its output's values and of the program's text. A change that restructures leaves all of it as it is; a
//! change that moves a number shows here which. `tests/golden/remake` writes the files again.
//!
//! The text names each figure, so that keys added to the record do not change it. Machines and networks of
//! [`random`] are drawn here and not by the strategies of the property tests, which grow.

mod random;

use std::{fmt::Write as _, fs, path::PathBuf};

use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};
use systole::{
    ir::ValueId,
    pipeline::{self, Options},
    program::text::Line,
    result::{Causes, RunResult, Traffic},
    tensor::Tensor,
};

/// Large networks are executed where execution takes seconds and not minutes.
const EXECUTES_LARGE: bool = !cfg!(debug_assertions);

/// 64-bit FNV-1a.
struct Digest(u64);

impl Digest {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

fn path(relative: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn digest_of(tensor: &Tensor) -> u64 {
    let mut digest = Digest::new();
    digest.bytes(format!("{:?} {:?}", tensor.dtype(), tensor.shape()).as_bytes());
    if let Tensor::F32(values) = tensor {
        for value in values {
            digest.bytes(&value.to_bits().to_le_bytes());
        }
    } else {
        let values = tensor.to_integers().expect("integers where not f32");
        for value in values {
            digest.bytes(&value.to_le_bytes());
        }
    }
    digest.0
}

fn causes(causes: &Causes) -> String {
    causes
        .entries()
        .iter()
        .filter(|&&(_, cycles)| cycles > 0)
        .map(|(name, cycles)| format!("{name}={cycles}"))
        .collect::<Vec<_>>()
        .join(" ")
}

fn bytes(traffic: &Traffic) -> String {
    let Traffic { input_bytes, weight_bytes, output_bytes, moved_bytes } = traffic;
    format!("in={input_bytes} weights={weight_bytes} out={output_bytes} moved={moved_bytes}")
}

/// What is run.
#[derive(Default)]
struct Subject {
    config: String,
    overrides: Vec<String>,
    model: PathBuf,
    requantize: bool,
    no_execute: bool,
}

/// A run's projection. Digests of values stand behind ` | `, and are left out where nothing is executed.
fn projection(title: &str, settings: &Subject) -> String {
    let accelerator = pipeline::load_config(&settings.config, &settings.overrides).expect("a legal machine");
    let model = pipeline::load_model(&settings.model, None).expect("a legal model");
    let network = pipeline::prepare(&model, &accelerator, None, settings.requantize).expect("a network to quantize");
    let mapped = match pipeline::map(&network, &accelerator) {
        Ok(mapped) => mapped,
        Err(faults) => return format!("== {title}\nrefused: {}\n", faults.0[0].message),
    };
    let options = Options {
        requantize: settings.requantize,
        no_execute: settings.no_execute,
        overrides: settings.overrides.clone(),
        ..Options::default()
    };
    let result: RunResult = pipeline::evaluate(&model, &accelerator, &options).expect("a run");
    let values = (result.verification.compared > 0).then(|| {
        let inputs = pipeline::random_inputs(&network.quantized);
        pipeline::reference_of(&mapped, &inputs, false).expect("the reference runs what the machine ran")
    });

    let mut digest = Digest::new();
    let mut line = String::new();
    let mut instructions = 0_u64;
    for instruction in mapped.program.instructions() {
        line.clear();
        let of = Line { accelerator: &accelerator, header: &mapped.program.header, instruction: &instruction };
        writeln!(line, "{of}").expect("text");
        digest.bytes(line.as_bytes());
        instructions += 1;
    }

    let mut text = format!("== {title}\n");
    let totals = &result.totals;
    writeln!(
        text,
        "total {} cycles; {}; {}; macs {} beats {} busy {} | {:?} {}",
        totals.cycles,
        causes(&totals.causes),
        bytes(&totals.traffic),
        totals.macs,
        totals.beats,
        totals.array_busy,
        result.verification.status.as_str(),
        result.verification.compared,
    )
    .expect("text");
    writeln!(text, "program {instructions} instructions {:016x}", digest.0).expect("text");
    for engine in &result.engines {
        writeln!(
            text,
            "engine {}: busy {} waiting {} instructions {}",
            engine.name, engine.busy, engine.waiting, engine.instructions
        )
        .expect("text");
    }
    for memory in &result.memories {
        writeln!(
            text,
            "memory {}: read {} written {} moved {}",
            memory.name, memory.read_bytes, memory.written_bytes, memory.moved_bytes
        )
        .expect("text");
    }
    for (row, header) in result.layers.iter().zip(&mapped.program.header.layers) {
        let output: ValueId = network.quantized.nodes[header.node.index()].outputs[0];
        let value = values.as_ref().and_then(|values| values.value(output)).map(digest_of);
        writeln!(
            text,
            "{}: {} cycles span {} bound {}; {}; {}; {} | {}",
            row.name,
            row.cycles,
            row.span,
            row.bound,
            causes(&row.causes),
            bytes(&row.traffic),
            row.mapping,
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:016x}")),
        )
        .expect("text");
    }
    text
}

/// Without what stands behind ` | `.
fn without_values(text: &str) -> String {
    text.lines().map(|line| line.split(" | ").next().unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// Holds a text to the kept one, or keeps it where `UPDATE_GOLDEN` is set.
fn hold(name: &str, text: &str, values: bool) {
    let file = path("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        assert!(values, "golden files are written by a release build, which executes all networks");
        fs::write(&file, text).expect("a file to write");
        return;
    }
    let kept = fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("{}: {error}; run tests/golden/remake", file.display()));
    let (kept, text) = if values { (kept, text.to_owned()) } else { (without_values(&kept), without_values(text)) };
    if kept == text {
        return;
    }
    let (mut title, mut shown, mut count) = ("", String::new(), 0);
    for (before, after) in kept.lines().zip(text.lines()) {
        if after.starts_with("== ") {
            title = after;
        }
        if before != after {
            count += 1;
            if count <= 8 {
                writeln!(shown, "{title}\n  kept {before}\n  now  {after}").expect("text");
            }
        }
    }
    panic!(
        "{name}: {count} of {} lines differ ({} lines kept):\n{shown}\nwhere a number is meant to change: tests/golden/remake, \
         and say in the commit which and why",
        text.lines().count(),
        kept.lines().count()
    );
}

#[test]
fn presets_run_mnist_as_kept() {
    let mut text = String::new();
    for machine in ["edge_16x16", "edge_32x32", "gemmini_like", "tpu_v1_like", "neuroncore_like"] {
        let settings = Subject {
            config: machine.into(),
            model: path("models/mnist_cnn.onnx"),
            requantize: true,
            ..Subject::default()
        };
        text += &projection(&format!("mnist_cnn on {machine}"), &settings);
    }
    hold("presets.txt", &text, true);
}

#[test]
fn layer_lists_run_as_kept() {
    // One network takes most of a core; side by side they take all.
    let runs: Vec<_> = ["alexnet", "googlenet", "mobilenet_v2", "resnet50", "vgg16"]
        .into_iter()
        .flat_map(|network| ["edge_32x32", "gemmini_like"].map(|machine| (network, machine)))
        .collect();
    let text: String = runs
        .into_par_iter()
        .map(|(network, machine)| {
            let settings = Subject {
                config: machine.into(),
                model: path(&format!("models/{network}.ron")),
                requantize: true,
                no_execute: !EXECUTES_LARGE,
                ..Subject::default()
            };
            projection(&format!("{network} on {machine}"), &settings)
        })
        .collect();
    hold("layer_lists.txt", &text, EXECUTES_LARGE);
}

#[test]
fn random_networks_on_random_machines_run_as_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut text = String::new();
    for seed in 0..random::CASES {
        let case = random::case(seed);
        let model = dir.path().join(format!("random{seed}.ron"));
        fs::write(&model, &case.network).expect("a file to write");
        let settings = Subject {
            config: case.preset.into(),
            model,
            requantize: true,
            overrides: case.overrides.clone(),
            ..Subject::default()
        };
        let title = format!("random{seed} on {} {}", case.preset, case.overrides.join(" "));
        text += &projection(&title, &settings);
    }
    let refused = text.matches("\nrefused: ").count();
    assert!(refused <= 3, "{refused} machines are too small for their network");
    hold("random.txt", &text, true);
}
