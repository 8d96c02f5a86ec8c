//! Arrays of an `.npz` file that stay in the file: described at once, their elements read in blocks along the first
//! dimension, so that a file may be larger than memory. Untrusted, as in the rest of the room.

use std::{
    fs::{self, File},
    io::{BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use flate2::{CrcReader, read::DeflateDecoder};
use zip::{CompressionMethod, ZipArchive};

use super::{MAX_BYTES, npy::Form};
use crate::{
    diag::{Diagnostic, Faults},
    tensor::{DType, Tensor, checked_elements},
};

/// Most arrays of a file.
const MAX_ARRAYS: usize = 4096;

/// An array in a file.
#[derive(Clone, Debug)]
pub struct StoredArray {
    path: PathBuf,
    name: String,
    /// Where its bytes begin in the file, and how many there are.
    start: u64,
    packed: u64,
    deflated: bool,
    checksum: u32,
    form: Form,
    dtype: DType,
}

/// The arrays of a file, in the order of the archive. No elements are read.
///
/// # Errors
/// A file that cannot be read or is no archive of arrays; each array that is at fault, by name.
pub fn open_npz(path: &Path) -> Result<Vec<StoredArray>, Faults> {
    let fault = |message: String| Diagnostic::error(message).with_file(path);
    // A pipe would be waited for, so what it is comes first.
    let metadata = fs::metadata(path).map_err(|error| fault(format!("cannot open the arrays: {error}")))?;
    if !metadata.is_file() {
        return Err(fault("arrays are read from a file".to_owned()).into());
    }
    let file = File::open(path).map_err(|error| fault(format!("cannot open the arrays: {error}")))?;
    let mut archive =
        ZipArchive::new(BufReader::new(file)).map_err(|error| fault(format!("not a zip archive: {error}")))?;
    if archive.len() > MAX_ARRAYS {
        return Err(fault(format!("a file of arrays has at most {MAX_ARRAYS}: {}", archive.len())).into());
    }
    let mut found: Vec<StoredArray> = Vec::new();
    let mut faults = Vec::new();
    for index in 0..archive.len() {
        match member(path, &mut archive, index) {
            Ok(array) if found.iter().any(|other| other.name == array.name) => {
                faults.push(fault("two arrays have this name".to_owned()).with_path(format!("array {:?}", array.name)));
            }
            Ok(array) => found.push(array),
            Err(message) => {
                let name = archive.name_for_index(index).unwrap_or_default();
                faults.push(fault(message).with_path(format!("array {:?}", stem(name))));
            }
        }
    }
    Faults::check(faults)?;
    Ok(found)
}

fn stem(name: &str) -> &str {
    name.strip_suffix(".npy").unwrap_or(name)
}

fn member(path: &Path, archive: &mut ZipArchive<BufReader<File>>, index: usize) -> Result<StoredArray, String> {
    let entry = archive.by_index_raw(index).map_err(|error| error.to_string())?;
    if entry.encrypted() {
        return Err("the entry is encrypted".to_owned());
    }
    let deflated = match entry.compression() {
        CompressionMethod::Stored => false,
        CompressionMethod::Deflated => true,
        other => return Err(format!("compressed by {other}, only stored and deflated entries are read")),
    };
    let start = entry.data_start();
    let (name, packed, size, checksum) =
        (stem(entry.name()).to_owned(), entry.compressed_size(), entry.size(), entry.crc32());
    drop(entry);
    let mut reader = unpack(path, start, packed, deflated)?;
    let form = Form::read(&mut reader).map_err(|error| error.to_string())?;
    let (dtype, bytes) = form.element().map_err(|error| error.to_string())?;
    let needed = checked_elements(&form.shape, u64::MAX).and_then(|elements| elements.checked_mul(bytes));
    if needed.is_none() || needed != size.checked_sub(form.start) {
        return Err(format!("the array has {size} bytes with its header, its shape {:?} needs others", form.shape));
    }
    Ok(StoredArray { path: path.to_owned(), name, start, packed, deflated, checksum, form, dtype })
}

fn unpack(path: &Path, start: u64, packed: u64, deflated: bool) -> Result<Box<dyn Read + Send>, String> {
    let open = || -> std::io::Result<_> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(start))?;
        Ok(BufReader::with_capacity(1 << 16, file).take(packed))
    };
    let reader = open().map_err(|error| format!("cannot read the arrays: {error}"))?;
    Ok(if deflated { Box::new(DeflateDecoder::new(reader)) } else { Box::new(reader) })
}

