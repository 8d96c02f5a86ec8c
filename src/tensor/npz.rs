//! Plain arrays in `.npz` files, as numpy's `savez` and `savez_compressed` write them: samples, labels, expected
//! outputs. Untrusted: what a file declares is held against its limits before anything is allocated.

mod archive;
mod blocks;
mod npy;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufWriter, Read},
    path::Path,
};

use archive::{Archive, ArchiveError};
use ndarray_npy::{NpzWriter, WriteNpzError};

pub use blocks::{Rows, StoredArray, open_npz};

use super::Tensor;
use crate::diag::{Diagnostic, Faults};

/// Largest file and largest sum of all arrays, in bytes.
const MAX_BYTES: u64 = 2 << 30;

/// Reads all arrays with their names, in the order of the archive.
///
/// # Errors
/// A file that cannot be read, is no archive of arrays or is larger than 2 GiB, packed or unpacked; each array that is at fault, by name.
pub fn read_npz(path: &Path) -> Result<Vec<(String, Tensor)>, Faults> {
    let fault = |message: String| Faults::from(Diagnostic::error(message).with_file(path));
    // A pipe would be waited for, so what it is comes first.
    let metadata = fs::metadata(path).map_err(|error| fault(format!("cannot open the arrays: {error}")))?;
    if !metadata.is_file() {
        return Err(fault("arrays are read from a file".to_owned()));
    }
    let file = File::open(path).map_err(|error| fault(format!("cannot open the arrays: {error}")))?;
    let mut bytes = Vec::new();
    // One byte past the limit tells a file that is too large from one that just fits.
    let read = file.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| fault(format!("cannot read the arrays: {error}")))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(fault("a file of arrays has at most 2 GiB".to_owned()));
    }
    parse_npz(&bytes).map_err(|Faults(mut found)| {
        for fault in &mut found {
            fault.file = Some(path.to_owned());
        }
        Faults(found)
    })
}

/// Reads all arrays of an archive in memory; see [`read_npz`].
///
/// # Errors
/// No archive, or arrays at fault.
pub fn parse_npz(bytes: &[u8]) -> Result<Vec<(String, Tensor)>, Faults> {
    let fault = |error: ArchiveError| Diagnostic::error(error.to_string());
    let mut archive = Archive::open(bytes).map_err(fault)?;
    let entries = archive.entries().map_err(fault)?;
    // Entries may share bytes of the file or grow, so the sum needs a limit of its own. Any size may be stated.
    let total = entries.iter().fold(0_u64, |total, entry| total.saturating_add(entry.size));
    if total > MAX_BYTES {
        return Err(Diagnostic::error("arrays have at most 2 GiB together").into());
    }
    let mut names = BTreeSet::new();
    let mut arrays = Vec::new();
    let mut found = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let name = entry.name.strip_suffix(".npy").unwrap_or(&entry.name).to_owned();
        let fault = |message: String| Diagnostic::error(message).with_path(format!("array {name:?}"));
        if !names.insert(name.clone()) {
            found.push(fault("two arrays have this name".to_owned()));
            continue;
        }
        let data = archive.read(index, entry.size).map_err(|error| error.to_string());
        match data.and_then(|data| npy::parse(&data).map_err(|error| error.to_string())) {
            Ok(tensor) => arrays.push((name, tensor)),
            Err(message) => found.push(fault(message)),
        }
    }
    Faults::check(found)?;
    Ok(arrays)
}

/// Writes arrays under their names, uncompressed, readable by `numpy.load`. Equal arrays give equal files.
///
/// # Errors
/// A file that cannot be written, or a name that stands twice.
pub fn write_npz(path: &Path, arrays: &[(&str, &Tensor)]) -> Result<(), Faults> {
    let fault = |message: String| Faults::from(Diagnostic::error(message).with_file(path));
    let mut names = BTreeSet::new();
    if let Some((name, _)) = arrays.iter().find(|(name, _)| !names.insert(*name)) {
        return Err(fault(format!("two arrays have this name: {name:?}")));
    }
    let file = File::create(path).map_err(|error| fault(format!("cannot write the arrays: {error}")))?;
    let mut writer = NpzWriter::new(BufWriter::new(file));
    let written = arrays.iter().try_for_each(|(name, tensor)| -> Result<(), WriteNpzError> {
        crate::with_array!(tensor, array => writer.add_array(*name, array))
    });
    let finished = written.and_then(|()| writer.finish().map(drop));
    finished.map_err(|error| fault(format!("cannot write the arrays: {error}")))
}

#[cfg(test)]
mod tests;
