use super::*;

/// Written by numpy 2.4 with
/// `np.savez("numpy.npz", f4=np.array([[1.5, -2.0, 3.25]], "<f4"), f8=np.array(1e300), i1=np.array([-128, 127], "i1"),
/// u1=np.zeros((2, 0, 3), "u1"), fortran=np.asfortranarray(np.arange(6, dtype="<i2").reshape(2, 3)),
/// u2=np.array([65535], "<u2"), big=np.array([1, -2], ">i4"), u4=np.array([4294967295], "<u4"),
/// i8=np.array([-(2**63)], "<i8"), b1=np.array([True, False]))`.
const NUMPY: &[u8] = include_bytes!("numpy.npz");

fn integers(dtype: crate::tensor::DType, shape: &[usize], values: &[i64]) -> Tensor {
    Tensor::from_integers(dtype, shape, values).unwrap()
}

fn all_types() -> Vec<(&'static str, Tensor)> {
    use crate::tensor::DType;
    vec![
        ("f4", Tensor::from_f32(&[1, 3], vec![1.5, -2.0, 3.25]).unwrap()),
        ("f8", Tensor::F64(ndarray::arr0(1e300).into_dyn())),
        ("i1", integers(DType::Int8, &[2], &[-128, 127])),
        ("u1", integers(DType::UInt8, &[2, 0, 3], &[])),
        ("fortran", integers(DType::Int16, &[2, 3], &[0, 1, 2, 3, 4, 5])),
        ("u2", integers(DType::UInt16, &[1], &[65535])),
        ("big", integers(DType::Int32, &[2], &[1, -2])),
        ("u4", integers(DType::UInt32, &[1], &[4_294_967_295])),
        ("i8", integers(DType::Int64, &[1], &[i64::MIN])),
        ("b1", Tensor::Bool(ndarray::arr1(&[true, false]).into_dyn())),
    ]
}

fn assert_all(arrays: &[(String, Tensor)]) {
    let expected = all_types();
    assert_eq!(arrays.len(), expected.len());
    for ((name, tensor), (must_name, must)) in arrays.iter().zip(&expected) {
        assert_eq!((name.as_str(), tensor), (*must_name, must));
    }
}

#[test]
fn numpys_own_archives_are_read() {
    assert_all(&parse_npz(NUMPY).unwrap());
}

#[test]
fn what_is_written_is_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let [path, again] = ["a.npz", "b.npz"].map(|name| directory.path().join(name));
    let arrays = all_types();
    let arrays: Vec<(&str, &Tensor)> = arrays.iter().map(|(name, tensor)| (*name, tensor)).collect();
    write_npz(&path, &arrays).unwrap();
    write_npz(&again, &arrays).unwrap();
    assert_all(&read_npz(&path).unwrap());
    assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(&again).unwrap());
    let twice = write_npz(&path, &[arrays[0], arrays[0]]).unwrap_err().to_string();
    assert!(twice.contains("two arrays have this name: \"f4\""), "{twice}");
}

#[test]
fn a_broken_archive_is_a_fault_and_never_a_panic() {
    for length in 0..NUMPY.len() {
        assert!(parse_npz(&NUMPY[..length]).is_err());
    }
    for at in 0..NUMPY.len() {
        for flip in [0x01, 0x80, 0xFF] {
            let mut bytes = NUMPY.to_vec();
            bytes[at] ^= flip;
            // Names, dates and attributes may change unnoticed; elements may not.
            let _ = parse_npz(&bytes);
        }
    }
    let mut bytes = NUMPY.to_vec();
    let element = bytes.windows(4).position(|four| four == 1.5_f32.to_le_bytes()).unwrap();
    bytes[element] ^= 1;
    let fault = parse_npz(&bytes).unwrap_err().to_string();
    assert_eq!(fault, "array \"f4\": its bytes do not have the stated checksum");
}

fn shipped(name: &str) -> Vec<(String, Tensor)> {
    read_npz(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name)).unwrap()
}

#[test]
fn deflated_archives_are_read() {
    for (name, samples) in [("mnist_test.npz", 1000), ("mnist_calibrate.npz", 100)] {
        let arrays = shipped(name);
        let shapes: Vec<(&str, &[usize])> =
            arrays.iter().map(|(name, tensor)| (name.as_str(), tensor.shape())).collect();
        assert_eq!(shapes, [("image", &[samples, 1, 28, 28][..]), ("labels", &[samples])]);
    }
}

