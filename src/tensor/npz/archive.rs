//! The entries of a zip archive, stored or deflated, by the `zip` crate within limits of ours: on the number of entries,
//! on the bytes read from the archive, and on what each entry may grow to.

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use thiserror::Error;
use zip::{CompressionMethod, ZipArchive};

/// Most arrays of a file.
const MAX_ENTRIES: usize = 4096;
/// How often the archive's bytes may be read, on the whole: once to find the directory, once for the entries, and room.
const MAX_READS: u64 = 4;
/// Bytes that may be read however short the archive is.
const MIN_READ: u64 = 1 << 20;

/// Why a file is no archive that we read.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum ArchiveError {
    #[error("not a zip archive that can be read: {0}")]
    Directory(String),
    #[error("a file of arrays has at most {MAX_ENTRIES} entries and no directory of a large archive (ZIP64)")]
    TooMany,
    #[error("an entry is compressed by method {method}, only stored and deflated ones are read: {name:?}")]
    Compressed { name: String, method: u16 },
    #[error("an entry is encrypted: {0:?}")]
    Encrypted(String),
    #[error("its compressed bytes are broken, or do not give the {0} bytes that the directory states")]
    Inflate(u64),
    #[error("its bytes do not have the stated checksum")]
    Checksum,
}

/// A reader that fails when more has been read than an honest archive takes. Entries that share bytes and directories
/// that are tried one after the other would otherwise cost the square of the archive's size.
struct Capped<'a> {
    bytes: Cursor<&'a [u8]>,
    left: u64,
}

impl Read for Capped<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| io::Error::other("its parts overlap"))?;
        Ok(read)
    }
}

impl Seek for Capped<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.bytes.seek(to)
    }
}

/// An archive in memory.
pub struct Archive<'a>(ZipArchive<Capped<'a>>);

/// What the directory says of one file of the archive.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    /// Its size when taken out.
    pub size: u64,
}

impl<'a> Archive<'a> {
    /// Reads the directory.
    ///
    /// # Errors
    /// No directory, or one of too many entries.
    pub fn open(bytes: &'a [u8]) -> Result<Self, ArchiveError> {
        // The directory of a large archive states its number of entries in 64 bits, and room is made for them before they are
        // seen. No file within our limits needs one; its locator stands directly before the end record.
        if bytes.windows(24).any(|at| at.starts_with(b"PK\x06\x07") && at[20..] == *b"PK\x05\x06") {
            return Err(ArchiveError::TooMany);
        }
        let left = (bytes.len() as u64).saturating_mul(MAX_READS).saturating_add(MIN_READ);
        let archive = ZipArchive::new(Capped { bytes: Cursor::new(bytes), left });
        let archive = archive.map_err(|error| ArchiveError::Directory(error.to_string()))?;
        if archive.len() > MAX_ENTRIES { Err(ArchiveError::TooMany) } else { Ok(Self(archive)) }
    }

    /// All entries in the order of the directory.
    ///
    /// # Errors
    /// Entries that are encrypted or compressed otherwise, or that lie outside the file.
    pub fn entries(&mut self) -> Result<Vec<Entry>, ArchiveError> {
        let Self(archive) = self;
        let count = archive.len();
        let entry = |index| {
            let file = archive.by_index_raw(index).map_err(|error| ArchiveError::Directory(error.to_string()))?;
            let name = file.name().to_owned();
            match file.compression() {
                _ if file.encrypted() => Err(ArchiveError::Encrypted(name)),
                CompressionMethod::Stored | CompressionMethod::Deflated => Ok(Entry { name, size: file.size() }),
                #[allow(deprecated, reason = "nothing else tells the method's number")]
                CompressionMethod::Unsupported(method) => Err(ArchiveError::Compressed { name, method }),
                method => Err(ArchiveError::Directory(format!("{name:?} is compressed by {method}"))),
            }
        };
        (0..count).map(entry).collect()
    }

    /// The bytes of entry `index`, if they have the size and the checksum that the directory states. No more than that size
    /// is ever taken out.
    ///
    /// # Errors
    /// [`ArchiveError::Inflate`], [`ArchiveError::Checksum`].
    pub fn read(&mut self, index: usize, size: u64) -> Result<Vec<u8>, ArchiveError> {
        let broken = ArchiveError::Inflate(size);
        let Ok(file) = self.0.by_index(index) else { return Err(broken) };
        let mut bytes = Vec::new();
        // One byte past the size tells an entry that grows from one that just fits.
        let read = file.take(size.saturating_add(1)).read_to_end(&mut bytes);
        match read {
            _ if bytes.len() as u64 != size => Err(broken),
            Ok(_) => Ok(bytes),
            // The crate compares checksums when everything has been read.
            Err(_) => Err(ArchiveError::Checksum),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(bytes: &[u8]) -> Option<ArchiveError> {
        Archive::open(bytes).and_then(|mut archive| archive.entries()).err()
    }

    /// The end record of a directory of so many entries that starts at the file's first byte.
    fn end(entries: u16) -> Vec<u8> {
        let count = entries.to_le_bytes();
        [b"PK\x05\x06\0\0\0\0", &count[..], &count[..], &[0; 10]].concat()
    }

    #[test]
    fn what_is_no_archive_is_said_to_be_none() {
        for bytes in [&b""[..], b"PK\x05\x06", &[0; 100], &end(1), &end(0xFE01)] {
            assert!(matches!(fault(bytes), Some(ArchiveError::Directory(_))), "{bytes:?}");
        }
        assert_eq!(fault(&end(0)), None);
    }

    #[test]
    fn the_directory_of_a_large_archive_is_refused_before_room_is_made_for_its_entries() {
        let record = [b"PK\x06\x06".as_slice(), &44_u64.to_le_bytes(), &[45, 0, 45, 0], &[0; 8]].concat();
        let count = (1_u64 << 20).to_le_bytes();
        let record = [&record[..], &count, &count, &46_u64.to_le_bytes(), &(1_u64 << 20).to_le_bytes()].concat();
        let mut bytes = vec![0; 2 << 20];
        let at = bytes.len() as u64;
        bytes.extend(record);
        bytes.extend([b"PK\x06\x07\0\0\0\0".as_slice(), &at.to_le_bytes(), &1_u32.to_le_bytes()].concat());
        let mut last = end(u16::MAX);
        last[16..20].fill(0xFF);
        bytes.extend(last);
        assert_eq!(fault(&bytes), Some(ArchiveError::TooMany));
    }

    #[test]
    fn an_archive_is_not_read_again_and_again() {
        // As many end records as fit, each of which names a directory of entries that is read to its broken end.
        let header = [b"PK\x01\x02".as_slice(), &[0; 42]].concat();
        let mut bytes = header.repeat(20_000);
        for _ in 0..20_000 {
            bytes.extend(end(u16::MAX - 1));
        }
        let started = std::time::Instant::now();
        assert!(matches!(fault(&bytes), Some(ArchiveError::Directory(_) | ArchiveError::TooMany)));
        assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
    }
}
