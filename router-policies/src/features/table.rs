//! The one table of features: each is declared once, with its type, what it is about, what it costs and what it means.
//! The struct, the names a condition may use, their values, explanations and `docs/features.md` all come from it. Must
//! never hold how a feature is computed.

use std::borrow::Cow;

/// What kind of value a name has in a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int,
    /// A number with a fraction.
    Double,
    /// A text.
    Text,
    /// A list of texts.
    Texts,
}

impl Kind {
    /// As the docs say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Bool => "bool",
            Kind::Int => "int",
            Kind::Double => "double",
            Kind::Text => "string",
            Kind::Texts => "list of strings",
        }
    }

    /// As a value of it is written.
    pub fn in_words(self) -> &'static str {
        match self {
            Kind::Bool => "`true` or `false`",
            Kind::Int => "a whole number from 0 up",
            Kind::Double => "a number",
            Kind::Text => "a text in quotes",
            Kind::Texts => "a list of texts",
        }
    }
}

/// What a feature can be changed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// The asked text alone: wrapping, system prompt, tools and earlier turns never change it.
    Text,
    /// The asked text and the tools on offer.
    Tools,
    /// The request as a whole.
    Request,
}

impl About {
    /// As the docs say it.
    pub fn as_str(self) -> &'static str {
        match self {
            About::Text => "asked text",
            About::Tools => "asked text, tools",
            About::Request => "request",
        }
    }
}

/// What a feature costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// A field is read.
    Field,
    /// Linear in the asked text, at most in its first 16 KB.
    Text,
    /// Linear in the asked text and the names and first sentences of the tools.
    Tools,
    /// Linear in the number of messages, or of bytes in the body.
    Body,
}

impl Cost {
    /// As the docs say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Cost::Field => "a field is read",
            Cost::Text => "linear in the asked text, 16 KB of it at most",
            Cost::Tools => "linear in the asked text and the beginnings of the tools",
            Cost::Body => "linear in the body",
        }
    }
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub struct FeatureInfo {
    /// The name in conditions.
    pub name: &'static str,
    /// The type there.
    pub kind: Kind,
    /// The words it can be; empty where any text is possible, or it is no text.
    pub words: &'static [&'static str],
    /// What can change it.
    pub about: About,
    /// What it costs.
    pub cost: Cost,
    /// What it means.
    pub meaning: &'static str,
}

/// A type a feature can have.
pub(crate) trait Valued {
    const KIND: Kind;
    const WORDS: &'static [&'static str] = &[];
    /// As conditions see it.
    fn value(&self) -> cel::Value;
}

impl Valued for bool {
    const KIND: Kind = Kind::Bool;
    fn value(&self) -> cel::Value {
        (*self).into()
    }
}

impl Valued for u64 {
    const KIND: Kind = Kind::Int;
    /// CEL compares signed with unsigned numbers, but does not add them: all are signed, so that arithmetic just works.
    fn value(&self) -> cel::Value {
        cel::Value::Int(i64::try_from(*self).unwrap_or(i64::MAX))
    }
}

impl Valued for String {
    const KIND: Kind = Kind::Text;
    fn value(&self) -> cel::Value {
        self.as_str().into()
    }
}

impl Valued for Vec<Cow<'static, str>> {
    const KIND: Kind = Kind::Texts;
    fn value(&self) -> cel::Value {
        self.iter().map(|text| cel::Value::from(text.as_ref())).collect::<Vec<_>>().into()
    }
}

/// The same for sets of words.
macro_rules! valued_words {
    ($($name:ty),+) => {
        $(impl $crate::features::table::Valued for $name {
            const KIND: $crate::features::table::Kind = $crate::features::table::Kind::Text;
            const WORDS: &'static [&'static str] = <$name>::WORDS;
            fn value(&self) -> cel::Value {
                self.as_str().into()
            }
        })+
    };
}

/// Declares `Features` and its table.
macro_rules! features {
    ($($name:ident: $type:ty, $about:ident, $cost:ident, $meaning:literal;)+) => {
        /// What is known about a request. "The asked text" is what [`crate::unwrap::asked`] finds.
        #[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct Features {
            $(#[doc = $meaning] pub $name: $type,)+
        }

        /// Every feature, in the order of explanations and docs.
        pub const FEATURES: &[FeatureInfo] = &[$(FeatureInfo {
            name: stringify!($name),
            kind: <$type as Valued>::KIND,
            words: <$type as Valued>::WORDS,
            about: About::$about,
            cost: Cost::$cost,
            meaning: $meaning,
        }),+];

        impl Features {
            /// The value a condition sees under `name`.
            pub(crate) fn value(&self, name: &str) -> Option<cel::Value> {
                match name {
                    $(stringify!($name) => Some(Valued::value(&self.$name)),)+
                    _ => None,
                }
            }
        }
    };
}

pub(crate) use {features, valued_words};
