//! From a preset's name or a file to a validated machine: text, values, overrides laid over them, checks against the table
//! of fields, and then those of fields against each other. Every fault of all of them comes at once.

use std::{fs::File, io::Read, sync::Arc};

use serde_json::Value;

use super::{
    check::{self, MAX_FAULTS, Reading},
    cross,
    fields::{MAX_FILE_BYTES, quoted, thousands},
    overrides,
    places::{Places, closest},
    presets::presets,
    resolved::Accelerator,
    scalesim::{self, ScaleSimConfig},
    schema::{AcceleratorConfig, ROOT},
    syntax,
};
use crate::diag::{Diagnostic, Faults, Source};

/// Reads the config of a preset's name or a file's path, with overrides such as `array.rows=32` laid over it.
///
/// # Errors
/// Every fault of the text, of the overrides, and of what they mean together; or that there is no such file.
pub fn load(name_or_path: &str, overrides: &[String]) -> Result<Accelerator, Faults> {
    load_with_warnings(name_or_path, overrides).map(|(accelerator, _)| accelerator)
}

/// As [`load`], with what is legal and seldom meant, as warnings.
///
/// # Errors
/// As [`load`].
pub fn load_with_warnings(name_or_path: &str, overrides: &[String]) -> Result<(Accelerator, Vec<Diagnostic>), Faults> {
    let (source, warnings) = machine_of(source_of(name_or_path)?)?;
    let (machine, more) = read(&source, overrides)?;
    Ok((machine, warnings.into_iter().chain(more).collect()))
}

/// Reads a config of SCALE-Sim, with what has no effect here, as warnings.
///
/// # Errors
/// Every fault of the text, or that there is no such file.
pub fn load_scalesim(path: &str) -> Result<(ScaleSimConfig, Vec<Diagnostic>), Faults> {
    scalesim::parse(&source_of(path)?)
}

/// A config's text in our own terms: one of SCALE-Sim becomes the machine that stands closest to it.
fn machine_of(source: Source) -> Result<(Source, Vec<Diagnostic>), Faults> {
    if !source.name.to_lowercase().ends_with(".cfg") {
        return Ok((source, Vec::new()));
    }
    let (config, warnings) = scalesim::parse(&source)?;
    let name = format!("the machine of {}", source.name);
    Ok((Source { name, text: Arc::from(config.machine()) }, warnings))
}

/// The text of a preset or a file. Names of presets come first; a file of that name is reached by `./name`.
fn source_of(name_or_path: &str) -> Result<Source, Faults> {
    if let Some(preset) = presets().iter().find(|preset| preset.name == name_or_path) {
        return Ok(Source { name: format!("preset {}", preset.name), text: Arc::from(preset.text) });
    }
    let fault = |message: String| Diagnostic::error(message).with_file(name_or_path);
    let file = File::open(name_or_path).map_err(|error| {
        let names = || presets().iter().map(|preset| preset.name);
        let help = match closest(name_or_path, names()) {
            Some(name) => format!("did you mean the preset `{name}`?"),
            None => format!("give a file, or one of the presets {}", quoted(names())),
        };
        fault(format!("cannot open the config: {error}")).with_help(help)
    })?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| fault(format!("cannot read the config: {error}")).with_help("give a RON file"))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let message = format!("the config is larger than {} bytes", thousands(MAX_FILE_BYTES));
        return Err(fault(message).with_help("a config has a few kilobytes; is this another file?").into());
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        fault(format!("not a text: byte {at} is not UTF-8")).with_help("give a RON file")
    })?;
    Ok(Source { name: name_or_path.to_owned(), text: Arc::from(text) })
}

/// As [`load`], of a text that is at hand.
///
/// # Errors
/// Every fault of the text, of the overrides, and of what they mean together.
pub fn load_source(source: &Source, overrides: &[String]) -> Result<Accelerator, Faults> {
    read(source, overrides).map(|(accelerator, _)| accelerator)
}

fn read(source: &Source, overrides: &[String]) -> Result<(Accelerator, Vec<Diagnostic>), Faults> {
    let text = &*source.text;
    if text.len() as u64 > MAX_FILE_BYTES {
        let message = format!("the config is larger than {} bytes", thousands(MAX_FILE_BYTES));
        return Err(Diagnostic::error(message).with_file(&source.name).into());
    }
    let tree = syntax::parse(text).map_err(|error| syntax_fault(source, &error))?;
    let places = Places::of_text(source.clone(), Some(tree));
    let mut found = Vec::new();
    let mut reading = Reading { places: &places, found: &mut found, bare_texts: false };
    let value = places.tree().map_or(Value::Null, |tree| reading.json(tree, Some(&ROOT.kind), ""));
    finish(value, overrides, places, found)
}

/// Lays overrides over a config that was read before, as sweeps do.
///
/// # Errors
/// Every fault of the overrides and of what they mean for the rest.
pub fn with_overrides(base: &AcceleratorConfig, overrides: &[String]) -> Result<Accelerator, Faults> {
    finish(json(base)?, overrides, Places::default(), Vec::new()).map(|(accelerator, _)| accelerator)
}

/// Overrides, checks, the machine, and warnings.
fn finish(
    mut value: Value,
    overrides: &[String],
    mut places: Places,
    mut found: Vec<Diagnostic>,
) -> Result<(Accelerator, Vec<Diagnostic>), Faults> {
    // Overrides may go into fields that the file leaves out, and leave out fields themselves.
    check::complete(&mut value, &ROOT.kind);
    overrides::apply(&mut value, overrides, &mut places, &mut found);
    check::complete(&mut value, &ROOT.kind);
    check::check(&mut value, &ROOT, "", &places, &mut found);
    let typed: Result<AcceleratorConfig, _> = serde_path_to_error::deserialize(&value);
    match &typed {
        Ok(config) => cross::check(config, &places, &mut found),
        // The table should have found it; what `serde` says is the safety net.
        Err(error) if found.is_empty() => {
            let path = error.path().to_string().replace('[', ".").replace(']', "");
            found.push(places.fault(&path, error.inner().to_string()));
        }
        Err(_) => {}
    }
    if found.len() > MAX_FAULTS {
        found.truncate(MAX_FAULTS);
        found.push(Diagnostic::error(format!("more than {MAX_FAULTS} faults; the others are not shown")));
    }
    Faults::check(found)?;
    match typed {
        Ok(config) => {
            let warnings = cross::warnings(&config, &places);
            Ok((Accelerator::resolve(config), warnings))
        }
        Err(error) => Err(Diagnostic::error(error.to_string()).into()),
    }
}

/// A config as JSON, every field written out.
fn json(config: &AcceleratorConfig) -> Result<Value, Faults> {
    serde_json::to_value(config).map_err(|error| Diagnostic::error(format!("cannot write the config: {error}")).into())
}

fn syntax_fault(source: &Source, error: &syntax::SyntaxError) -> Diagnostic {
    let end = source.text.len();
    let range = error.span.start.min(end)..error.span.end.min(end);
    let fault = Diagnostic::error(error.message.clone()).with_span(source.clone(), range);
    if error.beyond_limits { fault.with_help("no config needs that") } else { fault }
}

/// A number that identifies a machine: 64-bit FNV-1a over its config as compact JSON, all fields in the order of the
/// schema, defaults written out.
///
/// # Panics
/// Never: every config can be written as JSON.
pub fn hash(accelerator: &Accelerator) -> u64 {
    let text = serde_json::to_string(&accelerator.config).expect("a config has only texts, numbers and lists");
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
