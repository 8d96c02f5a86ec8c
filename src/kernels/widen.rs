//! Bytes of quantized elements to 16-bit operands, less their zero point.

/// How an element of at most 16 bits lies in memory, little endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Narrow {
    /// One byte, unsigned.
    U8,
    /// One byte, two's complement.
    I8,
    /// Two bytes, two's complement.
    I16,
}

impl Narrow {
    /// Bytes of an element.
    pub const fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::I16 => 2,
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
        Narrow::I16 => {
            for (slot, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                *slot = i16::from_le_bytes([pair[0], pair[1]]).wrapping_sub(zero);
            }
        }
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
}
