//! A walk over the wire format before decoding: how much memory would the decoded messages take? An empty message is
//! two bytes in the file and a hundred in memory, so a small hostile file could otherwise fill the machine.

use super::proto;

/// Most bytes that decoded messages may take beyond the file's own length. Byte fields are slices of the file.
const ALLOWANCE: usize = 256 << 20;

/// What is known of a message's fields.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    Dimension,
    Entry,
    Opset,
}

/// What one field costs when decoded.
enum Field {
    /// A message of a kind, with its own size.
    Message(Kind, usize),
    /// A string: its header and its bytes.
    Text,
    /// A slice of the file.
    Slice,
    /// Numbers of so many bytes each, packed or one by one; `true` if they are variable-length on the wire.
    Numbers(usize, bool),
    /// Not decoded, or part of the message itself.
    Other,
}

fn field(kind: Kind, number: u64) -> Field {
    use Field::{Message, Numbers, Other, Slice, Text};
    match (kind, number) {
        (Kind::Model, 7) => Message(Kind::Graph, size_of::<proto::GraphProto>()),
        (Kind::Model, 8) => Message(Kind::Opset, size_of::<proto::OperatorSetIdProto>()),
        (Kind::Graph, 1) => Message(Kind::Node, size_of::<proto::NodeProto>()),
        (Kind::Graph | Kind::Attribute, 5) => Message(Kind::Tensor, size_of::<proto::TensorProto>()),
        (Kind::Graph, 11 | 12) => Message(Kind::ValueInfo, size_of::<proto::ValueInfoProto>()),
        (Kind::Graph, 15) | (Kind::Attribute, 4) | (Kind::Tensor, 3 | 9) => Slice,
        (Kind::Node, 5) => Message(Kind::Attribute, size_of::<proto::AttributeProto>()),
        (Kind::Attribute, 7) | (Kind::Tensor, 4) => Numbers(4, false),
        (Kind::Tensor, 5) => Numbers(4, true),
        (Kind::Tensor, 10) => Numbers(8, false),
        (Kind::Attribute, 8) | (Kind::Tensor, 1 | 7 | 11) => Numbers(8, true),
        (Kind::Tensor, 13) => Message(Kind::Entry, size_of::<proto::StringStringEntryProto>()),
        (Kind::ValueInfo, 2) => Message(Kind::Type, size_of::<proto::TypeProto>()),
        (Kind::Type, 1) => Message(Kind::TensorType, size_of::<proto::type_proto::Tensor>()),
        (Kind::TensorType, 2) => Message(Kind::Shape, size_of::<proto::TensorShapeProto>()),
        (Kind::Shape, 1) => Message(Kind::Dimension, size_of::<proto::tensor_shape_proto::Dimension>()),
        (Kind::Node, 1..=4 | 7)
        | (Kind::Attribute, 1 | 21)
        | (Kind::Tensor, 8)
        | (Kind::ValueInfo | Kind::Opset, 1)
        | (Kind::Graph | Kind::Dimension, 2)
        | (Kind::Entry, 1 | 2) => Text,
        _ => Other,
    }
}

/// Reads a variable-length integer.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Adds what `bytes`, a message of `kind`, costs beyond its own size; `None` if it is cut short or malformed.
fn walk(kind: Kind, mut bytes: &[u8], cost: &mut usize) -> Option<()> {
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let known = field(kind, key >> 3);
        let length = match key & 7 {
            0 => {
                varint(&mut bytes)?;
                if let Field::Numbers(size, _) = known {
                    *cost = cost.checked_add(size)?;
                }
                continue;
            }
            1 => 8,
            5 => 4,
            2 => usize::try_from(varint(&mut bytes)?).ok()?,
            // Groups, which ONNX does not have, and invalid wire types.
            _ => return None,
        };
        let (content, rest) = bytes.split_at_checked(length)?;
        bytes = rest;
        let added = match known {
            Field::Numbers(size, _) if key & 7 != 2 => size,
            Field::Numbers(_, false) => length,
            Field::Numbers(size, true) => content.iter().filter(|&&byte| byte < 0x80).count().checked_mul(size)?,
            _ if key & 7 != 2 => 0,
            Field::Message(inner, size) => {
                walk(inner, content, cost)?;
                size
            }
            Field::Text => length.checked_add(size_of::<String>())?,
            Field::Slice => size_of::<prost::bytes::Bytes>(),
            Field::Other => 0,
        };
        *cost = cost.checked_add(added)?;
    }
    Some(())
}

/// Whether `bytes` is well-formed as far as it is read, and small enough once decoded.
///
/// # Errors
/// A sentence for the user.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let mut cost = 0;
    if walk(Kind::Model, bytes, &mut cost).is_none() {
        return Err("not an ONNX model, or cut short".to_owned());
    }
    let limit = ALLOWANCE.saturating_add(bytes.len());
    if cost > limit {
        return Err(format!("the model's messages would take {cost} bytes in memory; the limit is {limit}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_two_to_the_sixtieth_is_cut_short() {
        let mut bytes = vec![0x3a];
        bytes.extend([0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10]);
        assert!(check(&bytes).is_err());
    }

    #[test]
    fn many_empty_nodes_are_counted_at_their_size_in_memory() {
        let nodes = 4 << 20;
        let mut graph = Vec::new();
        for _ in 0..nodes {
            graph.extend([0x0a, 0x00]);
        }
        let mut bytes = vec![0x3a];
        let mut length = graph.len();
        while length >= 0x80 {
            bytes.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            length >>= 7;
        }
        bytes.push(u8::try_from(length).unwrap());
        bytes.extend(graph);
        assert!(check(&bytes).unwrap_err().contains("in memory"));
    }

    #[test]
    fn fields_that_are_not_decoded_cost_nothing() {
        // Field 20 (training information) of three bytes.
        assert_eq!(check(&[0xa2, 0x01, 0x03, 1, 2, 3]), Ok(()));
    }
}
