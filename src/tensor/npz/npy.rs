//! One array in numpy's `.npy` format (versions 1 to 3 of `numpy.lib.format`): a small dictionary as text, then the
//! elements.

use std::io::Read;

use ndarray::{ArrayD, IxDyn, ShapeBuilder};
use thiserror::Error;

use crate::tensor::{DType, Tensor, checked_elements};

/// Longest header; numpy writes 118 bytes for ordinary arrays.
const MAX_HEADER: u32 = 1 << 16;
/// Most dimensions, as numpy 1 has it.
const MAX_RANK: usize = 32;

/// Why bytes are no array that we read.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum NpyError {
    #[error("not an array in numpy's format")]
    NoArray,
    #[error("the array's header is broken, at its byte {0}")]
    Header(usize),
    #[error("the array's header lacks {0:?}")]
    Missing(&'static str),
    #[error("arrays have at most {MAX_RANK} dimensions")]
    Rank,
    #[error(
        "the element type is not one of float32, float64, int8, int16, int32, int64, uint8, uint16, uint32, bool: {0:?}"
    )]
    Type(String),
    #[error("the array has {found} bytes of elements, its shape {shape:?} needs {needed}")]
    Size { shape: Vec<usize>, needed: String, found: usize },
    #[error("a truth value is neither 0 nor 1: {0}")]
    Bool(u8),
}

/// What a header says.
#[derive(Debug, Default)]
struct Header {
    descr: Option<String>,
    fortran: Option<bool>,
    shape: Option<Vec<usize>>,
}

/// What stands before the elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// Byte order and element type in numpy's code.
    descr: String,
    /// Whether elements stand column by column.
    pub fortran: bool,
    /// The dimensions.
    pub shape: Vec<usize>,
    /// Bytes before the elements.
    pub start: u64,
}

impl Form {
    /// Reads as far as the elements.
    ///
    /// # Errors
    /// Bytes that are no array, or end too early.
    pub fn read(reader: &mut impl Read) -> Result<Self, NpyError> {
        let mut take = |bytes: &mut [u8]| reader.read_exact(bytes).map_err(|_| NpyError::NoArray);
        let mut magic = [0; 8];
        take(&mut magic)?;
        let [b'\x93', b'N', b'U', b'M', b'P', b'Y', version, _] = magic else { return Err(NpyError::NoArray) };
        let (mut short, mut long) = ([0; 2], [0; 4]);
        let (length, start) = match version {
            1 => {
                take(&mut short)?;
                (u32::from(u16::from_le_bytes(short)), 10)
            }
            2 | 3 => {
                take(&mut long)?;
                (u32::from_le_bytes(long), 12)
            }
            _ => return Err(NpyError::NoArray),
        };
        if length > MAX_HEADER {
            return Err(NpyError::NoArray);
        }
        let mut text = vec![0; length as usize];
        take(&mut text)?;
        let header = Reader { text: &text, at: 0 }.header()?;
        Ok(Self {
            descr: header.descr.ok_or(NpyError::Missing("descr"))?,
            fortran: header.fortran.ok_or(NpyError::Missing("fortran_order"))?,
            shape: header.shape.ok_or(NpyError::Missing("shape"))?,
            start: start + u64::from(length),
        })
    }

    /// Type and bytes of an element.
    ///
    /// # Errors
    /// A type that is not read.
    pub fn element(&self) -> Result<(DType, u64), NpyError> {
        let none = elements(&self.descr, false, &[0], &[])?.dtype();
        Ok((none, none.bytes()))
    }

    /// Elements of this type under `shape`, from exactly their bytes.
    ///
    /// # Errors
    /// As [`parse`].
    pub fn elements(&self, shape: &[usize], data: &[u8]) -> Result<Tensor, NpyError> {
        elements(&self.descr, self.fortran, shape, data)
    }
}

/// Reads an array; column-major ones are brought into row-major order.
///
/// # Errors
/// Bytes that are no array, of an unknown type, or fewer or more than the shape needs.
pub fn parse(bytes: &[u8]) -> Result<Tensor, NpyError> {
    let mut data = bytes;
    let form = Form::read(&mut data)?;
    form.elements(&form.shape, data)
}

