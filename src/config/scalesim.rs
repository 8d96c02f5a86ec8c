//! SCALE-Sim's `.cfg` files: what they say, and the machine of ours that stands closest to it.
//!
//! Ini as Python's `configparser` reads it: `[section]`, `key = value` or `key: value`, keys without regard to case,
//! lines that begin with `#` or `;` are comments. Of the sections `general`, `architecture_presets` and `run_presets`
//! the keys below are read; all others are SCALE-Sim's and without effect here.
//!
//! | key | here | our machine |
//! |---|---|---|
//! | `run_name` | the folder of the reports | `name` |
//! | `ArrayHeight`, `ArrayWidth` | the array | `array.rows`, `array.cols` |
//! | `Dataflow` (`os`, `ws`, `is`) | the dataflow | `array.dataflows`, the only one |
//! | `IfmapSramSzkB`, `FilterSramSzkB`, `OfmapSramSzkB` | buffers of 1,024-word kilobytes | `buffers.layout.Split`, in bytes |
//! | `Bandwidth` (10) | words a cycle of each of three interfaces, in USER mode | `dma.bytes_per_cycle`; three times it at the memory |
//! | `InterfaceBandwidth` (`CALC`, `USER`) | whether memory may stall the array | in CALC mode both are as wide as a config allows |
//!
//! What it does not say, the machine has as SCALE-Sim's has it: uint8 activations and int8 weights, a word a byte; 1 GHz, which
//! cancels out of all cycles; a stationary operand loaded a row a cycle, without shadow registers and without tiles that
//! overlap; int32 accumulators, as many as the output buffer has words and at least two array tiles' worth; a vector unit
//! that turns a row of sums into outputs each cycle; memory without latency, in bursts of 64 bytes; no cost to issue commands
//! or to begin a layer. `--set` changes any of it.

use std::{collections::BTreeMap, ops::Range};

use crate::diag::{Diagnostic, Faults, Source};

/// What stays in the array, by SCALE-Sim's dataflows: three kinds that its formulas know, whatever dataflows of ours there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stays {
    /// `os`.
    Outputs,
    /// `ws`.
    Filters,
    /// `is`.
    Inputs,
}

impl Stays {
    /// The dataflow's name in our configs.
    const fn name(self) -> &'static str {
        match self {
            Self::Outputs => "OS",
            Self::Filters => "WS",
            Self::Inputs => "IS",
        }
    }
}

/// What stands behind the array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// Memory never stalls the array; its bandwidth is a result.
    Calc,
    /// Memory has a bandwidth.
    User,
}

/// What a config says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScaleSimConfig {
    /// What the run is called; a folder's name.
    pub run_name: String,
    /// Rows of the array.
    pub rows: u64,
    /// Columns of the array.
    pub cols: u64,
    /// Kilobytes for activations.
    pub ifmap_kb: u64,
    /// Kilobytes for weights.
    pub filter_kb: u64,
    /// Kilobytes for results.
    pub ofmap_kb: u64,
    /// The dataflow.
    pub dataflow: Stays,
    /// Words a cycle of an interface in USER mode.
    pub bandwidth: u64,
    /// Whether memory may stall the array.
    pub interface: Interface,
}

/// Rows or columns of the largest array.
const MOST_LANES: u64 = 1 << 16;
/// Largest buffer: 1 GiB.
const MOST_KILOBYTES: u64 = 1 << 20;
/// What SCALE-Sim takes for a bandwidth that is not given.
const USUAL_BANDWIDTH: u64 = 10;

/// Reads a config, with what is asked of SCALE-Sim and has no effect here, as warnings.
///
/// # Errors
/// All faults of the text at once.
pub fn parse(source: &Source) -> Result<(ScaleSimConfig, Vec<Diagnostic>), Faults> {
    let mut reading = Reading { source, values: BTreeMap::new(), found: Vec::new() };
    reading.lines();
    let config = ScaleSimConfig {
        run_name: reading.run_name(),
        rows: reading.number("architecture_presets", "ArrayHeight", MOST_LANES, None),
        cols: reading.number("architecture_presets", "ArrayWidth", MOST_LANES, None),
        ifmap_kb: reading.number("architecture_presets", "IfmapSramSzkB", MOST_KILOBYTES, None),
        filter_kb: reading.number("architecture_presets", "FilterSramSzkB", MOST_KILOBYTES, None),
        ofmap_kb: reading.number("architecture_presets", "OfmapSramSzkB", MOST_KILOBYTES, None),
        dataflow: reading.choice(
            "architecture_presets",
            "Dataflow",
            &[("os", Stays::Outputs), ("ws", Stays::Filters), ("is", Stays::Inputs)],
        ),
        bandwidth: reading.number("architecture_presets", "Bandwidth", 1 << 12, Some(USUAL_BANDWIDTH)),
        interface: reading.choice(
            "run_presets",
            "InterfaceBandwidth",
            &[("calc", Interface::Calc), ("user", Interface::User)],
        ),
    };
    let warnings = reading.without_effect();
    Faults::check(reading.found)?;
    Ok((config, warnings))
}

