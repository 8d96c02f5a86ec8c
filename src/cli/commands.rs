//! The calls into the facade, one function a command. Each takes settings and returns what to show; only this file of
//! the command line knows the facade's names.

use std::{fmt::Write as _, path::PathBuf};

use super::{
    exit::Failure,
    faults,
    settings::{
        CheckSettings, Expect, InspectSettings, MachineSettings, MapSettings, RtlSettings, RunSettings, WaveSettings,
    },
};
use crate::{
    config::{self, Accelerator},
    diag::{Diagnostic, Faults, Progress},
    ir,
    pipeline::{self, Evaluator, LayerKind, Samples},
    result::RunResult,
    units::thousands,
};

impl From<pipeline::Failure> for Failure {
    fn from(failure: pipeline::Failure) -> Self {
        match failure {
            pipeline::Failure::User(faults) => Self::Input(faults),
            pipeline::Failure::Internal(message) => Self::Internal(message),
        }
    }
}

/// A batch as the importers take it.
fn batch_of(batch: u64) -> Result<usize, Failure> {
    usize::try_from(batch).map_err(|_| Diagnostic::error(format!("a batch of {batch} is too large")).into())
}

fn overrides_of(machine: &MachineSettings) -> Vec<String> {
    machine.overrides.iter().map(ToString::to_string).collect()
}

fn machine_of(machine: &MachineSettings) -> Result<Accelerator, Faults> {
    config::load(&machine.config, &overrides_of(machine))
}

/// Reads the files, maps, executes, times and verifies. A mismatch is a result, not a failure.
pub fn run(settings: &RunSettings, progress: &mut dyn Progress) -> Result<RunResult, Failure> {
    let accelerator = machine_of(&settings.machine)?;
    progress.stage("reading the model", None, "");
    let (model, warnings) = pipeline::load_model_with_warnings(&settings.model, Some(batch_of(settings.batch)?))?;
    for warning in warnings {
        progress.note(&format!("warning: {warning}"));
    }
    let samples = |path: &Option<PathBuf>| path.as_deref().map(|path| Samples::open(path, &model.graph)).transpose();
    let expected = |expect: &Expect| pipeline::Expected::read(&expect.file, expect.tolerance);
    let options = pipeline::Options {
        fidelity: settings.fidelity.into(),
        no_execute: !settings.execute,
        requantize: settings.requantize,
        cpu_time: settings.cpu_time,
        samples: samples(&settings.data)?,
        calibration: samples(&settings.calibrate)?,
        expected: settings.expect.as_ref().map(expected).transpose()?,
        label: settings.label.clone(),
        overrides: overrides_of(&settings.machine),
        memory_trace: settings.memory_trace.clone(),
        trace: settings.trace.clone(),
    };
    Ok(Evaluator::default().evaluate(&model, &accelerator, &options, progress)?)
}

/// The array over time, as text; or what was written of it as a waveform.
pub fn wave(settings: &WaveSettings) -> Result<String, Failure> {
    let accelerator = machine_of(&settings.machine)?;
    Ok(match &settings.vcd {
        Some(file) => pipeline::record_wave(&accelerator, settings.wave, file, settings.vectors.as_deref())?,
        None => pipeline::wave(&accelerator, settings.wave)?,
    })
}

/// A text that says that the config, and the network on it, are fine; else the faults of both at once.
pub fn check(settings: &CheckSettings) -> Result<String, Failure> {
    let machine = config::load_with_warnings(&settings.machine.config, &overrides_of(&settings.machine));
    let model = settings.model.as_deref().map(|path| pipeline::load_model_with_warnings(path, None)).transpose();
    let ((accelerator, warnings), model) = match (machine, model) {
        (Ok(machine), Ok(model)) => (machine, model),
        (machine, model) => {
            let mut all = machine.err().map_or_else(Vec::new, |faults| faults.0);
            all.extend(model.err().map_or_else(Vec::new, |faults| faults.0));
            return Err(Faults(all).into());
        }
    };
    let array = &accelerator.config.array;
    let mut text = format!(
        "{}: no fault; {} x {} array at {} MHz\n",
        accelerator.config.name, array.rows, array.cols, array.clock_mhz
    );
    for warning in warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    for number in config::not_modelled(&accelerator) {
        let _ = writeln!(text, "not modelled: {number}");
    }
    if let Some((model, warnings)) = model {
        for warning in warnings {
            let _ = writeln!(text, "warning: {warning}");
        }
        // What `run` would refuse without its flag, `check` says without being asked.
        let strict = pipeline::prepare(&model, &accelerator, None, false);
        let needs_requantizing = matches!(strict, Err(pipeline::Failure::User(_)));
        let network = strict.or_else(|_| pipeline::prepare(&model, &accelerator, None, true))?;
        let mapped = pipeline::map(&network, &accelerator)?;
        let layers = &mapped.program.header.layers;
        let on = |kind| layers.iter().filter(move |layer| layer.kind == kind);
        let (array, vector) = (on(LayerKind::Array).count(), on(LayerKind::Vector).count());
        let _ = writeln!(
            text,
            "{}: no fault; {} layers, {array} on the array, {vector} on the vector unit, {} on the host",
            model.graph.name,
            layers.len(),
            on(LayerKind::Host).count()
        );
        for layer in on(LayerKind::Host) {
            let _ = writeln!(text, "on the host: {} ({})", layer.name, layer.op);
        }
        let narrow: Vec<&str> = layers.iter().filter(|l| pipeline::can_overflow(l)).map(|l| l.name.as_str()).collect();
        if let Some(first) = narrow.first() {
            let _ = writeln!(
                text,
                "warning: sums of {} layers may leave the machine's adders (`array.column_bits` {}, `accumulators.bits` \
                 {}), first of `{first}`; what a run compares with then overflows too",
                narrow.len(),
                accelerator.config.array.column_bits,
                accelerator.config.accumulators.bits
            );
        }
        if needs_requantizing {
            let _ = writeln!(text, "runs with `--requantize` only: the machine lacks what the model's arithmetic uses");
        }
    }
    Ok(text)
}

