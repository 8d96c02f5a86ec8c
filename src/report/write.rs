//! Writes every output of a record into a folder.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{Chart, ChartError, CsvError, csv, json};
use crate::result::RunResult;

/// An output could not be made or written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The system refused.
    #[error("cannot write `{}`: {source}", path.display())]
    Io {
        /// What was to be written.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A chart could not be drawn.
    #[error(transparent)]
    Chart(#[from] ChartError),
    /// The rows could not be formed.
    #[error(transparent)]
    Csv(#[from] CsvError),
}

/// Writes `run.json`, `layers.csv` and each chart as PNG and SVG into `dir`, which is created if it is not there.
/// Returns the paths in the order of writing. The same record gives the same bytes.
///
/// Each file is written to a hidden name first and renamed, so that no half file ever has its final name.
///
/// # Errors
/// Whatever the file system says, with the path.
pub fn write_all(result: &RunResult, dir: &Path) -> Result<Vec<PathBuf>, WriteError> {
    let mut files = vec![("run.json".to_owned(), json(result).into_bytes()), ("layers.csv".to_owned(), csv(result)?)];
    for chart in Chart::ALL {
        let picture = chart.draw(result)?;
        files.push((format!("{}.png", chart.file_stem()), picture.png));
        files.push((format!("{}.svg", chart.file_stem()), picture.svg.into_bytes()));
    }
    fs::create_dir_all(dir).map_err(|source| WriteError::Io { path: dir.to_owned(), source })?;
    files.iter().map(|(name, bytes)| write(dir, name, bytes)).collect()
}

/// Writes one file under a hidden name and renames it.
fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, WriteError> {
    let path = dir.join(name);
    let partial = dir.join(format!(".{name}.partial"));
    let written = fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, &path));
    written.map_err(|source| {
        // The first error is the one to report, whether or not the rest can be removed.
        let _ = fs::remove_file(&partial);
        WriteError::Io { path: path.clone(), source }
    })?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{read_json, sample};

    #[test]
    fn a_folder_gets_all_outputs_and_no_partial_file() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("new/folder");
        let result = sample::run(9);
        let paths = write_all(&result, &target).unwrap();
        let names: Vec<_> = paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
        assert_eq!(
            names,
            [
                "run.json",
                "layers.csv",
                "causes.png",
                "causes.svg",
                "utilization.png",
                "utilization.svg",
                "roofline.png",
                "roofline.svg"
            ]
        );
        assert_eq!(fs::read_dir(&target).unwrap().count(), names.len());
        let back = read_json(&fs::read_to_string(&paths[0]).unwrap()).unwrap();
        let again = dir.path().join("again");
        for (one, two) in paths.iter().zip(write_all(&back, &again).unwrap()) {
            assert_eq!(fs::read(one).unwrap(), fs::read(two).unwrap());
        }
    }

    #[test]
    fn a_path_that_is_a_file_is_an_error_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("taken");
        fs::write(&file, "").unwrap();
        let message = write_all(&sample::run(1), &file).unwrap_err().to_string();
        assert!(message.contains("taken"), "{message}");
    }
}
