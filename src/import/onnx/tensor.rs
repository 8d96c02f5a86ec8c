//! `TensorProto` to `Tensor`: inline and external data, every storage form, half and double precision to single.

use std::{
    collections::HashMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Component, Path, PathBuf},
};

use ndarray::{ArrayD, IxDyn};
use prost::Message;

use super::{
    limits::{MAX_CONSTANT_ELEMENTS, MAX_EXTERNAL_BYTES, MAX_RANK, clip},
    proto::{
        StringStringEntryProto, TensorProto,
        tensor_proto::{DataLocation, DataType},
    },
};
use crate::tensor::{DType, Tensor, checked_elements};

/// The element type that a model's type becomes: half and double precision are single here.
pub(super) fn dtype(data_type: i32) -> Result<DType, String> {
    let known = DataType::try_from(data_type).map_err(|_| format!("unknown element type: {data_type}"))?;
    Ok(match known {
        DataType::Float | DataType::Float16 | DataType::Bfloat16 | DataType::Double => DType::Fp32,
        DataType::Int4 => DType::Int4,
        DataType::Uint8 => DType::UInt8,
        DataType::Int8 => DType::Int8,
        DataType::Uint16 => DType::UInt16,
        DataType::Int16 => DType::Int16,
        DataType::Int32 => DType::Int32,
        DataType::Uint32 => DType::UInt32,
        DataType::Int64 | DataType::Uint64 => DType::Int64,
        DataType::Bool => DType::Bool,
        other => return Err(format!("element type not supported: {}", other.as_str_name())),
    })
}

/// Reads one serialized `TensorProto` (`input_0.pb` of ONNX's node tests).
///
/// # Errors
/// A sentence for the user.
pub fn from_pb(bytes: &[u8]) -> Result<Tensor, String> {
    let proto = TensorProto::decode(bytes).map_err(|error| format!("not a TensorProto: {error}"))?;
    decode(&proto, &mut External::none())
}

/// Where external data may be read from, and how much of it still.
pub(super) struct External {
    directory: Option<PathBuf>,
    left: u64,
    open: HashMap<PathBuf, (File, u64)>,
}

impl External {
    pub(super) fn none() -> Self {
        Self { directory: None, left: 0, open: HashMap::new() }
    }

    /// Files below `directory`, the model's own.
    pub(super) fn below(directory: Option<&Path>) -> Self {
        Self { directory: directory.map(Path::to_path_buf), left: MAX_EXTERNAL_BYTES, open: HashMap::new() }
    }

    fn read(&mut self, proto: &TensorProto, expected: u64) -> Result<Vec<u8>, String> {
        let entry = |key: &str| proto.external_data.iter().find(|e| e.key() == key).map(StringStringEntryProto::value);
        let number = |key: &str| match entry(key) {
            None | Some("") => Ok(None),
            Some(text) => text.parse::<u64>().map(Some).map_err(|_| format!("external `{key}`: {:?}", clip(text))),
        };
        let location = entry("location").ok_or("external data without a `location`")?;
        let offset = number("offset")?.unwrap_or(0);
        if let Some(length) = number("length")?
            && length != expected
        {
            return Err(format!("external data of {length} bytes; its shape and type need {expected}"));
        }
        let directory = self.directory.as_ref().ok_or("external data, but the model was not read from a file")?;
        let relative = Path::new(location);
        let plain = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !plain || location.is_empty() || location.contains('\0') || location.contains('\\') {
            return Err(format!("external data outside the model's directory: {:?}", clip(location)));
        }
        let unreadable = |error: std::io::Error| format!("external data {:?}: {error}", clip(location));
        let root = directory.canonicalize().map_err(unreadable)?;
        let path = root.join(relative).canonicalize().map_err(unreadable)?;
        if !path.starts_with(&root) {
            return Err(format!("external data outside the model's directory: {:?}", clip(location)));
        }
        self.left = self.left.checked_sub(expected).ok_or_else(|| {
            format!("external data of more than {MAX_EXTERNAL_BYTES} bytes together, which is the limit")
        })?;
        if !self.open.contains_key(&path) {
            let metadata = path.metadata().map_err(unreadable)?;
            if !metadata.is_file() {
                return Err(format!("external data {:?} is not a file", clip(location)));
            }
            // Few files are ever used; a hostile list of thousands must not hold them all open.
            if self.open.len() >= 16 {
                self.open.clear();
            }
            let file = File::open(&path).map_err(unreadable)?;
            self.open.insert(path.clone(), (file, metadata.len()));
        }
        let (file, size) = self.open.get_mut(&path).ok_or("external data was closed")?;
        if offset.checked_add(expected).is_none_or(|end| end > *size) {
            return Err(format!(
                "external data {:?} has {size} bytes; {expected} at offset {offset} were expected",
                clip(location)
            ));
        }
        let length = usize::try_from(expected).map_err(|_| "external data too large".to_owned())?;
        let mut data = vec![0; length];
        file.seek(SeekFrom::Start(offset)).map_err(unreadable)?;
        file.read_exact(&mut data).map_err(unreadable)?;
        Ok(data)
    }
}

