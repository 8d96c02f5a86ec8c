//! `systole report`, and the files of `systole run`: reads records, writes folders.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use super::{exit::Failure, settings::ReportSettings};
use crate::{
    diag::{Diagnostic, Faults},
    report::{self, MAX_RECORD_BYTES, WriteError},
    result::RunResult,
};

/// Reads all records, writes their folders, and returns the tables and what was written. All records are read before
/// anything is written, and the faults of all of them come together.
///
/// # Errors
/// What is wrong with a record, or what could not be written.
pub fn run(settings: &ReportSettings) -> Result<String, Failure> {
    let mut results = Vec::new();
    let mut faults = Vec::new();
    for path in &settings.records {
        match read(path) {
            Ok(result) => results.push(result),
            Err(found) => faults.extend(found.0),
        }
    }
    let (records, labels) = (settings.records.len(), settings.labels.len());
    if labels > 0 && labels != records {
        let message =
            format!("{records} records have {labels} labels: give `--label` once for each record, or not at all");
        faults.push(Diagnostic::error(message));
    }
    Faults::check(faults)?;
    for (result, label) in results.iter_mut().zip(&settings.labels) {
        result.provenance.label = Some(label.clone());
    }
    let mut text = String::new();
    for (index, result) in results.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        text += &report::table(result);
    }
    if let Some(out) = &settings.out {
        let folders = if results.len() == 1 { vec![out.clone()] } else { folders(out, &results) };
        for (result, folder) in results.iter().zip(folders) {
            text.push('\n');
            text += &write(result, &folder)?;
        }
    }
    Ok(text)
}

/// Writes a record's files into a folder and says so.
///
/// # Errors
/// What could not be written.
pub fn write(result: &RunResult, dir: &Path) -> Result<String, Failure> {
    let paths = report::write_all(result, dir).map_err(|error| match &error {
        WriteError::Io { .. } => Diagnostic::error(error.to_string()).with_help("give another folder to --out").into(),
        WriteError::Chart(_) | WriteError::Csv(_) => Failure::Internal(error.to_string()),
    })?;
    Ok(format!("wrote {} files into {}\n", paths.len(), dir.display()))
}

/// Reads one record; a file that is too large is not read further than the limit.
fn read(path: &Path) -> Result<RunResult, Faults> {
    let fault = |message: String| Faults::from(Diagnostic::error(message).with_file(path));
    let file = File::open(path).map_err(|error| fault(format!("cannot open the record: {error}")))?;
    let limit = u64::try_from(MAX_RECORD_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| fault(format!("cannot read the record: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|_| fault("a record is UTF-8 text: this file is not".to_owned()))?;
    report::read_json_named(&path.display().to_string(), &text)
}

/// A folder for each record: network and machine, with a number where that stood before.
fn folders(out: &Path, results: &[RunResult]) -> Vec<PathBuf> {
    let mut taken: Vec<String> = Vec::new();
    for result in results {
        let base = slug(&report::title(result));
        let mut name = base.clone();
        let mut number = 2;
        while taken.contains(&name) {
            name = format!("{base}_{number}");
            number += 1;
        }
        taken.push(name);
    }
    taken.iter().map(|name| out.join(name)).collect()
}

/// A name that every file system takes: letters, digits, `_`, `-` and inner dots, at most 100 bytes.
fn slug(text: &str) -> String {
    let mut name: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '_' })
        .take(100)
        .collect();
    if name.starts_with('.') {
        name.replace_range(..1, "_");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{Provenance, Totals, Verification};

    fn record(model: &str) -> RunResult {
        RunResult {
            schema: crate::result::SCHEMA,
            provenance: Provenance { model: model.to_owned(), config: "edge".to_owned(), ..Provenance::default() },
            machine: crate::result::Machine::default(),
            totals: Totals::default(),
            layers: Vec::new(),
            engines: Vec::new(),
            memories: Vec::new(),
            buffers: Vec::new(),
            verification: Verification::default(),
            expectation: None,
            accuracy: None,
            registers: None,
            cpu: None,
        }
    }

    #[test]
    fn equal_names_get_numbers_and_no_name_leaves_the_folder() {
        let results = [record("net"), record("net"), record("../../etc/x"), record("..")];
        let folders = folders(Path::new("out"), &results);
        let names: Vec<_> = folders.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(names, ["out/net_on_edge", "out/net_on_edge_2", "out/_._.._etc_x_on_edge", "out/_._on_edge"]);
    }

    #[test]
    fn faults_of_all_records_come_together_and_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let (good, bad) = (dir.path().join("good.json"), dir.path().join("bad.json"));
        std::fs::write(&good, report::json(&record("net"))).unwrap();
        std::fs::write(&bad, "{}").unwrap();
        let out = dir.path().join("out");
        let records = vec![good, bad, dir.path().join("none.json")];
        let failure = run(&ReportSettings { records, labels: Vec::new(), out: Some(out.clone()) }).unwrap_err();
        let text = failure.to_string();
        assert!(text.contains("bad.json") && text.contains("none.json") && !text.contains("good.json"), "{text}");
        assert!(!out.exists());
    }
}