/// One deflated entry of zeros with the given size in the directory.
fn deflated(zeros: usize, stated: u32) -> Vec<u8> {
    let data = miniz_oxide::deflate::compress_to_vec(&vec![0; zeros], 9);
    let length = u32::try_from(data.len()).unwrap();
    let fixed =
        |flags: &[u8]| [flags, &8_u16.to_le_bytes(), &[0; 8], &length.to_le_bytes(), &stated.to_le_bytes()].concat();
    let mut bytes = [b"PK\x03\x04\x14\0".to_vec(), fixed(&[0, 0]), vec![1, 0, 0, 0, b'a'], data].concat();
    let directory = u32::try_from(bytes.len()).unwrap();
    bytes.extend([b"PK\x01\x02\x14\0\x14\0".to_vec(), fixed(&[0, 0]), vec![1, 0], vec![0; 16], vec![b'a']].concat());
    bytes.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0\0\0\0\0");
    bytes.extend(directory.to_le_bytes());
    bytes.extend([0, 0]);
    bytes
}

#[test]
fn a_deflated_entry_gives_its_stated_size_or_is_a_fault() {
    let fault = |zeros, stated| parse_npz(&deflated(zeros, stated)).unwrap_err().to_string();
    // Of the right size, so the next thing that is wrong is the checksum.
    assert_eq!(fault(1000, 1000), "array \"a\": its bytes do not have the stated checksum");
    for (zeros, stated) in [(100_000_000, 1000), (1000, 1001), (1000, 999), (0, 1)] {
        let found = fault(zeros, stated);
        assert!(found.contains(&format!("do not give the {stated} bytes that the directory states")), "{found}");
    }
    assert_eq!(fault(1000, u32::MAX - 1), "arrays have at most 2 GiB together");
    let mut broken = deflated(1000, 1000);
    broken[31] ^= 0xFF;
    assert!(parse_npz(&broken).unwrap_err().to_string().contains("its compressed bytes are broken"));
    // Method 12 is bzip2.
    let mut other = deflated(1000, 1000);
    let directory = other.windows(4).rposition(|four| four == b"PK\x01\x02").unwrap();
    other[directory + 10] = 12;
    assert!(parse_npz(&other).unwrap_err().to_string().contains("compressed by method 12"));
}

fn npy(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x02\x00".to_vec();
    bytes.extend(u32::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

#[test]
fn a_hostile_header_is_a_fault() {
    let parse = |header: &str| npy::parse(&npy(header, &[0; 8])).map_err(|error| error.to_string());
    let with =
        |descr: &str, shape: &str| parse(&format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}"));
    assert_eq!(with("'<f4'", "(2,)").map(|tensor| tensor.shape().to_vec()), Ok(vec![2]));
    assert_eq!(with("\"|u1\"", "( 2 ,4 )").map(|tensor| tensor.shape().to_vec()), Ok(vec![2, 4]));
    for (descr, shape, expected) in [
        ("'<f4'", "(3,)", "8 bytes of elements, its shape [3] needs 12"),
        ("'<f4'", "(4294967296, 4294967296, 4)", "needs more than 2^64"),
        ("'<f4'", "(2305843009213693951,)", "needs 9223372036854775804"),
        ("'|u1'", "(18446744073709551615, 0)", "needs 0"),
        ("'<f4'", "(99999999999999999999999,)", "header is broken"),
        ("'<f4'", "(-1,)", "header is broken"),
        ("'<f2'", "(4,)", "element type is not one of"),
        ("'<c8'", "(1,)", "element type is not one of"),
        ("'|O'", "(1,)", "element type is not one of"),
        ("'é4'", "(1,)", "header is broken"),
        ("[('a', '<f4')]", "(1,)", "header is broken"),
        ("'<f4'", "((((((", "header is broken"),
    ] {
        let fault = with(descr, shape).unwrap_err();
        assert!(fault.contains(expected), "{descr} {shape}: {fault}");
    }
    assert!(with("'|u1'", &format!("({}8)", "1,".repeat(32))).unwrap_err().contains("at most 32 dimensions"));
    assert!(parse(&"{".repeat(30_000)).unwrap_err().contains("header is broken, at its byte 1"));
    assert!(parse(&" ".repeat(70_000)).unwrap_err().contains("not an array"));
    assert!(parse("{'descr': '<f4', 'descr': '<f4'}").unwrap_err().contains("header is broken"));
    assert!(parse("{'descr': '<f4', 'shape': (2,)}").unwrap_err().contains("lacks \"fortran_order\""));
    let truth = npy::parse(&npy("{'descr': '|b1', 'fortran_order': False, 'shape': (1,)}", &[2]));
    assert_eq!(truth.err().map(|error| error.to_string()).as_deref(), Some("a truth value is neither 0 nor 1: 2"));
}

#[test]
fn a_missing_file_is_a_fault() {
    let fault = read_npz(Path::new("nowhere.npz")).unwrap_err().to_string();
    assert!(fault.starts_with("nowhere.npz: cannot open the arrays"), "{fault}");
}
