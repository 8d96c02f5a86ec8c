//! One node of the file as its importer sees it: typed access to attributes and operand names, with refusals for what
//! is of the wrong type.

use super::{
    limits::{Fallible, MAX_RANK, clip, refuse},
    proto::{AttributeProto, NodeProto, TensorProto, attribute_proto::AttributeType},
};

/// A node with its resolved name and the version of its operator set.
pub(super) struct NodeView<'m> {
    /// The message.
    pub proto: &'m NodeProto,
    /// Its name in the graph.
    pub name: String,
    /// Version of the operator set that its domain is imported with.
    pub version: i64,
}

impl<'m> NodeView<'m> {
    /// The operator's name.
    pub(super) fn op(&self) -> &'m str {
        self.proto.op_type()
    }

    /// The name of an operand; `None` where it is absent (past the end or empty).
    pub(super) fn input(&self, index: usize) -> Option<&'m str> {
        self.proto.input.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// The name of a result; empty where it is not asked for.
    pub(super) fn output(&self, index: usize) -> &'m str {
        self.proto.output.get(index).map_or("", String::as_str)
    }

    /// Refuses attributes that are not in `known`, that stand twice, or that refer to a function's.
    pub(super) fn only(&self, known: &[&str]) -> Fallible<()> {
        if self.proto.attribute.len() > known.len() + 4 {
            refuse!("{} attributes", self.proto.attribute.len());
        }
        for (index, attribute) in self.proto.attribute.iter().enumerate() {
            let name = attribute.name();
            if !known.contains(&name) {
                refuse!("attribute not supported: `{}`", clip(name));
            }
            if self.proto.attribute[..index].iter().any(|other| other.name() == name) {
                refuse!("attribute given twice: `{}`", clip(name));
            }
            if attribute.ref_attr_name.as_ref().is_some_and(|name| !name.is_empty()) {
                refuse!("attribute `{}` refers to a function's, which is not supported", clip(name));
            }
        }
        Ok(())
    }

    fn attribute(&self, name: &str, kind: AttributeType) -> Fallible<Option<&'m AttributeProto>> {
        let Some(attribute) = self.proto.attribute.iter().find(|attribute| attribute.name() == name) else {
            return Ok(None);
        };
        // Files older than the `type` field leave it out.
        if attribute.r#type.is_some() && attribute.r#type() != kind && attribute.r#type() != AttributeType::Undefined {
            refuse!(
                "attribute `{name}` is of type {}; expected {}",
                attribute.r#type().as_str_name(),
                kind.as_str_name()
            );
        }
        Ok(Some(attribute))
    }

    /// Whether an attribute is given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.proto.attribute.iter().any(|attribute| attribute.name() == name)
    }

    /// An integer attribute.
    pub(super) fn int(&self, name: &str, default: i64) -> Fallible<i64> {
        Ok(self.attribute(name, AttributeType::Int)?.map_or(default, AttributeProto::i))
    }

    /// An integer attribute that says yes or no.
    pub(super) fn flag(&self, name: &str, default: bool) -> Fallible<bool> {
        Ok(self.int(name, i64::from(default))? != 0)
    }

    /// A float attribute; refused if it is not a finite number.
    pub(super) fn float(&self, name: &str, default: f32) -> Fallible<f32> {
        let value = self.any_float(name, default)?;
        if !value.is_finite() {
            refuse!("attribute `{name}` is not a finite number: {value}");
        }
        Ok(value)
    }

    /// A float attribute, infinite or not a number as it may be.
    pub(super) fn any_float(&self, name: &str, default: f32) -> Fallible<f32> {
        Ok(self.attribute(name, AttributeType::Float)?.map_or(default, AttributeProto::f))
    }

    /// A list of integers.
    pub(super) fn ints(&self, name: &str) -> Fallible<Option<&'m [i64]>> {
        let list = self.attribute(name, AttributeType::Ints)?.map(|attribute| attribute.ints.as_slice());
        if let Some(list) = list
            && list.len() > 2 * MAX_RANK
            && name != "value_ints"
        {
            refuse!("attribute `{name}` has {} values", list.len());
        }
        Ok(list)
    }

    /// A list of floats.
    pub(super) fn floats(&self, name: &str) -> Fallible<Option<&'m [f32]>> {
        Ok(self.attribute(name, AttributeType::Floats)?.map(|attribute| attribute.floats.as_slice()))
    }

    /// A text.
    pub(super) fn text(&self, name: &str, default: &'m str) -> Fallible<&'m str> {
        let Some(attribute) = self.attribute(name, AttributeType::String)? else { return Ok(default) };
        match std::str::from_utf8(attribute.s.as_deref().unwrap_or_default()) {
            Ok(text) => Ok(text),
            Err(_) => refuse!("attribute `{name}` is not UTF-8"),
        }
    }

    /// A tensor.
    pub(super) fn tensor(&self, name: &str) -> Fallible<Option<&'m TensorProto>> {
        Ok(self.attribute(name, AttributeType::Tensor)?.and_then(|attribute| attribute.t.as_ref()))
    }
}

/// A dimension index that may count from the end, as one from the start.
pub(super) fn axis(axis: i64, rank: usize) -> Fallible<usize> {
    let signed = i64::try_from(rank).unwrap_or(i64::MAX);
    let positive = if axis < 0 { axis.checked_add(signed) } else { Some(axis) };
    match positive.and_then(|axis| usize::try_from(axis).ok()).filter(|&axis| axis < rank) {
        Some(axis) => Ok(axis),
        None => refuse!("axis {axis} of a tensor with {rank} dimensions"),
    }
}

/// Dimension indices from the start, sorted; refused if one stands twice.
pub(super) fn axes(list: &[i64], rank: usize) -> Fallible<Vec<usize>> {
    let mut axes = list.iter().map(|&item| axis(item, rank)).collect::<Fallible<Vec<_>>>()?;
    axes.sort_unstable();
    if axes.windows(2).any(|pair| pair[0] == pair[1]) {
        refuse!("an axis given twice: {list:?}");
    }
    Ok(axes)
}

/// A non-negative size.
pub(super) fn size(value: i64, what: &str) -> Fallible<usize> {
    match usize::try_from(value) {
        Ok(size) => Ok(size),
        Err(_) => refuse!("negative {what}: {value}"),
    }
}