struct Reading<'a> {
    source: &'a Source,
    /// Values by section and key, in lower case, with their places.
    values: BTreeMap<(String, String), (String, Range<usize>)>,
    found: Vec<Diagnostic>,
}

impl Reading<'_> {
    fn lines(&mut self) {
        let text = self.source.text.clone();
        let (mut section, mut offset) = (String::new(), 0);
        for line in text.split_inclusive('\n') {
            let begin = offset;
            offset += line.len();
            let line = line.trim_start_matches('\u{feff}').trim();
            let place = begin..begin + line.len().min(200);
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = name.trim().to_lowercase();
            } else if let Some(at) = line.find(['=', ':']) {
                let (key, value) = (line[..at].trim().to_lowercase(), line[at + 1..].trim());
                self.values.insert((section.clone(), key), (value.to_owned(), place));
            } else {
                self.fault(place, "a line is a section, `key = value` or `key: value`", "comment it out with `#`");
            }
        }
    }

    fn fault(&mut self, place: Range<usize>, message: impl Into<String>, help: &str) {
        if self.found.len() < 50 {
            self.found.push(Diagnostic::error(message).with_span(self.source.clone(), place).with_help(help));
        }
    }

    fn missing(&mut self, section: &str, key: &str) {
        let message = format!("`{key}` of section `[{section}]` is missing");
        let help = "see the config files that come with SCALE-Sim";
        self.found.push(Diagnostic::error(message).with_file(&self.source.name).with_help(help));
    }

    fn value(&self, section: &str, key: &str) -> Option<(String, Range<usize>)> {
        self.values.get(&(section.to_owned(), key.to_lowercase())).cloned()
    }

    /// A whole number from 1; 1 where it is at fault.
    fn number(&mut self, section: &str, key: &str, most: u64, usual: Option<u64>) -> u64 {
        let Some((text, place)) = self.value(section, key) else {
            if usual.is_none() {
                self.missing(section, key);
            }
            return usual.unwrap_or(1);
        };
        // A bandwidth may be a list, one for each interface; the first counts.
        let first = text.split(',').next().unwrap_or_default().trim();
        match first.parse::<u64>() {
            Ok(number) if (1..=most).contains(&number) => number,
            _ => {
                let shown: String = text.chars().take(40).collect();
                self.fault(place, format!("`{key}` is a whole number from 1 to {most}: `{shown}`"), "correct it");
                1
            }
        }
    }

    /// One of some words without regard to case; the first where it is at fault.
    fn choice<T: Copy>(&mut self, section: &str, key: &str, choices: &[(&str, T)]) -> T {
        match self.value(section, key) {
            None => self.missing(section, key),
            Some((text, place)) => {
                if let Some(&(_, choice)) = choices.iter().find(|(name, _)| text.eq_ignore_ascii_case(name)) {
                    return choice;
                }
                let names: Vec<String> = choices.iter().map(|(name, _)| format!("`{name}`")).collect();
                let shown: String = text.chars().take(40).collect();
                self.fault(place, format!("`{key}` is one of {}: `{shown}`", names.join(", ")), "choose one");
            }
        }
        choices[0].1
    }

    /// A folder's name, so it may not lead elsewhere.
    fn run_name(&mut self) -> String {
        let Some((name, place)) = self.value("general", "run_name") else {
            self.missing("general", "run_name");
            return String::new();
        };
        let plain = |c: char| c.is_alphanumeric() || "-_.+ ()[]=,@".contains(c);
        let name = name.trim_matches(['"', '\'']).to_owned();
        if name.is_empty() || name.starts_with('.') || name.len() > 64 || !name.chars().all(plain) {
            let message = "`run_name` is a folder's name of at most 64 letters, digits, and `-_.+ ()[]=,@`";
            self.fault(place, message, "give it a plain name");
        }
        name
    }

    fn without_effect(&self) -> Vec<Diagnostic> {
        let asked = [
            ("sparsity", "SparsitySupport", "layers run dense"),
            ("run_presets", "UseRamulatorTrace", "no trace of Ramulator is read"),
            ("layout", "IfmapCustomLayout", "banks of the input buffer do not conflict"),
            ("layout", "FilterCustomLayout", "banks of the weight buffer do not conflict"),
        ];
        asked
            .into_iter()
            .filter_map(|(section, key, instead)| {
                let (text, place) = self.value(section, key)?;
                let asked = text.eq_ignore_ascii_case("true");
                let warning = || Diagnostic::warning(format!("`{key}` has no effect: {instead}"));
                asked.then(|| warning().with_span(self.source.clone(), place))
            })
            .collect()
    }
}

