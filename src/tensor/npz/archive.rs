//! The directory of a zip archive whose entries are stored or deflated (PKWARE's APPNOTE 6.3.9, sections 4.3 and
//! 4.5.3), and the bytes of one entry. No entry grows past the size that the directory states.

use std::{borrow::Cow, ops::Range};

use miniz_oxide::inflate::decompress_to_vec_with_limit;
use thiserror::Error;

/// Most arrays of a file.
const MAX_ENTRIES: u64 = 4096;
/// Methods of compression, section 4.4.5.
const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// Why a file is no archive that we read.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum ArchiveError {
    #[error("not a zip archive: the end of its directory is missing")]
    NoDirectory,
    #[error("a file of arrays has at most {MAX_ENTRIES} entries: {0}")]
    TooMany(u64),
    #[error("the archive's directory is broken at byte {0}")]
    Broken(usize),
    #[error("an entry is compressed by method {method}, only stored and deflated ones are read: {name:?}")]
    Compressed { name: String, method: u16 },
    #[error("a stored entry has two sizes: {0:?}")]
    TwoSizes(String),
    #[error("an entry is encrypted: {0:?}")]
    Encrypted(String),
    #[error("an entry lies outside the file: {0:?}")]
    Outside(String),
    #[error("its compressed bytes are broken, or do not give the {0} bytes that the directory states")]
    Inflate(u64),
    #[error("its bytes do not have the stated checksum")]
    Checksum,
}

/// One file of the archive.
pub struct Entry {
    pub name: String,
    /// Its size when taken out, as the directory states it.
    pub size: u64,
    /// Its bytes in the archive.
    data: Range<usize>,
    deflated: bool,
    checksum: u32,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// The entries, in the directory's order.
///
/// # Errors
/// What is no archive, is broken, encrypted or compressed by another method, or has too many entries.
pub fn entries(bytes: &[u8]) -> Result<Vec<Entry>, ArchiveError> {
    let (count, start) = directory(bytes).ok_or(ArchiveError::NoDirectory)?;
    if count > MAX_ENTRIES {
        return Err(ArchiveError::TooMany(count));
    }
    let mut at = usize::try_from(start).map_err(|_| ArchiveError::NoDirectory)?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let (entry, next) = entry(bytes, at)?;
        entries.push(entry);
        at = next;
    }
    Ok(entries)
}

/// Number of entries and offset of the first: from the record at the end of the file, or the one for large archives
/// that stands before it.
fn directory(bytes: &[u8]) -> Option<(u64, u64)> {
    const RECORD: usize = 22;
    const LONGEST_COMMENT: usize = u16::MAX as usize;
    let last = bytes.len().checked_sub(RECORD)?;
    let first = last.saturating_sub(LONGEST_COMMENT);
    let found = (first..=last).rev().find(|&at| {
        let comment = u16_at(bytes, at + 20).map(usize::from);
        bytes[at..].starts_with(b"PK\x05\x06") && comment == Some(last - at)
    })?;
    let (count, start) = (u16_at(bytes, found + 10)?, u32_at(bytes, found + 16)?);
    if count != u16::MAX && start != u32::MAX {
        return Some((count.into(), start.into()));
    }
    let locator = found.checked_sub(20)?;
    if !bytes[locator..].starts_with(b"PK\x06\x07") {
        return Some((count.into(), start.into()));
    }
    let record = usize::try_from(u64_at(bytes, locator + 8)?).ok()?;
    if !bytes.get(record..)?.starts_with(b"PK\x06\x06") {
        return None;
    }
    Some((u64_at(bytes, record.checked_add(32)?)?, u64_at(bytes, record.checked_add(48)?)?))
}

/// The entry whose directory record is at `at`, and where the next record is.
fn entry(bytes: &[u8], at: usize) -> Result<(Entry, usize), ArchiveError> {
    let broken = || ArchiveError::Broken(at);
    let record = bytes.get(at..).filter(|rest| rest.starts_with(b"PK\x01\x02")).ok_or_else(broken)?;
    let half = |offset| u16_at(record, offset).ok_or_else(broken);
    let word = |offset| u32_at(record, offset).ok_or_else(broken);
    let (flags, method, checksum) = (half(8)?, half(10)?, word(16)?);
    let (name_length, extra_length, comment_length) =
        (usize::from(half(28)?), usize::from(half(30)?), usize::from(half(32)?));
    let (name_end, extra_end) = (46 + name_length, 46 + name_length + extra_length);
    let name = String::from_utf8_lossy(record.get(46..name_end).ok_or_else(broken)?).into_owned();
    let extra = record.get(name_end..extra_end).ok_or_else(broken)?;
    let short = [word(24)?, word(20)?, word(42)?];
    let [size, compressed, offset] = large(short, extra).ok_or_else(broken)?;
    if flags & 1 != 0 {
        return Err(ArchiveError::Encrypted(name));
    }
    let deflated = match method {
        STORED if size != compressed => return Err(ArchiveError::TwoSizes(name)),
        STORED => false,
        DEFLATED => true,
        _ => return Err(ArchiveError::Compressed { name, method }),
    };
    match data(bytes, offset, compressed) {
        Some(data) => Ok((Entry { name, size, data, deflated, checksum }, at + extra_end + comment_length)),
        None => Err(ArchiveError::Outside(name)),
    }
}