/// The network's layers as text.
pub fn inspect(settings: &InspectSettings) -> Result<String, Failure> {
    let (model, warnings) = pipeline::load_model_with_warnings(&settings.model, None)?;
    let graph = &model.graph;
    let mut text = graph.to_string();
    for warning in warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    // The stage is the importer's: a model of integers is imported as it is written, with its conversions.
    let quantized = graph.values.iter().filter(|value| value.quant.is_some()).count();
    let converts = graph.nodes.iter().any(|node| matches!(node.op, ir::Op::QuantizeLinear | ir::Op::DequantizeLinear));
    let arithmetic = if quantized > 0 || converts { "quantized" } else { "float" };
    text = text.replacen("(float)", &format!("({arithmetic} model)"), 1);
    let macs = graph.nodes.iter().map(|node| ir::macs::macs(graph, node)).fold(0, u64::saturating_add);
    let weights: u64 = graph.values.iter().filter(|value| value.constant.is_some()).map(ir::Value::elements).sum();
    let _ = writeln!(
        text,
        "{} nodes, {} MACs, {} constant elements",
        graph.nodes.len(),
        thousands(macs),
        thousands(weights)
    );
    Ok(text)
}

/// Writes each layer's mapping, and the program, as text.
pub fn map(settings: &MapSettings, text: &mut dyn std::fmt::Write) -> Result<(), Failure> {
    let accelerator = machine_of(&settings.machine)?;
    let model = pipeline::load_model(&settings.model, None)?;
    let network = pipeline::prepare(&model, &accelerator, None, true)?;
    let mapped = pipeline::map(&network, &accelerator)?;
    let header = &mapped.program.header;
    if let Some(wanted) = &settings.layer
        && !header.layers.iter().any(|layer| layer.name == *wanted)
    {
        let names: Vec<&str> = header.layers.iter().map(|layer| layer.name.as_str()).collect();
        return Err(Diagnostic::error(format!("no layer is named `{wanted}`"))
            .with_help(format!("the layers are: {}", names.join(", ")))
            .into());
    }
    Ok(pipeline::describe_mapping(&mapped, settings.layer.as_deref(), settings.program, text)?)
}

/// Writes the array's hardware and compares it with the model, a dataflow after the other. Returns what to show, and whether
/// nothing differs.
pub fn rtl(settings: &RtlSettings, progress: &mut dyn Progress) -> Result<(String, bool), Failure> {
    let accelerator = machine_of(&settings.machine)?;
    let dataflows = match settings.dataflow {
        Some(one) => vec![one],
        None => accelerator.config.array.dataflows.clone(),
    };
    let lower = |dataflow| format!("{dataflow:?}").to_lowercase();
    let mut text = String::new();
    if let Some(out) = &settings.out {
        for &dataflow in &dataflows {
            let folder = out.join(lower(dataflow));
            let names = pipeline::emit(&accelerator, dataflow, &folder)?;
            let _ = writeln!(text, "{}: {}", folder.display(), names.join(" "));
            if !names.iter().any(|name| name == "requantize.sv") {
                text.push_str("no requantization stage: `vector.requantizer` is `F32Rne`, a float32 multiplier\n");
            }
        }
    }
    let Some(count) = settings.programs else { return Ok((text, true)) };
    let temporary = std::env::temp_dir().join(format!("systole_rtl_{}", std::process::id()));
    let folder = settings.out.as_ref().map_or(temporary.clone(), |out| out.join("check"));
    let compare = || {
        let mut all = pipeline::Comparison::default();
        for dataflow in dataflows {
            progress.stage(&format!("{dataflow:?} under Verilator"), None, "");
            let design = pipeline::simulated_design(&accelerator, dataflow)?;
            let programs = pipeline::random_programs(&design, 1, count);
            all.add(pipeline::cosimulate(&accelerator, dataflow, &programs, &folder.join(lower(dataflow)), None)?);
        }
        Ok::<_, Failure>(all)
    };
    let all = compare();
    // Where it is not there, nothing is lost.
    let _ = std::fs::remove_dir_all(temporary);
    let all = all?;
    for line in &all.told {
        let _ = writeln!(text, "{line}");
    }
    let _ = writeln!(text, "{all}");
    Ok((text, all.differences == 0))
}

/// The list of presets, or one of them as a config file's text.
pub fn presets(name: Option<&str>) -> Result<String, Failure> {
    match name {
        None => {
            let mut text = String::new();
            for preset in config::presets() {
                let _ = writeln!(text, "{:<16} {}", preset.name, preset.summary);
            }
            Ok(text)
        }
        Some(name) => {
            // An unknown name is the config loader's fault to explain.
            config::load(name, &[])?;
            config::presets()
                .iter()
                .find(|preset| preset.name == name)
                .map(|preset| preset.text.to_string())
                .ok_or_else(|| Diagnostic::error(format!("`{name}` is a file, not a preset")).into())
        }
    }
}

/// Faults as text on standard error.
pub fn render(failure: &Failure, colour: bool) -> String {
    match failure {
        Failure::Input(found) => faults::render(found, colour),
        internal @ Failure::Internal(_) => format!("{internal}\nplease report this with the command that you ran\n"),
    }
}