fn elements(descr: &str, fortran: bool, shape: &[usize], data: &[u8]) -> Result<Tensor, NpyError> {
    let (order, kind) = descr.split_at_checked(1).unwrap_or(("", descr));
    let unknown = || NpyError::Type(descr.to_owned());
    let big = match order {
        "<" | "|" => false,
        ">" => true,
        _ => return Err(unknown()),
    };
    macro_rules! numbers {
        ($variant:ident, $type:ty) => {
            array(fortran, shape, data, |bytes: [u8; size_of::<$type>()]| {
                Ok(if big { <$type>::from_be_bytes(bytes) } else { <$type>::from_le_bytes(bytes) })
            })
            .map(Tensor::$variant)
        };
    }
    match kind {
        "f4" => numbers!(F32, f32),
        "f8" => numbers!(F64, f64),
        "i1" => numbers!(I8, i8),
        "u1" => numbers!(U8, u8),
        "i2" => numbers!(I16, i16),
        "u2" => numbers!(U16, u16),
        "i4" => numbers!(I32, i32),
        "u4" => numbers!(U32, u32),
        "i8" => numbers!(I64, i64),
        "b1" => array(fortran, shape, data, |[byte]: [u8; 1]| match byte {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(NpyError::Bool(other)),
        })
        .map(Tensor::Bool),
        _ => Err(unknown()),
    }
}

/// Elements of `N` bytes each.
fn array<T: Clone, const N: usize>(
    fortran: bool,
    shape: &[usize],
    data: &[u8],
    element: impl Fn([u8; N]) -> Result<T, NpyError>,
) -> Result<ArrayD<T>, NpyError> {
    let needed = checked_elements(shape, u64::MAX / 8).map(|count| count * N as u64);
    let size = || NpyError::Size {
        shape: shape.to_vec(),
        needed: needed.map_or_else(|| "more than 2^64".to_owned(), |needed| needed.to_string()),
        found: data.len(),
    };
    if needed != Some(data.len() as u64) {
        return Err(size());
    }
    let chunks = data.chunks_exact(N).map(|chunk| element(chunk.try_into().expect("chunks have N bytes")));
    let elements = chunks.collect::<Result<Vec<T>, NpyError>>()?;
    let array = ArrayD::from_shape_vec(IxDyn(shape).set_f(fortran), elements).map_err(|_| size())?;
    Ok(if array.is_standard_layout() { array } else { array.as_standard_layout().into_owned() })
}

/// Reads `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`, and nothing that Python would allow beyond.
struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn header(mut self) -> Result<Header, NpyError> {
        let mut header = Header::default();
        self.expect(b'{')?;
        while !self.take(b'}') {
            let key = self.string()?;
            self.expect(b':')?;
            match key {
                "descr" if header.descr.is_none() => header.descr = Some(self.string()?.to_owned()),
                "fortran_order" if header.fortran.is_none() => header.fortran = Some(self.truth()?),
                "shape" if header.shape.is_none() => header.shape = Some(self.shape()?),
                _ => return self.broken(),
            }
            if !self.take(b',') {
                self.expect(b'}')?;
                break;
            }
        }
        self.blanks();
        if self.at == self.text.len() { Ok(header) } else { self.broken() }
    }

    const fn broken<T>(&self) -> Result<T, NpyError> {
        Err(NpyError::Header(self.at))
    }

    fn blanks(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        self.blanks();
        let found = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), NpyError> {
        if self.take(byte) { Ok(()) } else { self.broken() }
    }

    /// The bytes from here on that satisfy `test`.
    fn run(&mut self, test: impl Fn(u8) -> bool) -> &'a str {
        let rest = &self.text[self.at..];
        let length = rest.iter().position(|&byte| !test(byte)).unwrap_or(rest.len());
        self.at += length;
        std::str::from_utf8(&rest[..length]).unwrap_or("")
    }

    fn string(&mut self) -> Result<&'a str, NpyError> {
        let quote = if self.take(b'\'') {
            b'\''
        } else {
            self.expect(b'"')?;
            b'"'
        };
        let text = self.run(|byte| byte != quote && byte != b'\\' && byte.is_ascii());
        if self.text.get(self.at) != Some(&quote) {
            return self.broken();
        }
        self.at += 1;
        Ok(text)
    }

    fn truth(&mut self) -> Result<bool, NpyError> {
        self.blanks();
        match self.run(|byte| byte.is_ascii_alphabetic()) {
            "True" => Ok(true),
            "False" => Ok(false),
            _ => self.broken(),
        }
    }

    fn shape(&mut self) -> Result<Vec<usize>, NpyError> {
        let mut shape = Vec::new();
        self.expect(b'(')?;
        while !self.take(b')') {
            self.blanks();
            let Ok(dim) = self.run(|byte| byte.is_ascii_digit()).parse() else { return self.broken() };
            if shape.len() == MAX_RANK {
                return Err(NpyError::Rank);
            }
            shape.push(dim);
            if !self.take(b',') {
                self.expect(b')')?;
                break;
            }
        }
        Ok(shape)
    }
}
