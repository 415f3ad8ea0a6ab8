//! The file format: header, types, strings. Everything read from it is bounds-checked here.

use std::ops::Range;

use super::BtfError;

const MAGIC: u16 = 0xeb9f;
const HEADER_LENGTH: usize = 24;
const TYPE_LENGTH: usize = 12;

/// The kinds of types that the reader distinguishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Void,
    Integer,
    Pointer,
    Array,
    Struct,
    Union,
    Enum,
    Forward,
    Typedef,
    Qualifier,
    Function,
    FunctionType,
    Variable,
    Section,
    Float,
    DeclarationTag,
    TypeTag,
    Enum64,
}

impl Kind {
    fn of(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Integer,
            2 => Self::Pointer,
            3 => Self::Array,
            4 => Self::Struct,
            5 => Self::Union,
            6 => Self::Enum,
            7 => Self::Forward,
            8 => Self::Typedef,
            9..=11 => Self::Qualifier,
            12 => Self::Function,
            13 => Self::FunctionType,
            14 => Self::Variable,
            15 => Self::Section,
            16 => Self::Float,
            17 => Self::DeclarationTag,
            18 => Self::TypeTag,
            19 => Self::Enum64,
            _ => return None,
        })
    }

    /// Whether it only names or qualifies another type.
    pub(super) fn is_alias(self) -> bool {
        matches!(self, Self::Typedef | Self::Qualifier | Self::TypeTag)
    }

    /// Bytes after the type's fixed part.
    fn extra(self, count: u16) -> usize {
        let count = usize::from(count);
        match self {
            Self::Integer | Self::Variable | Self::DeclarationTag => 4,
            Self::Array => 12,
            Self::Struct | Self::Union | Self::Section | Self::Enum64 => count * 12,
            Self::Enum | Self::FunctionType => count * 8,
            _ => 0,
        }
    }
}

/// The fixed part of a type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Type {
    pub(super) kind: Kind,
    /// Number of members, parameters or values that follow.
    pub(super) count: u16,
    /// Whether members have the width of a bit field.
    kind_flag: bool,
    name: u32,
    /// Its size, or the type that it refers to.
    pub(super) operand: u32,
}

/// A member of a struct or union.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) name: u32,
    pub(super) type_id: u32,
    pub(super) bits: u32,
    pub(super) width: u8,
}

/// The data with an index over it.
pub(super) struct Raw {
    data: Vec<u8>,
    strings: Range<usize>,
    /// Position of each type; ids count from 1.
    types: Vec<u32>,
    /// Structs, unions and typedefs by the hash of their names, sorted.
    named: Vec<(u32, u32)>,
}

