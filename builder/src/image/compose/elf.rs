//! What the dynamic linker would want for a program or library.
//!
//! In: a file's bytes. Out: [`Linking`]. Only the head of a static program is read, so
//! that a 90 MB Go binary costs nothing.

use std::io::{self, Read};

use goblin::elf::program_header::{PT_DYNAMIC, PT_INTERP};
use goblin::elf::{Elf, header::ET_EXEC};

use crate::formats::tree::Content;

/// Bytes that hold the ELF header and the program headers of any usual program.
const HEAD_BYTES: u64 = 64 << 10;

/// Largest dynamically linked file that is parsed, in bytes.
const MAX_DYNAMIC_BYTES: u64 = 512 << 20;

/// The dynamic linking of one ELF file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Linking {
    /// The dynamic linker that the program asks for.
    pub interpreter: Option<String>,
    /// `DT_NEEDED`, in order.
    pub needed: Vec<String>,
    /// `DT_RUNPATH` and `DT_RPATH`, split at colons.
    pub search: Vec<String>,
    /// A program with fixed addresses or an interpreter, rather than a library.
    pub program: bool,
}

/// Reads how `content` is linked; `None` for what is not ELF.
///
/// # Errors
/// When the file cannot be read, or is a damaged ELF file.
pub fn linking(content: &Content) -> io::Result<Option<Linking>> {
    let mut head = Vec::new();
    content.reader()?.take(HEAD_BYTES).read_to_end(&mut head)?;
    if !head.starts_with(b"\x7fELF") {
        return Ok(None);
    }
    let damaged = |error: goblin::error::Error| io::Error::new(io::ErrorKind::InvalidData, error);
    let header = Elf::parse_header(&head).map_err(damaged)?;
    let lazy = Elf::lazy_parse(header).map_err(damaged)?;
    let context = goblin::container::Ctx::new(
        lazy.header.container().map_err(damaged)?,
        lazy.header.endianness().map_err(damaged)?,
    );
    let offset = usize::try_from(header.e_phoff).map_err(io::Error::other)?;
    let count = usize::from(header.e_phnum);
    let segments =
        goblin::elf::ProgramHeader::parse(&head, offset, count, context).map_err(damaged)?;
    let dynamic = segments.iter().any(|segment| matches!(segment.p_type, PT_DYNAMIC | PT_INTERP));
    if !dynamic {
        return Ok(Some(Linking { program: header.e_type == ET_EXEC, ..Linking::default() }));
    }
    if content.size() > MAX_DYNAMIC_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the ELF file is too large"));
    }
    let bytes = content.read()?;
    let elf = Elf::parse(&bytes).map_err(damaged)?;
    let split = |paths: &[&str]| {
        paths.iter().flat_map(|path| path.split(':')).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut search = split(&elf.runpaths);
    search.extend(split(&elf.rpaths));
    Ok(Some(Linking {
        interpreter: elf.interpreter.map(str::to_owned),
        needed: elf.libraries.iter().map(|name| (*name).to_owned()).collect(),
        search,
        program: header.e_type == ET_EXEC || elf.interpreter.is_some(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_not_elf() {
        assert_eq!(linking(&Content::from_bytes(*b"#!/bin/sh\n")).unwrap(), None);
    }

    #[test]
    fn damaged_elf_is_an_error_not_a_panic() {
        let this = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        for length in [4, 20, 63, 64, 200] {
            assert!(linking(&Content::from_bytes(this[..length].to_vec())).is_err(), "{length}");
        }
    }

    #[test]
    fn this_test_program_is_dynamic() {
        let this = Content::from_file(&std::env::current_exe().unwrap()).unwrap();
        let linking = linking(&this).unwrap().unwrap();
        assert!(linking.needed.iter().any(|name| name == "libc.so.6"));
        assert!(linking.program && linking.interpreter.is_some());
    }
}
