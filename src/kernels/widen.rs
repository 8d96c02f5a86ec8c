//! Bytes of quantized elements to 16-bit operands, less their zero point, and to whole integers and back.

/// How an element of at most 16 bits lies in memory, little endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Narrow {
    /// One byte, unsigned.
    U8,
    /// One byte, two's complement.
    I8,
    /// Two bytes, two's complement.
    I16,
    /// Two bytes, unsigned.
    U16,
}

impl Narrow {
    /// Bytes of an element.
    pub const fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::I16 | Self::U16 => 2,
        }
    }
}

/// `out[i] = element i of bytes - zero`. The caller has made sure that the differences fit 16 bits (a byte's always
/// do for a zero point in the byte's range); they wrap otherwise. Stops at the shorter of the two.
#[inline]
pub fn widen(kind: Narrow, bytes: &[u8], zero: i16, out: &mut [i16]) {
    match kind {
        Narrow::U8 => {
            for (slot, &byte) in out.iter_mut().zip(bytes) {
                *slot = i16::from(byte).wrapping_sub(zero);
            }
        }
        Narrow::I8 => {
            for (slot, &byte) in out.iter_mut().zip(bytes) {
                *slot = i16::from(i8::from_le_bytes([byte])).wrapping_sub(zero);
            }
        }
        // Modulo 2^16 both are the same.
        Narrow::I16 | Narrow::U16 => {
            for (slot, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                *slot = i16::from_le_bytes([pair[0], pair[1]]).wrapping_sub(zero);
            }
        }
    }
}

/// `out[i] = element i of bytes`. Stops at the shorter of the two.
#[inline]
pub fn load(kind: Narrow, bytes: &[u8], out: &mut [i32]) {
    match kind {
        Narrow::U8 => out.iter_mut().zip(bytes).for_each(|(slot, &byte)| *slot = byte.into()),
        Narrow::I8 => out.iter_mut().zip(bytes).for_each(|(slot, &byte)| *slot = byte.cast_signed().into()),
        Narrow::I16 => {
            let pairs = bytes.as_chunks::<2>().0;
            out.iter_mut().zip(pairs).for_each(|(slot, &pair)| *slot = i16::from_le_bytes(pair).into());
        }
        Narrow::U16 => {
            let pairs = bytes.as_chunks::<2>().0;
            out.iter_mut().zip(pairs).for_each(|(slot, &pair)| *slot = u16::from_le_bytes(pair).into());
        }
    }
}

/// The inverse of [`load`]: the low bytes of each value. Stops at the shorter of the two.
#[inline]
pub fn store(kind: Narrow, values: &[i32], out: &mut [u8]) {
    if kind.bytes() == 1 {
        out.iter_mut().zip(values).for_each(|(slot, value)| *slot = value.to_le_bytes()[0]);
    } else {
        let pairs = out.as_chunks_mut::<2>().0.iter_mut();
        pairs.zip(values).for_each(|(slot, value)| *slot = [value.to_le_bytes()[0], value.to_le_bytes()[1]]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extremes_of_each_type_survive() {
        let mut out = [0; 2];
        widen(Narrow::U8, &[0, 255], 255, &mut out);
        assert_eq!(out, [-255, 0]);
        widen(Narrow::I8, &[0x80, 0x7f], -128, &mut out);
        assert_eq!(out, [0, 255]);
        widen(Narrow::I16, &[0x00, 0x80, 0xff, 0x7f], 0, &mut out);
        assert_eq!(out, [-32768, 32767]);
    }

    #[test]
    fn integers_return_to_the_bytes_that_they_came_from() {
        let bytes: Vec<u8> = (0..=u8::MAX).flat_map(|low| [low, low.wrapping_mul(77)]).collect();
        for (kind, low, high) in
            [(Narrow::U8, 0, 255), (Narrow::I8, -128, 127), (Narrow::I16, -32768, 32767), (Narrow::U16, 0, 65535)]
        {
            let mut values = vec![i32::MAX; bytes.len() / kind.bytes()];
            load(kind, &bytes, &mut values);
            assert!(values.iter().all(|value| (low..=high).contains(value)));
            let mut back = vec![0; bytes.len()];
            store(kind, &values, &mut back);
            assert_eq!(back, bytes);
        }
        let mut out = [0];
        load(Narrow::U16, &[0xff, 0xff], &mut out);
        assert_eq!(out, [65535]);
    }
}