/// A tensor's shape, with its element count within the limit.
fn shape(proto: &TensorProto) -> Result<(Vec<usize>, usize), String> {
    if proto.dims.len() > MAX_RANK {
        return Err(format!("{} dimensions; the limit is {MAX_RANK}", proto.dims.len()));
    }
    let shape = proto.dims.iter().map(|&dim| usize::try_from(dim)).collect::<Result<Vec<_>, _>>();
    let shape = shape.map_err(|_| format!("negative dimension in {:?}", proto.dims))?;
    let elements = checked_elements(&shape, MAX_CONSTANT_ELEMENTS)
        .and_then(|elements| usize::try_from(elements).ok())
        .ok_or_else(|| format!("shape {shape:?}: more than {MAX_CONSTANT_ELEMENTS} elements, which is the limit"))?;
    Ok((shape, elements))
}

/// The tensor that a message holds; int4 as int8.
pub(super) fn decode(proto: &TensorProto, external: &mut External) -> Result<Tensor, String> {
    let data_type = proto.data_type.unwrap_or(0);
    let target = dtype(data_type)?;
    let source = DataType::try_from(data_type).map_err(|_| "unknown element type".to_owned())?;
    if proto.segment.is_some() {
        return Err("tensors in segments are not supported".to_owned());
    }
    let (shape, elements) = shape(proto)?;
    if source == DataType::Int4 {
        let array = ArrayD::from_shape_vec(IxDyn(&shape), nibbles(proto, elements, external)?);
        return array.map(Tensor::I8).map_err(|_| "inconsistent int4 tensor".to_owned());
    }
    let width = match source {
        DataType::Bool | DataType::Int8 | DataType::Uint8 => 1,
        DataType::Float16 | DataType::Bfloat16 | DataType::Int16 | DataType::Uint16 => 2,
        DataType::Double | DataType::Int64 | DataType::Uint64 => 8,
        _ => 4,
    };
    let fetched;
    let raw = if proto.data_location() == DataLocation::External {
        fetched = external.read(proto, elements as u64 * width as u64)?;
        Some(fetched.as_slice())
    } else {
        proto.raw_data.as_deref()
    };
    // Some writers leave an empty `raw_data` beside the typed field.
    let raw = raw.filter(|raw| !raw.is_empty());
    if let Some(raw) = raw
        && raw.len() != elements * width
    {
        return Err(format!("shape {shape:?} needs {} bytes; there are {}", elements * width, raw.len()));
    }
    let typed = typed_length(proto, source);
    if raw.is_none() && typed != elements {
        return Err(format!("shape {shape:?} needs {elements} values; there are {typed}"));
    }
    let array = |name: &'static str| move |_| format!("inconsistent {name} tensor");
    macro_rules! build {
        ($variant:ident, $values:expr) => {
            Ok(Tensor::$variant(ArrayD::from_shape_vec(IxDyn(&shape), $values).map_err(array(stringify!($variant)))?))
        };
    }
    let narrow = || "a value outside its type's range".to_owned();
    macro_rules! integers {
        ($variant:ident, $type:ty, $field:ident) => {{
            let values: Vec<$type> = match raw {
                Some(raw) => little_endian(raw, <$type>::from_le_bytes),
                None => proto
                    .$field
                    .iter()
                    .map(|&value| <$type>::try_from(value).ok())
                    .collect::<Option<_>>()
                    .ok_or_else(narrow)?,
            };
            build!($variant, values)
        }};
    }
    match (source, target) {
        (DataType::Float, _) => {
            build!(F32, raw.map_or_else(|| proto.float_data.clone(), |raw| little_endian(raw, f32::from_le_bytes)))
        }
        (DataType::Double, _) => {
            let values = raw.map_or_else(|| proto.double_data.clone(), |raw| little_endian(raw, f64::from_le_bytes));
            // The importer's floats are single precision; rounding is meant.
            #[allow(clippy::cast_possible_truncation)]
            let single = values.into_iter().map(|value| value as f32).collect();
            build!(F32, single)
        }
        (DataType::Float16 | DataType::Bfloat16, _) => {
            let bits: Vec<u16> = match raw {
                Some(raw) => little_endian(raw, u16::from_le_bytes),
                None => proto
                    .int32_data
                    .iter()
                    .map(|&value| u16::try_from(value).ok())
                    .collect::<Option<_>>()
                    .ok_or_else(narrow)?,
            };
            let convert = if source == DataType::Float16 { half } else { brain };
            build!(F32, bits.into_iter().map(convert).collect())
        }
        (_, DType::UInt8) => integers!(U8, u8, int32_data),
        (_, DType::Int8) => integers!(I8, i8, int32_data),
        (_, DType::UInt16) => integers!(U16, u16, int32_data),
        (_, DType::Int16) => integers!(I16, i16, int32_data),
        (_, DType::Int32) => integers!(I32, i32, int32_data),
        (_, DType::UInt32) => integers!(U32, u32, uint64_data),
        (DataType::Uint64, _) => {
            let values = raw.map_or_else(|| proto.uint64_data.clone(), |raw| little_endian(raw, u64::from_le_bytes));
            let values = values.into_iter().map(|value| i64::try_from(value).ok()).collect::<Option<_>>();
            build!(I64, values.ok_or_else(narrow)?)
        }
        (_, DType::Int64) => integers!(I64, i64, int64_data),
        _ => {
            let values: Vec<bool> = match raw {
                Some(raw) => raw.iter().map(|&byte| byte != 0).collect(),
                None => proto.int32_data.iter().map(|&value| value != 0).collect(),
            };
            build!(Bool, values)
        }
    }
}

