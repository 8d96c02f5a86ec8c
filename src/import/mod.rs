//! Models become graphs: one importer a format, chosen by the file's extension, and the elements of synthetic
//! constants.

pub mod onnx;
pub mod ron;
pub mod scalesim;
pub mod synthetic;

use std::{collections::BTreeMap, fs, path::Path};

use crate::{
    diag::{Diagnostic, Faults},
    ir::{Float, Graph},
};

/// What the user may say about a model beyond its file.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Images a batch: binds a symbolic batch (1 where absent) and replaces a fixed one.
    pub batch: Option<usize>,
}

/// A network from a file.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The network.
    pub graph: Graph<Float>,
    /// Hash of the bytes that it was made from; external data is not part of it.
    pub hash: u64,
    /// What was left out of it, and what else the user should know.
    pub warnings: Vec<Diagnostic>,
}

/// FNV-1a, the 64-bit variant.
fn hash_of(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// What a model file is called.
const KNOWN: &str = "known are `.onnx`, `.ron` and `.csv` (a topology of SCALE-Sim)";

/// Reads a network from a file, once: `.onnx`, `.ron` for a list of layers, or `.csv` for a topology of SCALE-Sim.
///
/// # Errors
/// An unknown extension, a file that cannot be read or is too large, and everything that its format's importer finds.
pub fn load(path: &Path, options: &ImportOptions) -> Result<Imported, Faults> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_lowercase();
    match extension.as_str() {
        "onnx" => load_onnx(path, options).map_err(|faults| {
            let named = faults.0.into_iter().map(|fault| Diagnostic { file: Some(path.to_path_buf()), ..fault });
            Faults(named.collect())
        }),
        "ron" => {
            let text = ron::read(path)?;
            let graph = ron::parse(&text, &path.display().to_string(), options.batch)?;
            Ok(Imported { graph, hash: hash_of(text.as_bytes()), warnings: Vec::new() })
        }
        "csv" => {
            let topology = scalesim::read(path, None)?;
            let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            let graph = scalesim::graph(&topology, &name, options.batch.unwrap_or(1))?;
            Ok(Imported { graph, hash: hash_of(topology.text.as_bytes()), warnings: topology.findings })
        }
        _ if path.is_dir() => Err(Diagnostic::error("is a folder, not a model").with_file(path).into()),
        "" => Err(Diagnostic::error("a model's format is told by its extension, and this name has none")
            .with_file(path)
            .with_help(KNOWN)
            .into()),
        _ => Err(Diagnostic::error(format!("no importer reads `.{extension}` files"))
            .with_file(path)
            .with_help(KNOWN)
            .into()),
    }
}

fn load_onnx(path: &Path, options: &ImportOptions) -> Result<Imported, Faults> {
    let unreadable = |error: std::io::Error| Diagnostic::error(format!("cannot be read: {error}"));
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(Diagnostic::error("is not a file").into());
    }
    if metadata.len() > onnx::limits::MAX_FILE_BYTES {
        let limit = onnx::limits::MAX_FILE_BYTES;
        return Err(Diagnostic::error(format!("{} bytes; the limit is {limit}", metadata.len()))
            .with_help("keep the weights in an external data file")
            .into());
    }
    let bytes = fs::read(path).map_err(unreadable)?;
    let hash = hash_of(&bytes);
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    // A bare file name has the empty path as its parent.
    let directory = path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    let graph = onnx::parse_buffer(bytes.into(), &name, directory, options, &BTreeMap::new())?;
    Ok(Imported { graph, hash, warnings: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_extension_names_the_known_ones() {
        for name in ["model.pt", "model", "model.onnx.zip"] {
            let faults = load(Path::new(name), &ImportOptions::default()).unwrap_err();
            assert!(faults.to_string().contains("`.onnx`, `.ron` and `.csv`"), "{faults}");
        }
    }

    #[test]
    fn the_hash_is_that_of_the_bytes_that_were_read() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/mnist_cnn.onnx");
        let imported = load(&path, &ImportOptions::default()).unwrap();
        assert_eq!(imported.hash, hash_of(&fs::read(&path).unwrap()));
        // From the definition of FNV-1a.
        assert_eq!(hash_of(b"a"), 0xaf63_dc4c_8601_ec8c);
    }

    #[test]
    fn a_missing_file_is_named() {
        let faults = load(Path::new("no/such.onnx"), &ImportOptions::default()).unwrap_err();
        assert!(faults.to_string().starts_with("no/such.onnx: cannot be read"), "{faults}");
    }
}
