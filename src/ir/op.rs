//! The operators, each declared once: operands, attributes, what kind of work it is and whether it has an integer form.
//! Importers, shape inference, verifier, printer, passes, mapping and reference read [`Spec`] and [`Op::attributes`]; a
//! file that still names an operator has a formula or a rule of its own for it. Attributes are resolved: no `auto_pad`,
//! no optional attribute, no string.

/// A sliding window over `[H, W]`. One-dimensional operators are imported with `H = 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Step between outputs, rows and columns.
    pub stride: [usize; 2],
    /// Step between taps.
    pub dilation: [usize; 2],
    /// Padding at top, left, bottom, right.
    pub pad: [usize; 4],
}

impl Window {
    /// A 1x1 window without padding.
    pub const UNIT: Self = Self { kernel: [1, 1], stride: [1, 1], dilation: [1, 1], pad: [0; 4] };

    /// Output extent along one axis (0 rows, 1 columns) for an input extent, rounding down as ONNX's
    /// `ceil_mode = 0`; `None` where the window does not fit the padded input.
    pub fn output(&self, axis: usize, input: usize) -> Option<usize> {
        let reach = self.dilation[axis].checked_mul(self.kernel[axis].checked_sub(1)?)?.checked_add(1)?;
        let padded = input.checked_add(self.pad[axis])?.checked_add(self.pad[axis + 2])?;
        Some(padded.checked_sub(reach)? / self.stride[axis] + 1)
    }
}