/// Elements of int4, two a byte with the first one in the low half, the last byte filled up: as raw bytes, in external data,
/// or a byte in each of `int32_data`, with or without a sign.
fn nibbles(proto: &TensorProto, elements: usize, external: &mut External) -> Result<Vec<i8>, String> {
    let count = elements.div_ceil(2);
    let bytes = if proto.data_location() == DataLocation::External {
        external.read(proto, count as u64)?
    } else if let Some(raw) = proto.raw_data.as_deref().filter(|raw| !raw.is_empty()) {
        raw.to_vec()
    } else {
        let byte = |&value: &i32| u8::try_from(value).or_else(|_| i8::try_from(value).map(i8::cast_unsigned));
        let bytes = proto.int32_data.iter().map(byte).collect::<Result<Vec<u8>, _>>();
        bytes.map_err(|_| "a value outside its type's range".to_owned())?
    };
    if bytes.len() != count {
        return Err(format!("{elements} elements of 4 bits need {count} bytes; there are {}", bytes.len()));
    }
    let low = |byte: u8| (byte << 4).cast_signed() >> 4;
    let both = bytes.into_iter().flat_map(|byte| [low(byte), low(byte >> 4)]);
    Ok(both.take(elements).collect())
}

/// Number of values in the typed field of a type.
fn typed_length(proto: &TensorProto, source: DataType) -> usize {
    match source {
        DataType::Float => proto.float_data.len(),
        DataType::Double => proto.double_data.len(),
        DataType::Int64 => proto.int64_data.len(),
        DataType::Uint32 | DataType::Uint64 => proto.uint64_data.len(),
        _ => proto.int32_data.len(),
    }
}

/// Values from their bytes, lowest first.
fn little_endian<const N: usize, T>(raw: &[u8], convert: fn([u8; N]) -> T) -> Vec<T> {
    raw.chunks_exact(N).map(|chunk| convert(chunk.try_into().expect("chunks have this length"))).collect()
}

/// IEEE half precision, exactly.
fn half(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let exponent = i32::from((bits >> 10) & 0x1f);
    let fraction = f32::from(bits & 0x3ff);
    match exponent {
        0 => sign * fraction * 2.0_f32.powi(-24),
        31 if fraction == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        _ => sign * (1024.0 + fraction) * 2.0_f32.powi(exponent - 25),
    }
}