impl Raw {
    pub(super) fn parse(data: Vec<u8>) -> Result<Self, BtfError> {
        let malformed = || BtfError::Malformed("header");
        let magic = data.get(..2).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes);
        let header_length = word(&data, 4).ok_or_else(malformed)? as usize;
        if magic != Some(MAGIC) || data.get(2) != Some(&1) || header_length < HEADER_LENGTH {
            return Err(malformed());
        }
        let section = |at: usize| {
            let start = header_length.checked_add(word(&data, at)? as usize)?;
            let end = start.checked_add(word(&data, at + 4)? as usize)?;
            (end <= data.len()).then_some(start..end)
        };
        let types = section(8).ok_or_else(malformed)?;
        let strings = section(16).ok_or_else(malformed)?;
        let mut raw = Self { data, strings, types: Vec::new(), named: Vec::new() };
        raw.index(types)?;
        Ok(raw)
    }

    fn index(&mut self, types: Range<usize>) -> Result<(), BtfError> {
        // A type takes about 20 bytes on average.
        self.types.reserve(types.len() / 20);
        let mut at = types.start;
        while at < types.end {
            let found = self.at(at)?;
            let next = at + TYPE_LENGTH + found.kind.extra(found.count);
            if next > types.end {
                return Err(BtfError::Malformed("types"));
            }
            self.types.push(u32::try_from(at).map_err(|_| BtfError::Malformed("types"))?);
            if matches!(found.kind, Kind::Struct | Kind::Union | Kind::Typedef) && found.name != 0 {
                self.named.push((hash(self.name(found.name)), self.types.len() as u32));
            }
            at = next;
        }
        self.named.sort_unstable();
        Ok(())
    }

    /// The fixed part of the type at a position.
    fn at(&self, at: usize) -> Result<Type, BtfError> {
        let read = || {
            let info = word(&self.data, at + 4)?;
            Some(Type {
                kind: Kind::of((info >> 24) & 0x1f)?,
                count: info as u16,
                kind_flag: info >> 31 != 0,
                name: word(&self.data, at)?,
                operand: word(&self.data, at + 8)?,
            })
        };
        read().ok_or(BtfError::Malformed("types"))
    }

    fn position(&self, id: u32) -> Result<usize, BtfError> {
        let index = (id as usize).checked_sub(1);
        let at = index.and_then(|i| self.types.get(i));
        at.map(|at| *at as usize).ok_or(BtfError::Malformed("type ids"))
    }

    /// The fixed part of a type.
    pub(super) fn get(&self, id: u32) -> Result<Type, BtfError> {
        self.at(self.position(id)?)
    }

    /// The members of a struct or union.
    pub(super) fn members(&self, id: u32) -> Result<impl Iterator<Item = Member>, BtfError> {
        let start = self.position(id)?;
        let of = self.at(start)?;
        let count = match of.kind {
            Kind::Struct | Kind::Union => usize::from(of.count),
            _ => 0,
        };
        let members = start + TYPE_LENGTH;
        // Indexing has checked that the whole type is inside the data, so no member is missing.
        Ok((0..count).filter_map(move |i| {
            let at = members + i * 12;
            let offset = word(&self.data, at + 8)?;
            let (bits, width) = if of.kind_flag {
                (offset & 0x00ff_ffff, (offset >> 24) as u8)
            } else {
                (offset, 0)
            };
            Some(Member {
                name: word(&self.data, at)?,
                type_id: word(&self.data, at + 4)?,
                bits,
                width,
            })
        }))
    }

    /// A string of the string section, without its NUL byte; empty if it is outside.
    pub(super) fn name(&self, offset: u32) -> &[u8] {
        let strings = &self.data[self.strings.clone()];
        let from = strings.get(offset as usize..).unwrap_or_default();
        from.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// The ids of the structs and unions with a name.
    pub(super) fn structs_named(&self, name: &str) -> impl Iterator<Item = u32> {
        self.named(name, |kind| matches!(kind, Kind::Struct | Kind::Union))
    }

    /// The id of the typedef with a name.
    pub(super) fn typedef_named(&self, name: &str) -> Option<u32> {
        self.named(name, |kind| kind == Kind::Typedef).next()
    }

    fn named(&self, name: &str, of: impl Fn(Kind) -> bool) -> impl Iterator<Item = u32> {
        let hash = hash(name.as_bytes());
        let from = self.named.partition_point(|(other, _)| *other < hash);
        self.named[from..]
            .iter()
            .take_while(move |(other, _)| *other == hash)
            .map(|(_, id)| *id)
            .filter(move |id| {
                self.get(*id)
                    .is_ok_and(|found| of(found.kind) && self.name(found.name) == name.as_bytes())
            })
    }

    /// The value of an enumerator, by the name of its enum and its own. Enums are rarely looked up,
    /// so they are not in the index.
    pub(super) fn enumerator(&self, of: &str, name: &str) -> Option<u32> {
        self.types.iter().find_map(|at| {
            let start = *at as usize;
            let found = self.at(start).ok()?;
            if found.kind != Kind::Enum || self.name(found.name) != of.as_bytes() {
                return None;
            }
            (0..usize::from(found.count)).find_map(|i| {
                let at = start + TYPE_LENGTH + i * 8;
                let named = self.name(word(&self.data, at)?) == name.as_bytes();
                named.then(|| word(&self.data, at + 4)).flatten()
            })
        })
    }

    /// The id of the function with a name. Functions are many and rarely looked up, so they are not
    /// in the index.
    pub(super) fn function_named(&self, name: &str) -> Option<u32> {
        (1_u32..).zip(&self.types).find_map(|(id, at)| {
            let found = self.at(*at as usize).ok()?;
            (found.kind == Kind::Function && self.name(found.name) == name.as_bytes()).then_some(id)
        })
    }
}

fn word(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// FNV-1a: names are short, and a lookup compares the names of equal hashes.
fn hash(name: &[u8]) -> u32 {
    name.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