impl ScaleSimConfig {
    /// The machine of ours that stands closest to it, as a config's text.
    pub fn machine(&self) -> String {
        /// The widest that a config may be.
        const WIDEST: u64 = 4096;
        let width = match self.interface {
            Interface::Calc => WIDEST,
            Interface::User => self.bandwidth,
        };
        let sums = (self.ofmap_kb * 1024).max(2 * self.rows * self.cols);
        let lanes = self.cols.min(WIDEST);
        let buffer =
            |kilobytes: u64| format!("(bytes: {}, banks: 1, word_bytes: {WIDEST}, ports: 2)", kilobytes * 1024);
        format!(
            include_str!("scalesim.ron"),
            name = self.run_name,
            rows = self.rows,
            cols = self.cols,
            dataflow = self.dataflow.name(),
            input = buffer(self.ifmap_kb),
            weight = buffer(self.filter_kb),
            output = buffer(self.ofmap_kb),
            accumulators = 4 * sums,
            // At 1 GHz, a byte a cycle is 1 GB/s.
            memory = 3 * width,
            widest = WIDEST,
            width = width,
            lanes = lanes,
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::load_source;

    const TEXT: &str = "[general]\nrun_name = a run\n\n[architecture_presets]\nArrayHeight:  8\nArrayWidth : 16\n\
        IfmapSramSzkB = 1\nFilterSramSzkB: 2\nOfmapSramSzkB: 3 \nIfmapOffset: 0\nDataflow : WS\nBandwidth : 7,8\n\
        [layout]\nIfmapCustomLayout: True\n; note\n[run_presets]\nInterfaceBandwidth: USER\nUseRamulatorTrace: False";

    fn source(text: &str) -> Source {
        Source { name: "x.cfg".to_owned(), text: Arc::from(text) }
    }

    #[test]
    fn a_config_is_read_as_it_is_written() {
        let (config, warnings) = parse(&source(TEXT)).unwrap();
        let expected = ScaleSimConfig {
            run_name: "a run".to_owned(),
            rows: 8,
            cols: 16,
            ifmap_kb: 1,
            filter_kb: 2,
            ofmap_kb: 3,
            dataflow: Stays::Filters,
            bandwidth: 7,
            interface: Interface::User,
        };
        assert_eq!(config, expected);
        assert_eq!(warnings.len(), 1);
        assert!(
            warnings[0].to_string().starts_with("x.cfg:14:1: `IfmapCustomLayout` has no effect"),
            "{}",
            warnings[0]
        );
    }

    #[test]
    fn all_faults_come_at_once_with_their_lines() {
        let text = TEXT
            .replace("ArrayHeight:  8", "ArrayHeight: 0")
            .replace("Dataflow : WS", "Dataflow : rs")
            .replace("OfmapSramSzkB: 3", "OfmapSramSzkB: x")
            .replace("FilterSramSzkB: 2", "")
            .replace("a run", "../up")
            .replace("; note", "note");
        let faults = parse(&source(&text)).unwrap_err().to_string();
        for part in [
            "x.cfg:2:1: `run_name`",
            "x.cfg:5:1: `ArrayHeight`",
            "`FilterSramSzkB` of section",
            "x.cfg:9:1: `Ofmap",
            "x.cfg:11:1: `Dataflow` is one of `os`, `ws`, `is`: `rs`",
            "x.cfg:15:1: a line is",
        ] {
            assert!(faults.contains(part), "{part}: {faults}");
        }
        assert_eq!(faults.lines().count(), 6, "{faults}");
    }

    #[test]
    fn the_machine_is_legal_in_both_modes() {
        for mode in ["USER", "CALC"] {
            let (config, _) = parse(&source(&TEXT.replace("USER", mode))).unwrap();
            let machine = load_source(&source(&config.machine()), &[]).unwrap_or_else(|faults| panic!("{faults}"));
            assert_eq!((machine.config.array.rows, machine.config.array.cols), (8, 16));
            assert_eq!(machine.config.array.dataflows, [crate::config::Dataflow::WS]);
        }
    }
}