/// Numbers that do not fit 32 bits stand in the extra field of id 1, those and no others, in this order.
fn large(short: [u32; 3], extra: &[u8]) -> Option<[u64; 3]> {
    let mut values = short.map(u64::from);
    if !short.contains(&u32::MAX) {
        return Some(values);
    }
    let mut at = 0;
    while let (Some(id), Some(length)) = (u16_at(extra, at), u16_at(extra, at + 2)) {
        let field = at + 4;
        if id == 1 {
            let mut from = field;
            for (value, short) in values.iter_mut().zip(short) {
                if short == u32::MAX {
                    *value = u64_at(extra.get(..field + usize::from(length))?, from)?;
                    from += 8;
                }
            }
            return Some(values);
        }
        at = field + usize::from(length);
    }
    // A file of exactly that size without the field.
    Some(values)
}

/// The bytes behind the local header at `offset`.
fn data(bytes: &[u8], offset: u64, size: u64) -> Option<Range<usize>> {
    let at = usize::try_from(offset).ok()?;
    let header = bytes.get(at..)?;
    if !header.starts_with(b"PK\x03\x04") {
        return None;
    }
    let start = at + 30 + usize::from(u16_at(header, 26)?) + usize::from(u16_at(header, 28)?);
    let end = start.checked_add(usize::try_from(size).ok()?)?;
    (end <= bytes.len()).then_some(start..end)
}

/// An entry's bytes as they were put in, if they have its size and checksum.
///
/// # Errors
/// [`ArchiveError::Inflate`], [`ArchiveError::Checksum`].
pub fn checked<'a>(bytes: &'a [u8], entry: &Entry) -> Result<Cow<'a, [u8]>, ArchiveError> {
    let data = &bytes[entry.data.clone()];
    let data = if entry.deflated { Cow::Owned(inflate(data, entry.size)?) } else { Cow::Borrowed(data) };
    if crc32(&data) == entry.checksum { Ok(data) } else { Err(ArchiveError::Checksum) }
}

/// Exactly `size` bytes: the stream is cut off where it would give more.
fn inflate(data: &[u8], size: u64) -> Result<Vec<u8>, ArchiveError> {
    let limit = usize::try_from(size).map_err(|_| ArchiveError::Inflate(size))?;
    match decompress_to_vec_with_limit(data, limit) {
        Ok(inflated) if inflated.len() == limit => Ok(inflated),
        _ => Err(ArchiveError::Inflate(size)),
    }
}

/// CRC-32 of ISO 3309, reflected, as zip has it.
fn crc32(data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0_u32; 256];
        let mut index = 0_u32;
        while index < 256 {
            let mut value = index;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { (value >> 1) ^ 0xEDB8_8320 } else { value >> 1 };
                bit += 1;
            }
            table[index as usize] = value;
            index += 1;
        }
        table
    };
    !data.iter().fold(u32::MAX, |crc, &byte| {
        let [low, ..] = crc.to_le_bytes();
        (crc >> 8) ^ TABLE[usize::from(low ^ byte)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn what_is_no_archive_is_said_to_be_none() {
        for bytes in [&b""[..], b"PK\x05\x06", &[0; 100]] {
            assert_eq!(entries(bytes).err(), Some(ArchiveError::NoDirectory));
        }
        let mut empty = b"PK\x05\x06".to_vec();
        empty.resize(22, 0);
        assert_eq!(entries(&empty).map(|entries| entries.len()), Ok(0));
        empty[10] = 1;
        assert_eq!(entries(&empty).err(), Some(ArchiveError::Broken(0)));
        empty[11] = 0xFE;
        assert_eq!(entries(&empty).err(), Some(ArchiveError::TooMany(0xFE01)));
    }
}
