//! A small reader of the kernel's type information (BTF): it looks up the offsets of struct
//! members.
//!
//! It reads the raw file of the running kernel, and never panics on any other file: it checks every
//! length, offset and type id, and bounds every loop. The format is documented in the kernel's
//! `Documentation/bpf/btf.rst`.

mod error;
mod raw;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::Path;

pub use error::BtfError;
use raw::{Kind, Raw};

/// The file of the kernel's own type information.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// The longest chain of typedefs, qualifiers and tags.
const MAX_ALIASES: usize = 32;
/// The deepest nesting of anonymous structs and unions.
const MAX_NESTING: usize = 16;
/// Members to search for one. The largest kernel struct has a few hundred.
const MAX_MEMBERS: usize = 100_000;

/// Indexed type information.
pub struct Btf {
    raw: Raw,
}

/// The place of a member in a struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberOffset {
    /// Bits from the start of the struct.
    pub bits: u32,
    /// Width in bits of a bit field; 0 for any other member.
    pub width: u8,
    /// Its type's id.
    type_id: u32,
}

impl Btf {
    /// Reads and indexes a BTF file.
    ///
    /// # Errors
    /// If it cannot be read or is malformed.
    pub fn read(path: &Path) -> Result<Self, BtfError> {
        let data = fs::read(path)
            .map_err(|source| BtfError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(data)
    }

    /// Indexes BTF data.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn parse(data: Vec<u8>) -> Result<Self, BtfError> {
        Ok(Self { raw: Raw::parse(data)? })
    }

    /// The offset in bytes of a member: `path` is its name, or a dotted path through nested
    /// structs.
    ///
    /// # Errors
    /// If there is no such struct or member, or the member is a bit field.
    pub fn offset(&self, of: &str, path: &str) -> Result<u32, BtfError> {
        let member = self.member(of, path)?;
        if member.width != 0 || member.bits % 8 != 0 {
            return Err(BtfError::BitField { name: format!("{of}.{path}") });
        }
        Ok(member.bits / 8)
    }

    /// The place of a member: `path` is its name, or a dotted path through nested structs.
    ///
    /// # Errors
    /// If there is no such struct or member.
    pub fn member(&self, of: &str, path: &str) -> Result<MemberOffset, BtfError> {
        let mut known = false;
        for id in self.raw.structs_named(of) {
            known = true;
            // Several structs may share a name; the right one has the member.
            if let Some(member) = self.walk(id, path)? {
                return Ok(member);
            }
        }
        Err(if known {
            BtfError::MissingMember { name: format!("{of}.{path}") }
        } else {
            BtfError::MissingStruct { name: of.to_owned(), member: format!("{of}.{path}") }
        })
    }

    /// The size of a struct in bytes.
    ///
    /// # Errors
    /// If there is no such struct.
    pub fn size(&self, of: &str) -> Result<u32, BtfError> {
        let id = self.raw.structs_named(of).next();
        let id = id.ok_or_else(|| BtfError::MissingStruct {
            name: of.to_owned(),
            member: of.to_owned(),
        })?;
        Ok(self.raw.get(id)?.operand)
    }

    /// The value of an enumerator: `enumerator("cgroup_subsys_id", "memory_cgrp_id")`; `None` if
    /// this kernel has none of that name.
    pub fn enumerator(&self, of: &str, name: &str) -> Option<u32> {
        self.raw.enumerator(of, name)
    }

    /// The type by which programs attach to a tracepoint, and the tracepoint's number of arguments;
    /// `None` if this kernel has no such tracepoint.
    ///
    /// # Errors
    /// If the data is malformed.
    pub fn tracepoint(&self, name: &str) -> Result<Option<Tracepoint>, BtfError> {
        let Some(id) = self.raw.typedef_named(&format!("btf_trace_{name}")) else {
            return Ok(None);
        };
        let pointer = self.raw.get(self.raw.get(id)?.operand)?;
        let function = self.raw.get(pointer.operand)?;
        if pointer.kind != Kind::Pointer || function.kind != Kind::FunctionType {
            return Ok(None);
        }
        // The first parameter is the tracepoint's private data.
        Ok(Some(Tracepoint { type_id: id, arguments: u32::from(function.count).saturating_sub(1) }))
    }

    /// The id of a function's type; `None` if this kernel has no such function.
    pub fn function(&self, name: &str) -> Option<u32> {
        self.raw.function_named(name)
    }

    fn walk(&self, id: u32, path: &str) -> Result<Option<MemberOffset>, BtfError> {
        let mut at = MemberOffset { bits: 0, width: 0, type_id: id };
        for name in path.split('.') {
            let mut budget = MAX_MEMBERS;
            let Some(found) = self.find(at.type_id, name, MAX_NESTING, &mut budget)? else {
                return Ok(None);
            };
            let bits = at.bits.checked_add(found.bits).ok_or(BtfError::Malformed("offset"))?;
            at = MemberOffset { bits, ..found };
        }
        Ok(Some(at))
    }

    /// Searches a struct or union for a member, including anonymous structs and unions in it.
    fn find(
        &self,
        id: u32,
        name: &str,
        nesting: usize,
        budget: &mut usize,
    ) -> Result<Option<MemberOffset>, BtfError> {
        let (id, kind) = self.resolve(id)?;
        if !matches!(kind, Kind::Struct | Kind::Union) {
            return Ok(None);
        }
        for member in self.raw.members(id)? {
            *budget = budget.checked_sub(1).ok_or(BtfError::Malformed("struct nesting"))?;
            if self.raw.name(member.name) == name.as_bytes() {
                return Ok(Some(MemberOffset {
                    bits: member.bits,
                    width: member.width,
                    type_id: member.type_id,
                }));
            }
            if member.name != 0 {
                continue;
            }
            let inside = nesting.checked_sub(1).ok_or(BtfError::Malformed("struct nesting"))?;
            if let Some(found) = self.find(member.type_id, name, inside, budget)? {
                let bits = found.bits.checked_add(member.bits);
                return Ok(Some(MemberOffset {
                    bits: bits.ok_or(BtfError::Malformed("offset"))?,
                    ..found
                }));
            }
        }
        Ok(None)
    }

    /// Follows typedefs, qualifiers and tags to the type itself.
    fn resolve(&self, mut id: u32) -> Result<(u32, Kind), BtfError> {
        for _ in 0..MAX_ALIASES {
            if id == 0 {
                return Ok((0, Kind::Void));
            }
            let found = self.raw.get(id)?;
            if !found.kind.is_alias() {
                return Ok((id, found.kind));
            }
            id = found.operand;
        }
        Err(BtfError::Malformed("typedef chain"))
    }
}

/// A tracepoint of the running kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracepoint {
    /// The id of the type by which programs attach to it.
    pub type_id: u32,
    /// Its number of arguments.
    pub arguments: u32,
}
