//! One declaration of a config field makes both the type that holds its value and its row of the table that checks,
//! overrides and the reference page read. Knows nothing of particular fields, which are in `schema`.
//!
//! A field reads `name: type in range "unit" = default => "meaning and reason"; mark`. Range, unit, default (as a file would
//! have it; none: the field must be given) and mark may be left out. Further ranges are `or 0 for "meaning"`, `power_of 2`,
//! and `each range` for the numbers of a list of pairs. Marks are `listed "why"` for a number
//! that the model does not act on, which results list where it is not the default, and `refused "what"` for one that no
//! model exists of. A variant may be `refused` too.

use super::fields::Kind;

/// A type that a config is made of.
pub trait Declared {
    /// What a value of it is in a file.
    const KIND: Kind;
}

macro_rules! maybe {
    () => {
        None
    };
    ($some:expr) => {
        Some($some)
    };
}

macro_rules! flag {
    () => {
        false
    };
    ($set:ident) => {
        true
    };
}

macro_rules! modelled {
    () => {
        Modelled::Yes
    };
    (listed $why:literal) => {
        Modelled::Listed($why)
    };
    (refused $what:literal) => {
        Modelled::Refused($what)
    };
}

/// What a field holds, from its type and range.
macro_rules! kind {
    (bool) => { Kind::Bool };
    (String in $min:tt ..= $max:tt) => { Kind::Text { min: $min, max: $max } };
    (f64 in $min:tt ..= $max:tt $(or 0 for $zero:literal)?) => {
        Kind::Number { min: $min, max: $max, zero: maybe!($($zero)?) }
    };
    (Vec<($first:ident, u32)> in $min:tt ..= $max:tt each $low:tt ..= $high:tt) => {
        Kind::List { item: &Kind::Pair(&<$first>::KIND, &kind!(u32 in $low ..= $high)), min: $min, max: $max }
    };
    (Vec<$item:ident> in $min:tt ..= $max:tt) => { Kind::List { item: &<$item>::KIND, min: $min, max: $max } };
    ($integer:ident in $min:tt ..= $max:tt) => { Kind::Integer { min: $min, max: $max, power_of_two: false } };
    ($integer:ident in $min:tt ..= $max:tt power_of 2) => { Kind::Integer { min: $min, max: $max, power_of_two: true } };
    ($declared:ident) => { <$declared>::KIND };
}

/// A struct of fields.
macro_rules! group {
    (
        $(#[$meta:meta])*
        $name:ident {$(
            $field:ident: $type:ident $(<$item:tt>)?
            $(in $min:tt ..= $max:tt)? $(each $low:tt ..= $high:tt)? $(or 0 for $zero:literal)? $(power_of $base:tt)?
            $($unit:literal)? $(= $default:expr)? => $reason:literal
            $(; listed $why:literal)? $(; refused $what:literal)?
        ),* $(,)?}
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {$(
            #[doc = $reason]
            pub $field: $type $(<$item>)?,
        )*}

        impl Declared for $name {
            const KIND: Kind = Kind::Group(&[$(Field {
                name: stringify!($field),
                kind: kind!(
                    $type $(<$item>)? $(in $min ..= $max)? $(each $low ..= $high)? $(or 0 for $zero)? $(power_of $base)?
                ),
                unit: concat!($($unit)?),
                default: maybe!($(stringify!($default))?),
                reason: $reason,
                modelled: modelled!($(listed $why)? $(refused $what)?),
            }),*]);
        }
    };
}

/// The contents of a variant: none, a struct in further parentheses, or fields.
macro_rules! content {
    () => { None };
    (($wrapped:ident)) => { Some(&<$wrapped>::KIND) };
    ({$(
        $field:ident: $type:ident $(in $min:tt ..= $max:tt)? $($unit:literal)?
        $(= $default:expr)? => $reason:literal
    ),* $(,)?}) => {
        Some(&Kind::Group(&[$(Field {
            name: stringify!($field),
            kind: kind!($type $(in $min ..= $max)?),
            unit: concat!($($unit)?),
            default: maybe!($(stringify!($default))?),
            reason: $reason,
            modelled: Modelled::Yes,
        }),*]))
    };
}

/// The names that an enum of another room has in a config, which may be fewer than it has variants.
macro_rules! names {
    ($name:ident {$(
        $variant:ident $(($wrapped:ident))? $({ $($fields:tt)* })? $(; $refused:ident)?
    ),* $(,)?}) => {
        impl Declared for $name {
            const KIND: Kind = Kind::Choice(&[$(Variant {
                name: stringify!($variant),
                content: content!($(($wrapped))? $({ $($fields)* })?),
                wrapped: flag!($($wrapped)?),
                refused: flag!($($refused)?),
            }),*]);
        }
    };
}

/// An enum of names, some with contents.
macro_rules! choice {
    (
        $(#[$meta:meta])*
        $name:ident {$(
            $(#[doc = $doc:literal])+
            $variant:ident $(($wrapped:ident))?
            $({$(
                $field:ident: $type:ident $(in $min:tt ..= $max:tt)? $($unit:literal)?
                $(= $default:expr)? => $reason:literal
            ),* $(,)?})?
            $(; $refused:ident)?
        ),* $(,)?}
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
        pub enum $name {$(
            $(#[doc = $doc])+
            $variant $(($wrapped))? $({$( #[doc = $reason] $field: $type ),*})?
        ),*}

        names! { $name {$(
            $variant $(($wrapped))?
            $({$( $field: $type $(in $min ..= $max)? $($unit)? $(= $default)? => $reason ),*})?
            $(; $refused)?
        ),*} }
    };
}

/// Structs of fields, enums of choices, and `names` of enums of other rooms.
macro_rules! declare {
    () => {};
    ($(#[$meta:meta])* struct $name:ident { $($body:tt)* } $($rest:tt)*) => {
        group! { $(#[$meta])* $name { $($body)* } }
        declare! { $($rest)* }
    };
    ($(#[$meta:meta])* enum $name:ident { $($body:tt)* } $($rest:tt)*) => {
        choice! { $(#[$meta])* $name { $($body)* } }
        declare! { $($rest)* }
    };
    (names $name:ident { $($body:tt)* } $($rest:tt)*) => {
        names! { $name { $($body)* } }
        declare! { $($rest)* }
    };
}

pub(super) use {choice, content, declare, flag, group, kind, maybe, modelled, names};
