//! Sliding windows: kernel, strides, dilations and padding of the file resolved to the graph's explicit ones, and
//! one-dimensional operators lifted to images of one row.

use crate::{
    import::onnx::{
        importer::{Encoding, Importer, NameSuffix},
        limits::{Fallible, clip, refuse},
        node::{NodeView, size},
    },
    ir::{Op, ValueId, Window},
};

/// How the extent of the result is rounded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounding {
    /// Down: windows that do not fit are left out.
    Floor,
    /// Up, with padding that never counts in the result.
    Ceil,
    /// Up, where padding counts but what a window reaches beyond it does not.
    CeilCounted,
}

/// `x` as an image of rank 4, and the rank that it had: 3 becomes one row, 4 stays, others are refused.
pub(super) fn lift<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>, x: ValueId) -> Fallible<(ValueId, usize)> {
    let shape = imp.shape(x);
    match *shape.as_slice() {
        [_, _, _, _] => Ok((x, 4)),
        [n, c, length] => {
            if let Some(&twin) = imp.twins.get(&x) {
                return Ok((twin, 3));
            }
            let twin = imp.reshape(node, NameSuffix::helper("as_image"), x, &[n, c, 1, length])?;
            imp.twins.insert(x, twin);
            Ok((twin, 3))
        }
        _ => refuse!("operand of shape {shape:?}; only [N, C, H, W] and [N, C, L] are supported"),
    }
}

/// The result of an operator on a lifted image, back at the rank that the operand had.
pub(super) fn lower<'m>(imp: &mut Importer<'m>, node: &NodeView<'m>, y: ValueId, rank: usize) -> Fallible<ValueId> {
    if rank == 4 {
        return Ok(y);
    }
    let shape = imp.shape(y);
    let flat = imp.reshape(node, NameSuffix::last("as_sequence"), y, &[shape[0], shape[1], shape[3]])?;
    imp.twins.insert(flat, y);
    Ok(flat)
}

/// The step that works on the image: the image is the result itself if the operand had rank 4.
pub(super) const fn step(rank: usize) -> NameSuffix {
    if rank == 4 { NameSuffix::WHOLE } else { NameSuffix::work("image") }
}

/// An operator that treats every element, or every channel, alike: on the images of `xs` if all of them have been
/// lifted, so that nothing comes between a 1-D convolution and its activation. `rest` are further operands.
pub(super) fn pointwise<'m>(
    imp: &mut Importer<'m>,
    node: &NodeView<'m>,
    op: Op,
    xs: &[ValueId],
    rest: &[ValueId],
    encoding: Encoding,
) -> Fallible<ValueId> {
    let twins: Option<Vec<ValueId>> = xs.iter().map(|x| imp.twins.get(x).copied()).collect();
    let rank = if twins.is_some() { 3 } else { 4 };
    let mut operands = twins.unwrap_or_else(|| xs.to_vec());
    operands.extend(rest);
    let y = imp.emit(node, step(rank), op, operands, encoding, None)?;
    lower(imp, node, y, rank)
}

/// A list of one value a spatial dimension as rows and columns.
fn pair(node: &NodeView<'_>, name: &str, spatial: usize) -> Fallible<Option<[usize; 2]>> {
    let Some(list) = node.ints(name)? else { return Ok(None) };
    if list.len() != spatial {
        refuse!("`{name}` has {} values; expected {spatial}", list.len());
    }
    let columns = size(list[spatial - 1], name)?;
    let rows = if spatial == 2 { size(list[0], name)? } else { 1 };
    if rows == 0 || columns == 0 {
        refuse!("`{name}` must be at least 1: {list:?}");
    }
    Ok(Some([rows, columns]))
}

/// The window of a node whose operand has `rank` dimensions and `[H, W]` of `input` once lifted. `kernel` is the
/// weight's, where there is one.
pub(super) fn window(
    node: &NodeView<'_>,
    rank: usize,
    input: [usize; 2],
    kernel: Option<[usize; 2]>,
    rounding: Rounding,
) -> Fallible<Window> {
    let spatial = rank - 2;
    let given = pair(node, "kernel_shape", spatial)?;
    let kernel = match (given, kernel) {
        (Some(given), Some(kernel)) if given != kernel => {
            refuse!("`kernel_shape` is {given:?}, but the weight has {kernel:?}")
        }
        (_, Some(kernel)) => kernel,
        (Some(given), None) => given,
        (None, None) => refuse!("`kernel_shape` is missing"),
    };
    let stride = pair(node, "strides", spatial)?.unwrap_or([1, 1]);
    let dilation = pair(node, "dilations", spatial)?.unwrap_or([1, 1]);
    let mut pad = [0; 4];
    if let Some(list) = node.ints("pads")? {
        if list.len() != 2 * spatial {
            refuse!("`pads` has {} values; expected {}", list.len(), 2 * spatial);
        }
        for (index, &value) in list.iter().enumerate() {
            // One dimension: [left, right]; two: [top, left, bottom, right].
            let place = if spatial == 2 { index } else { 2 * index + 1 };
            pad[place] = size(value, "`pads`")?;
        }
    }
    let auto = node.text("auto_pad", "NOTSET")?;
    if auto != "NOTSET" && pad != [0; 4] {
        refuse!("both `auto_pad` and `pads`");
    }
    for axis in 0..2 {
        let one = Axis { input: input[axis], kernel: kernel[axis], stride: stride[axis], dilation: dilation[axis] };
        let (before, after) = (pad[axis], pad[axis + 2]);
        let resolved = match auto {
            "SAME_UPPER" => one.same(true),
            "SAME_LOWER" => one.same(false),
            "NOTSET" | "VALID" => one.explicit(before, after, rounding)?,
            _ => refuse!("`auto_pad` is {:?}; expected NOTSET, SAME_UPPER, SAME_LOWER or VALID", clip(auto)),
        };
        let Some((before, after)) = resolved else {
            refuse!("window {kernel:?} with dilation {dilation:?} does not fit the padded input {input:?}");
        };
        (pad[axis], pad[axis + 2]) = (before, after);
    }
    Ok(Window { kernel, stride, dilation, pad })
}