/// What is applied to an output before it is stored. In real values; the quantized limits follow from the output's
/// scale and zero point: `clip(rne(limit / scale) + zero_point)`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Activation {
    /// Nothing but the output type's own range.
    #[default]
    None,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, low), high)`.
    Clip {
        /// Lower limit.
        low: f32,
        /// Upper limit.
        high: f32,
    },
}

/// What kind of work an operator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Sums of products with constant weights; the second operand is the weight, a third one the bias.
    Product,
    /// Sums of products of two activations.
    Pair,
    /// A function of each element alone; of a byte, it is a table. The result has the operand's shape.
    Function,
    /// Element by element of two operands, which broadcast as numpy's do.
    Binary,
    /// Moves or selects elements: the result has the operand's element type, and its scale where it is quantized.
    Selection,
    /// Between float and quantized values. The result has the operand's shape.
    Conversion,
    /// Everything else: sums, means, normalization, joins.
    Other,
}

/// The integer form that passes may give an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integer {
    /// None: it stays float.
    None,
    /// Integer operands, and a result with a scale of its own.
    Own,
    /// Integer operands, and the first one's scale.
    Kept,
}

/// How many operands an operator takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arity {
    /// Fewest.
    pub least: usize,
    /// Most.
    pub most: usize,
    /// In words.
    pub text: &'static str,
}

impl Arity {
    /// Whether so many operands are right.
    pub const fn allows(self, count: usize) -> bool {
        self.least <= count && count <= self.most
    }
}

const ONE: Arity = Arity { least: 1, most: 1, text: "1" };
const TWO: Arity = Arity { least: 2, most: 2, text: "2" };
const TWO_OR_THREE: Arity = Arity { least: 2, most: 3, text: "2 or 3" };
const FIVE: Arity = Arity { least: 5, most: 5, text: "5" };
const MANY: Arity = Arity { least: 1, most: usize::MAX, text: "1 or more" };

/// What is the same for all nodes of an operator.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Its name, as in reports. Element-wise operators are named as in ONNX.
    pub name: &'static str,
    /// How many operands it takes.
    pub operands: Arity,
    /// What kind of work it is.
    pub kind: Kind,
    /// Whether it has an integer form.
    pub integer: Integer,
    /// The names of its attributes.
    pub attributes: &'static [&'static str],
    /// It with ONNX's default attributes; of element-wise operators only.
    pub default: Option<Op>,
}

/// An attribute's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Attribute<'a> {
    /// A real number.
    Real(f32),
    /// A count or a dimension.
    Size(usize),
    /// A choice.
    Flag(bool),
    /// Dimensions, or a count for each.
    Sizes(&'a [usize]),
    /// A sliding window.
    Window(Window),
    /// A fused activation.
    Activation(Activation),
}

/// A type that attributes have.
trait AttributeType {
    fn value(&self) -> Attribute<'_>;

    fn real(&mut self) -> Option<&mut f32> {
        None
    }
}

impl AttributeType for f32 {
    fn value(&self) -> Attribute<'_> {
        Attribute::Real(*self)
    }

    fn real(&mut self) -> Option<&mut f32> {
        Some(self)
    }
}

macro_rules! values {
    ($($type:ty => |$value:ident| $attribute:expr;)*) => {
        $(impl AttributeType for $type {
            fn value(&self) -> Attribute<'_> {
                let $value = self;
                $attribute
            }
        })*
    };
}

values! {
    usize => |value| Attribute::Size(*value);
    bool => |value| Attribute::Flag(*value);
    Vec<usize> => |value| Attribute::Sizes(value);
    Window => |value| Attribute::Window(*value);
    Activation => |value| Attribute::Activation(*value);
}

/// Makes [`Op`] and what is read of it from one row an operator: name, attributes, operands, kind, integer form. The
/// attributes of element-wise operators have ONNX's defaults.
macro_rules! operators {
    (
        elementwise { $(
            $(#[$doc:meta])*
            $name:ident $({ $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr,)* })?
                => $operands:expr, $kind:ident, $integer:ident;
        )* }
        others { $(
            $(#[$other_doc:meta])*
            $other:ident $({ $($(#[$other_field_doc:meta])* $other_field:ident: $other_type:ty,)* })?
                => $other_operands:expr, $other_kind:ident, $other_integer:ident;
        )* }
    ) => {
        /// An operator. Operands are listed as `[inputs] -> [outputs]`; `?` marks one that may be absent at the end.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Op {
            $($(#[$doc])* $name $({ $($(#[$field_doc])* $field: $type,)* })?,)*
            $($(#[$other_doc])* $other $({ $($(#[$other_field_doc])* $other_field: $other_type,)* })?,)*
        }

        /// The element-wise operators: functions of one element, and of one element of each of two operands.
        pub const ELEMENTWISE: &[&Spec] = &[$(&Spec {
            name: stringify!($name),
            operands: $operands,
            kind: Kind::$kind,
            integer: Integer::$integer,
            attributes: &[$($(stringify!($field),)*)?],
            default: Some(Op::$name $({ $($field: $default,)* })?),
        },)*];

        impl Op {
            /// What the table says of it.
            pub const fn spec(&self) -> &'static Spec {
                match self {
                    $(Self::$name { .. } => {
                        const SPEC: &Spec = &Spec {
                            name: stringify!($name),
                            operands: $operands,
                            kind: Kind::$kind,
                            integer: Integer::$integer,
                            attributes: &[$($(stringify!($field),)*)?],
                            default: Some(Op::$name $({ $($field: $default,)* })?),
                        };
                        SPEC
                    })*
                    $(Self::$other { .. } => {
                        const SPEC: &Spec = &Spec {
                            name: stringify!($other),
                            operands: $other_operands,
                            kind: Kind::$other_kind,
                            integer: Integer::$other_integer,
                            attributes: &[$($(stringify!($other_field),)*)?],
                            default: None,
                        };
                        SPEC
                    })*
                }
            }

            /// The values of its attributes, in the order of the table.
            pub fn attributes(&self) -> Vec<Attribute<'_>> {
                match self {
                    $(Self::$name $({ $($field,)* })? => vec![$($($field.value(),)*)?],)*
                    $(Self::$other $({ $($other_field,)* })? => vec![$($($other_field.value(),)*)?],)*
                }
            }

            /// Its attributes that are real numbers, by name, to set.
            pub fn reals_mut(&mut self) -> Vec<(&'static str, &mut f32)> {
                let named: Vec<(&'static str, Option<&mut f32>)> = match self {
                    $(Self::$name $({ $($field,)* })? => vec![$($((stringify!($field), $field.real()),)*)?],)*
                    $(Self::$other $({ $($other_field,)* })? => {
                        vec![$($((stringify!($other_field), $other_field.real()),)*)?]
                    })*
                };
                named.into_iter().filter_map(|(name, real)| Some((name, real?))).collect()
            }
        }
    };
}

operators! {
    elementwise {
        /// `[x] -> [y]`: `max(x, 0)`.
        Relu => ONE, Function, Own;
        /// `[x] -> [y]`: `x < 0 ? alpha x : x`.
        LeakyRelu {
            /// Slope below zero.
            alpha: f32 = 0.01,
        } => ONE, Function, Own;
        /// `[x] -> [y]`: `min(max(x, low), high)`. The limits may be infinite.
        Clip {
            /// Lower limit.
            low: f32 = f32::NEG_INFINITY,
            /// Upper limit.
            high: f32 = f32::INFINITY,
        } => ONE, Function, Own;
        /// `[x] -> [y]`: `x < 0 ? alpha (exp(x) - 1) : x`.
        Elu {
            /// Minus the limit far below zero.
            alpha: f32 = 1.0,
        } => ONE, Function, Own;
        /// `[x] -> [y]`: `1 / (1 + exp(-x))`.
        Sigmoid => ONE, Function, Own;
        /// `[x] -> [y]`.
        Tanh => ONE, Function, Own;
        /// `[x] -> [y]`: `max(0, min(1, alpha x + beta))`.
        HardSigmoid {
            /// Slope.
            alpha: f32 = 0.2,
            /// Offset.
            beta: f32 = 0.5,
        } => ONE, Function, Own;
        /// `[x] -> [y]`: `x max(0, min(1, x / 6 + 0.5))`.
        HardSwish => ONE, Function, Own;
        /// `[x] -> [y]`: `alpha x + beta`. What a sum with one number or a product with it is, for a table.
        Affine {
            /// Slope.
            alpha: f32 = 1.0,
            /// Offset.
            beta: f32 = 0.0,
        } => ONE, Function, Own;
        /// `[a, b] -> [y]`; `b` may be constant.
        Add {
            /// Fused into the store.
            activation: Activation = Activation::None,
        } => TWO, Binary, Own;
        /// `[a, b] -> [y]`.
        Sub => TWO, Binary, None;
        /// `[a, b] -> [y]`.
        Mul => TWO, Binary, Own;
        /// `[a, b] -> [y]`.
        Div => TWO, Binary, None;
        /// `[a, b] -> [y]`; a NaN on either side is the result.
        Min => TWO, Binary, Own;
        /// `[a, b] -> [y]`; a NaN on either side is the result.
        Max => TWO, Binary, Own;
        /// `[x, slope] -> [y]`: `x < 0 ? slope x : x`; `slope` broadcasts to `x`.
        PRelu => TWO, Binary, Own;
    }
    others {
        /// `[x [N,C,H,W], w [O,C/g,R,S], b? [O]] -> [y [N,O,P,Q]]`; `w` and `b` constant.
        Conv {
            /// Kernel (equal to `w`'s), stride, dilation, padding.
            window: Window,
            /// Groups; `C` and `O` are multiples.
            groups: usize,
            /// Fused into the store.
            activation: Activation,
        } => TWO_OR_THREE, Product, Own;
        /// `[x [..., K], w, b? [N]] -> [y [..., N]]`; `w` is `[N, K]` if `transposed`, else `[K, N]`; constant.
        MatMul {
            /// Whether the weight is `[N, K]`.
            transposed: bool,
            /// Fused into the store.
            activation: Activation,
        } => TWO_OR_THREE, Product, Own;
        /// `[a [..., M, K], b [..., K, N]] -> [y [..., M, N]]`: products of two activations, either of which may be
        /// constant. Dimensions before the last two broadcast as numpy's do.
        BatchMatMul => TWO, Pair, Own;
        /// `[x [N,C,...], scale [C], bias [C], mean [C], var [C]] -> [y]`, inference form.
        BatchNorm {
            /// Added to the variance.
            epsilon: f32,
        } => FIVE, Other, None;
        /// `[x [N,C,H,W]] -> [y [N,C,P,Q]]`; padding never wins.
        MaxPool {
            /// Kernel, stride, dilation, padding.
            window: Window,
        } => ONE, Selection, Kept;
        /// `[x [N,C,H,W]] -> [y [N,C,1,1]]`.
        GlobalMaxPool => ONE, Selection, Kept;
        /// `[x [N,C,H,W]] -> [y [N,C,P,Q]]`.
        AvgPool {
            /// Kernel, stride, dilation, padding.
            window: Window,
            /// Whether padding counts in the divisor.
            count_include_pad: bool,
        } => ONE, Other, Own;
        /// `[x [N,C,H,W]] -> [y [N,C,1,1]]`.
        GlobalAvgPool => ONE, Other, Own;
        /// `[x] -> [y]`: mean over `axes` (non-negative, sorted).
        ReduceMean {
            /// Reduced dimensions.
            axes: Vec<usize>,
            /// Whether they stay as 1.
            keep_dims: bool,
        } => ONE, Other, None;
        /// `[a, b, ...] -> [y]`.
        Concat {
            /// Joined dimension.
            axis: usize,
        } => MANY, Other, Own;
        /// `[x] -> [y]`: same elements in row-major (logical) order under the output value's shape. Flatten, Reshape,
        /// Squeeze and Unsqueeze all become this.
        Reshape => ONE, Selection, Kept;
        /// `[x] -> [y]`.
        Transpose {
            /// `y`'s dimension `i` is `x`'s dimension `perm[i]`.
            perm: Vec<usize>,
        } => ONE, Selection, Kept;
        /// `[x] -> [y]`, constant padding.
        Pad {
            /// Elements before, by dimension.
            before: Vec<usize>,
            /// Elements after, by dimension.
            after: Vec<usize>,
            /// Real value of the padding.
            value: f32,
        } => ONE, Selection, Kept;
        /// `[x] -> [y]`.
        Softmax {
            /// Normalized dimension.
            axis: usize,
        } => ONE, Other, Own;
        /// `[x float] -> [y quantized]`; parameters are `y`'s.
        QuantizeLinear => ONE, Conversion, None;
        /// `[x quantized] -> [y float]`; parameters are `x`'s.
        DequantizeLinear => ONE, Conversion, None;
    }
}

impl Op {
    /// The operator's name, as in reports.
    pub const fn name(&self) -> &'static str {
        self.spec().name
    }

    /// What kind of work it is.
    pub const fn kind(&self) -> Kind {
        self.spec().kind
    }

    /// Whether it sums products, so that partial sums may overflow.
    pub const fn sums_products(&self) -> bool {
        matches!(self.kind(), Kind::Product | Kind::Pair)
    }

    /// Whether it is a function of each element alone.
    pub const fn is_function(&self) -> bool {
        matches!(self.kind(), Kind::Function)
    }

    /// Whether it moves or selects elements, so that the result keeps the operand's type and scale.
    pub const fn is_selection(&self) -> bool {
        matches!(self.kind(), Kind::Selection)
    }
}

/// The element-wise operator of an ONNX name.
pub fn elementwise(name: &str) -> Option<&'static Spec> {
    ELEMENTWISE.iter().copied().find(|spec| spec.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_describes_each_element_wise_operator_as_the_operator_does() {
        for spec in ELEMENTWISE {
            let mut op = spec.default.clone().expect("an element-wise operator has defaults");
            assert_eq!(op.name(), spec.name);
            assert_eq!((op.kind(), op.spec().operands), (spec.kind, spec.operands));
            assert_eq!(op.attributes().len(), spec.attributes.len());
            assert_eq!(spec.operands, if spec.kind == Kind::Function { ONE } else { TWO });
            assert_eq!(elementwise(spec.name).map(|spec| spec.name), Some(op.name()));
            for (name, value) in op.reals_mut() {
                assert!(spec.attributes.contains(&name));
                *value = 7.0;
            }
            let reals = op.attributes().into_iter().filter(|value| matches!(value, Attribute::Real(_)));
            assert!(reals.into_iter().all(|value| value == Attribute::Real(7.0)), "{op:?}");
        }
        assert!(elementwise("Conv").is_none());
    }

    #[test]
    fn attributes_stand_in_the_order_of_their_names() {
        let op = Op::Pad { before: vec![1], after: vec![2], value: 3.0 };
        assert_eq!(op.spec().attributes, ["before", "after", "value"]);
        assert_eq!(op.attributes(), [Attribute::Sizes(&[1]), Attribute::Sizes(&[2]), Attribute::Real(3.0)]);
        assert!(op.is_selection() && !op.is_function());
    }
}