impl StoredArray {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.form.shape
    }

    /// Its element type.
    pub const fn dtype(&self) -> DType {
        self.dtype
    }

    /// Whether blocks along the first dimension stand one after the other.
    pub fn by_rows(&self) -> bool {
        !self.form.shape.is_empty() && (!self.form.fortran || self.form.shape.len() == 1)
    }

    fn fault(&self, message: impl Into<String>) -> Faults {
        Diagnostic::error(message).with_file(&self.path).with_path(format!("array {:?}", self.name)).into()
    }

    /// The whole array, which may have 2 GiB.
    ///
    /// # Errors
    /// A file that cannot be read or does not hold what it held, an array that is too large.
    pub fn read(&self) -> Result<Tensor, Faults> {
        let elements = checked_elements(&self.form.shape, MAX_BYTES / self.dtype.bytes());
        let elements = elements.ok_or_else(|| self.fault("an array that is held in memory has at most 2 GiB"))?;
        let mut rows = self.rows_of(elements.max(1))?;
        let bytes = rows.take(elements * self.dtype.bytes())?;
        rows.finish()?;
        self.form.elements(&self.form.shape, &bytes).map_err(|error| self.fault(error.to_string()))
    }

    /// A reader of blocks along the first dimension.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub fn rows(&self) -> Result<Rows, Faults> {
        self.rows_of(self.form.shape.first().map_or(0, |&rows| rows as u64))
    }

    fn rows_of(&self, rows: u64) -> Result<Rows, Faults> {
        let reader = unpack(&self.path, self.start, self.packed, self.deflated).map_err(|error| self.fault(error))?;
        let mut rows = Rows { array: self.clone(), reader: CrcReader::new(reader), left: rows };
        rows.take(self.form.start)?;
        Ok(rows)
    }
}

/// Reads an array block by block.
pub struct Rows {
    array: StoredArray,
    reader: CrcReader<Box<dyn Read + Send>>,
    left: u64,
}

impl Rows {
    /// The next `count` rows, fewer at the end.
    ///
    /// # Errors
    /// A file that cannot be read or is broken, values that their type does not have.
    pub fn next(&mut self, count: usize) -> Result<Tensor, Faults> {
        let mut shape = self.array.form.shape.clone();
        let rows = usize::try_from(self.left).unwrap_or(usize::MAX).min(count);
        if let Some(first) = shape.first_mut() {
            *first = rows;
        }
        let size = checked_elements(&shape, MAX_BYTES / self.array.dtype.bytes());
        let size = size.ok_or_else(|| self.array.fault("a block of samples has at most 2 GiB"))?;
        let bytes = self.take(size * self.array.dtype.bytes())?;
        self.left -= rows as u64;
        if self.left == 0 {
            self.finish()?;
        }
        self.array.form.elements(&shape, &bytes).map_err(|error| self.array.fault(error.to_string()))
    }

    fn take(&mut self, bytes: u64) -> Result<Vec<u8>, Faults> {
        // Grows with what is there: a size that is only stated takes no memory.
        let mut taken = Vec::new();
        let read = (&mut self.reader).take(bytes).read_to_end(&mut taken);
        match read {
            Ok(_) if taken.len() as u64 == bytes => Ok(taken),
            Ok(_) => Err(self.array.fault("its bytes end before its shape is full")),
            Err(error) => Err(self.array.fault(format!("its bytes cannot be read: {error}"))),
        }
    }

    /// That all of the entry has been read, and is what was put in.
    fn finish(&mut self) -> Result<(), Faults> {
        match self.reader.read(&mut [0]) {
            Ok(0) if self.reader.crc().sum() == self.array.checksum => Ok(()),
            Ok(0) => Err(self.array.fault("its bytes do not have the stated checksum")),
            Ok(_) => Err(self.array.fault("it has more bytes than its shape needs")),
            Err(error) => Err(self.array.fault(format!("its bytes cannot be read: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::tensor::npz::write_npz;

    fn numbers() -> Tensor {
        Tensor::from_integers(DType::Int32, &[7, 2], &(0..14).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn blocks_put_together_are_the_array_packed_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npz");
        write_npz(&path, &[("x", &numbers())]).unwrap();
        let stored = fs::read(&path).unwrap();
        let mut archive = ZipArchive::new(std::io::Cursor::new(stored)).unwrap();
        let mut bytes = Vec::new();
        archive.by_index(0).unwrap().read_to_end(&mut bytes).unwrap();
        let packed = dir.path().join("packed.npz");
        let mut writer = zip::ZipWriter::new(File::create(&packed).unwrap());
        let options = zip::write::SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        writer.start_file("x.npy", options).unwrap();
        writer.write_all(&bytes).unwrap();
        writer.finish().unwrap();
        for path in [path, packed] {
            let arrays = open_npz(&path).unwrap();
            assert_eq!((arrays[0].name(), arrays[0].shape(), arrays[0].dtype()), ("x", &[7, 2][..], DType::Int32));
            assert_eq!(arrays[0].read().unwrap(), numbers());
            let mut rows = arrays[0].rows().unwrap();
            let mut all = Vec::new();
            for expected in [3, 3, 1] {
                let block = rows.next(3).unwrap();
                assert_eq!(block.shape(), [expected, 2]);
                all.extend(block.to_integers().unwrap());
            }
            assert_eq!(all, numbers().to_integers().unwrap());
        }
    }

    #[test]
    fn a_byte_that_changed_is_found_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npz");
        write_npz(&path, &[("x", &numbers())]).unwrap();
        let array = open_npz(&path).unwrap().remove(0);
        let mut bytes = fs::read(&path).unwrap();
        bytes[usize::try_from(array.start + array.packed).unwrap() - 1] ^= 1;
        fs::write(&path, bytes).unwrap();
        let mut rows = array.rows().unwrap();
        assert!(rows.next(6).is_ok());
        let message = rows.next(6).unwrap_err().to_string();
        assert!(message.contains("checksum") && message.contains("\"x\""), "{message}");
    }
}