/// One axis of a window.
struct Axis {
    input: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
}

impl Axis {
    /// Extent between the first and the last tap, both included.
    fn reach(&self) -> Option<usize> {
        self.dilation.checked_mul(self.kernel.checked_sub(1)?)?.checked_add(1)
    }

    /// Padding for `ceil(input / stride)` results; the odd one at the end if `upper`.
    fn same(&self, upper: bool) -> Option<(usize, usize)> {
        let outputs = self.input.div_ceil(self.stride);
        let needed = outputs.checked_sub(1)?.checked_mul(self.stride)?.checked_add(self.reach()?)?;
        let total = needed.saturating_sub(self.input);
        let small = total / 2;
        Some(if upper { (small, total - small) } else { (total - small, small) })
    }

    /// Given padding, at the end adjusted such that rounding down gives what the file asks for; `Ok(None)` if the
    /// window does not fit.
    fn explicit(&self, before: usize, after: usize, rounding: Rounding) -> Fallible<Option<(usize, usize)>> {
        let sizes = || {
            let begin = self.input.checked_add(before)?;
            Some((begin, begin.checked_add(after)?, self.reach()?))
        };
        let Some((begin, padded, reach)) = sizes() else { return Ok(None) };
        if rounding == Rounding::Floor {
            return Ok((padded >= reach).then_some((before, after)));
        }
        // ONNX's `ceil_mode`: the last window must start within the input or the padding before it.
        let mut outputs = padded.saturating_sub(reach).div_ceil(self.stride) + 1;
        if (outputs - 1).checked_mul(self.stride).is_none_or(|start| start >= begin) {
            outputs -= 1;
        }
        let Some(needed) = outputs
            .checked_sub(1)
            .and_then(|last| last.checked_mul(self.stride))
            .and_then(|start| start.checked_add(reach))
        else {
            return Ok(None);
        };
        let end = needed.saturating_sub(begin);
        if rounding == Rounding::CeilCounted && end > after {
            refuse!("`ceil_mode` with `count_include_pad` where a window reaches beyond the padding is not supported");
        }
        // What rounding down leaves over at the end may stay, unless it makes room for another window.
        let fits = end.max(after);
        let same = (begin + fits - reach) / self.stride + 1 == outputs;
        Ok(Some((before, if same { fits } else { end })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_padding_puts_the_odd_one_where_it_is_asked_for() {
        let axis = Axis { input: 224, kernel: 3, stride: 2, dilation: 1 };
        assert_eq!(axis.same(true), Some((0, 1)));
        assert_eq!(axis.same(false), Some((1, 0)));
    }

    #[test]
    fn ceil_mode_becomes_padding_at_the_end() {
        // 112 with a window of 3 and stride 2: 55.5 windows; the last one reaches one beyond.
        let axis = Axis { input: 112, kernel: 3, stride: 2, dilation: 1 };
        assert_eq!(axis.explicit(0, 0, Rounding::Ceil).unwrap(), Some((0, 1)));
        assert_eq!(axis.explicit(0, 0, Rounding::Floor).unwrap(), Some((0, 0)));
        assert!(axis.explicit(0, 0, Rounding::CeilCounted).is_err());
    }

    #[test]
    fn a_ceil_window_that_would_start_in_the_padding_is_left_out() {
        // Two windows of 1 at stride 2 over 2 + 1 elements: the second starts in the padding.
        let axis = Axis { input: 2, kernel: 1, stride: 2, dilation: 1 };
        let (before, after) = axis.explicit(0, 1, Rounding::Ceil).unwrap().unwrap();
        let window = Window { kernel: [1, 1], stride: [1, 2], dilation: [1, 1], pad: [0, before, 0, after] };
        assert_eq!(window.output(1, 2), Some(1));
    }

    #[test]
    fn extreme_windows_do_not_overflow() {
        let axis = Axis { input: 8, kernel: usize::MAX, stride: 1, dilation: usize::MAX };
        assert_eq!(axis.same(true), None);
        assert_eq!(axis.explicit(usize::MAX, 1, Rounding::Ceil).unwrap(), None);
    }
}