/// Brain floating point: the upper half of a single.
fn brain(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proto(data_type: DataType, dims: &[i64], raw: &[u8]) -> TensorProto {
        TensorProto {
            data_type: Some(data_type as i32),
            dims: dims.to_vec(),
            raw_data: Some(raw.to_vec().into()),
            ..TensorProto::default()
        }
    }

    fn external(location: &str, dims: &[i64]) -> TensorProto {
        let entry =
            |key: &str, value: &str| StringStringEntryProto { key: Some(key.into()), value: Some(value.into()) };
        TensorProto {
            data_type: Some(DataType::Float as i32),
            dims: dims.to_vec(),
            data_location: Some(DataLocation::External as i32),
            external_data: vec![entry("location", location), entry("offset", "4")],
            ..TensorProto::default()
        }
    }

    #[test]
    fn elements_of_four_bits_lie_two_a_byte_the_first_one_low() {
        let values = |proto: &TensorProto| decode(proto, &mut External::none()).map(|t| t.to_integers().unwrap());
        let packed = proto(DataType::Int4, &[5], &[0x8f, 0x70, 0x03]);
        assert_eq!(values(&packed).unwrap(), [-1, -8, 0, 7, 3]);
        let typed = TensorProto { raw_data: None, int32_data: vec![0x8f, 0x70, -13], ..packed.clone() };
        assert_eq!(values(&typed).unwrap(), [-1, -8, 0, 7, 3]);
        let long = proto(DataType::Int4, &[5], &[0; 5]);
        assert!(values(&long).unwrap_err().contains("5 elements of 4 bits need 3 bytes; there are 5"));
        let wide = TensorProto { int32_data: vec![256, 0, 0], ..typed };
        assert!(values(&wide).unwrap_err().contains("outside its type's range"));
        assert!(values(&proto(DataType::Uint4, &[2], &[0])).unwrap_err().contains("not supported: UINT4"));
    }

    #[test]
    fn half_precision_is_exact_at_its_corners() {
        for (bits, value) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 2.0_f32.powi(-24)),
            (0x03ff, 1023.0 * 2.0_f32.powi(-24)),
            (0x8000, -0.0),
            (0xfc00, f32::NEG_INFINITY),
        ] {
            assert_eq!(half(bits).to_bits(), value.to_bits(), "{bits:x}");
        }
        assert!(half(0x7e00).is_nan());
        assert_eq!(brain(0x3f80).to_bits(), 1.0_f32.to_bits());
    }

    #[test]
    fn raw_and_typed_data_give_the_same_tensor() {
        let raw = decode(&proto(DataType::Int8, &[2], &[0xff, 0x7f]), &mut External::none()).unwrap();
        let typed = TensorProto {
            data_type: Some(DataType::Int8 as i32),
            dims: vec![2],
            int32_data: vec![-1, 127],
            ..TensorProto::default()
        };
        assert_eq!(decode(&typed, &mut External::none()).unwrap(), raw);
        assert_eq!(raw.to_integers().unwrap(), [-1, 127]);
    }

    #[test]
    fn a_typed_value_outside_its_type_is_an_error() {
        let typed = TensorProto {
            data_type: Some(DataType::Uint8 as i32),
            dims: vec![1],
            int32_data: vec![256],
            ..TensorProto::default()
        };
        assert!(decode(&typed, &mut External::none()).unwrap_err().contains("range"));
    }

    #[test]
    fn absurd_negative_and_mismatched_shapes_are_errors() {
        for dims in [&[1 << 40][..], &[1 << 32, 1 << 32], &[-1], &[3], &[i64::MAX, 2], &[1; 200]] {
            assert!(decode(&proto(DataType::Float, dims, &[0; 4]), &mut External::none()).is_err(), "{dims:?}");
        }
    }

    #[test]
    fn an_empty_tensor_is_a_tensor() {
        let tensor = decode(&proto(DataType::Int64, &[0], &[]), &mut External::none()).unwrap();
        assert_eq!(tensor.shape(), [0]);
    }

    #[test]
    fn external_data_is_read_from_beside_the_model_and_nowhere_else() {
        let directory = tempfile::tempdir().unwrap();
        let inside = directory.path().join("model");
        std::fs::create_dir(&inside).unwrap();
        let mut bytes = vec![0; 4];
        bytes.extend(2.5_f32.to_le_bytes());
        std::fs::write(inside.join("weights.bin"), &bytes).unwrap();
        std::fs::write(directory.path().join("secret.bin"), &bytes).unwrap();
        let mut source = External::below(Some(&inside));
        assert_eq!(decode(&external("weights.bin", &[1]), &mut source).unwrap().to_f32(), [2.5]);
        let absolute = directory.path().join("secret.bin");
        for location in ["../secret.bin", absolute.to_str().unwrap(), "", ".", "missing.bin", "a/../../secret.bin"] {
            assert!(decode(&external(location, &[1]), &mut source).is_err(), "{location}");
        }
        assert!(decode(&external("weights.bin", &[2]), &mut source).unwrap_err().contains("bytes"));
        assert!(decode(&external("weights.bin", &[1 << 40]), &mut source).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_symbolic_link_does_not_lead_out_of_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let inside = directory.path().join("model");
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(directory.path().join("secret.bin"), [0; 8]).unwrap();
        std::os::unix::fs::symlink(directory.path().join("secret.bin"), inside.join("link.bin")).unwrap();
        let mut source = External::below(Some(&inside));
        assert!(decode(&external("link.bin", &[1]), &mut source).unwrap_err().contains("outside"));
    }
}
