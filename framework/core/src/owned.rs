//! Values that do not borrow from an event, for events that are composed at run time.

use crate::field::{Texts, Value};
use crate::time::Timestamp;

/// A [`Value`] that owns its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnedValue {
    /// No value.
    Null,
    /// True or false.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer.
    Uint(u64),
    /// Text.
    Text(Box<[u8]>),
    /// A list of texts, each ending with a NUL byte.
    Texts(Box<[u8]>),
    /// A point in time.
    Time(Timestamp),
}

impl OwnedValue {
    /// Creates a list of texts. A NUL byte within a text would split it and becomes U+FFFD.
    pub fn texts<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut list = Vec::new();
        for text in texts {
            for &byte in text {
                match byte {
                    0 => list.extend_from_slice("\u{fffd}".as_bytes()),
                    byte => list.push(byte),
                }
            }
            list.push(0);
        }
        Self::Texts(list.into())
    }

    /// Returns the number of bytes that it has on the heap.
    pub fn bytes_beside(&self) -> usize {
        match self {
            Self::Text(bytes) | Self::Texts(bytes) => bytes.len(),
            _ => 0,
        }
    }

    /// Borrows the value.
    pub fn get(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Bool(flag) => Value::Bool(*flag),
            Self::Int(number) => Value::Int(*number),
            Self::Uint(number) => Value::Uint(*number),
            Self::Text(text) => Value::Text(text),
            Self::Texts(texts) => Value::Texts(Texts(texts)),
            Self::Time(time) => Value::Time(*time),
        }
    }
}

impl From<Value<'_>> for OwnedValue {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(flag) => Self::Bool(flag),
            Value::Int(number) => Self::Int(number),
            Value::Uint(number) => Self::Uint(number),
            Value::Text(text) => Self::Text(text.into()),
            Value::Texts(Texts(list)) => Self::Texts(list.into()),
            Value::Time(time) => Self::Time(time),
        }
    }
}

macro_rules! from {
    ($($ty:ty => $variant:ident($convert:expr),)*) => {$(
        impl From<$ty> for OwnedValue {
            fn from(value: $ty) -> Self {
                Self::$variant($convert(value))
            }
        }
    )*};
}

from! {
    bool => Bool(bool::from),
    i32 => Int(i64::from),
    i64 => Int(i64::from),
    u32 => Uint(u64::from),
    u64 => Uint(u64::from),
    &str => Text(|text: &str| text.as_bytes().into()),
    &[u8] => Text(Box::from),
    Timestamp => Time(Timestamp::from),
}
