//! The fields of a layer list, as serde reads them. What they mean is in the documentation of the importer.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};

use crate::{ir, tensor::DType};

/// What the network is fed, without the batch.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    pub shape: Vec<usize>,
    pub scale: f32,
    #[serde(default)]
    pub zero: i32,
}

/// Types of activations.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub enum Activations {
    Int4,
    #[default]
    UInt8,
    Int8,
    UInt16,
    Int16,
}

impl Activations {
    pub const fn dtype(self) -> DType {
        match self {
            Self::Int4 => DType::Int4,
            Self::UInt8 => DType::UInt8,
            Self::Int8 => DType::Int8,
            Self::UInt16 => DType::UInt16,
            Self::Int16 => DType::Int16,
        }
    }
}

/// Types of weights.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub enum WeightType {
    Int4,
    #[default]
    Int8,
    Int16,
}

impl WeightType {
    pub const fn dtype(self) -> DType {
        match self {
            Self::Int4 => DType::Int4,
            Self::Int8 => DType::Int8,
            Self::Int16 => DType::Int16,
        }
    }

    /// Largest magnitude; the range is symmetric.
    pub const fn limit(self) -> i16 {
        match self {
            Self::Int4 => 7,
            Self::Int8 => 127,
            Self::Int16 => i16::MAX,
        }
    }
}

/// Statistics of all weights.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Weights {
    #[serde(rename = "type")]
    pub kind: WeightType,
    pub sigma: Option<f32>,
    pub spread: f32,
}

impl Default for Weights {
    fn default() -> Self {
        Self { kind: WeightType::Int8, sigma: None, spread: 0.5 }
    }
}

impl Weights {
    /// The deviation in steps.
    pub fn sigma(&self) -> f32 {
        self.sigma.unwrap_or_else(|| f32::from(self.kind.limit()) / 4.5)
    }
}

/// A row of a layer list, as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename = "Layer")]
pub struct ListedLayer {
    pub name: String,
    #[serde(default)]
    pub from: Names,
    pub op: LayerOp,
    #[serde(default)]
    pub scale: Option<f32>,
    #[serde(default)]
    pub zero: Option<i32>,
    #[serde(default)]
    pub weight: Option<f32>,
}

/// What a layer does.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum LayerOp {
    Conv {
        out: usize,
        kernel: Pair,
        #[serde(default = "one")]
        stride: Pair,
        #[serde(default)]
        pad: Pad,
        #[serde(default = "one")]
        dilation: Pair,
        #[serde(default = "one_group")]
        groups: usize,
        #[serde(default = "yes")]
        bias: bool,
        #[serde(default)]
        activation: Activation,
    },
    Depthwise {
        kernel: Pair,
        #[serde(default = "one")]
        stride: Pair,
        #[serde(default)]
        pad: Pad,
        #[serde(default = "one")]
        dilation: Pair,
        #[serde(default = "yes")]
        bias: bool,
        #[serde(default)]
        activation: Activation,
    },
    FullyConnected {
        out: usize,
        #[serde(default = "yes")]
        bias: bool,
        #[serde(default)]
        activation: Activation,
    },
    Add {
        #[serde(default)]
        activation: Activation,
    },
    MaxPool {
        kernel: Pair,
        #[serde(default = "one")]
        stride: Pair,
        #[serde(default)]
        pad: Pad,
    },
    AvgPool {
        kernel: Pair,
        #[serde(default = "one")]
        stride: Pair,
        #[serde(default)]
        pad: Pad,
        #[serde(default)]
        count_include_pad: bool,
    },
    GlobalAvgPool,
    GlobalMaxPool,
    Min,
    Max,
    Concat,
    Flatten,
    Softmax,
}

impl LayerOp {
    /// What is fused into the store, of an operator that can have it.
    pub const fn activation(&self) -> Option<Activation> {
        match *self {
            Self::Conv { activation, .. }
            | Self::Depthwise { activation, .. }
            | Self::FullyConnected { activation, .. }
            | Self::Add { activation } => Some(activation),
            _ => None,
        }
    }
}

const fn one() -> Pair {
    Pair([1, 1])
}

const fn one_group() -> usize {
    1
}

const fn yes() -> bool {
    true
}

/// What is fused into the store.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Activation {
    #[default]
    None,
    Relu,
    Relu6,
    Clip {
        low: f32,
        high: f32,
    },
}

impl From<Activation> for ir::Activation {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::None => Self::None,
            Activation::Relu => Self::Relu,
            Activation::Relu6 => Self::Clip { low: 0.0, high: 6.0 },
            Activation::Clip { low, high } => Self::Clip { low, high },
        }
    }
}

/// One name or several.
#[derive(Clone, Debug, Default)]
pub struct Names(pub Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a layer's name or a list of names")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Names, E> {
                Ok(Names(vec![name.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = items.next_element()? {
                    names.push(name);
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// Reads a number, or a list of one of the lengths that `LENGTHS` allows.
struct Numbers(&'static [usize], &'static str);

impl<'de> Visitor<'de> for Numbers {
    type Value = Vec<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Vec<usize>, E> {
        usize::try_from(number).map(|number| vec![number]).map_err(|_| E::custom(format!("too large: {number}")))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<usize>, A::Error> {
        let mut numbers = Vec::new();
        while let Some(number) = items.next_element()? {
            // Longer lists are faults whatever follows.
            if numbers.len() == 4 {
                return Err(de::Error::invalid_length(5, &self));
            }
            numbers.push(number);
        }
        if self.0.contains(&numbers.len()) { Ok(numbers) } else { Err(de::Error::invalid_length(numbers.len(), &self)) }
    }
}

/// Rows and columns.
#[derive(Clone, Copy, Debug)]
pub struct Pair(pub [usize; 2]);

impl<'de> Deserialize<'de> for Pair {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let numbers = deserializer.deserialize_any(Numbers(&[2], "a number or [rows, columns]"))?;
        Ok(match *numbers {
            [rows, columns] => Self([rows, columns]),
            _ => Self([numbers[0]; 2]),
        })
    }
}

/// Top, left, bottom, right.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pad(pub [usize; 4]);

impl<'de> Deserialize<'de> for Pad {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "a number, [rows, columns] or [top, left, bottom, right]";
        let numbers = deserializer.deserialize_any(Numbers(&[2, 4], expected))?;
        Ok(match *numbers {
            [top, left, bottom, right] => Self([top, left, bottom, right]),
            [rows, columns] => Self([rows, columns, rows, columns]),
            _ => Self([numbers[0]; 4]),
        })
    }
}
