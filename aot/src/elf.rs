//! A program as a relocatable ELF object.

use crate::program::{Program, Section, Symbol};
use object::write::{
    Object, Relocation, SectionId, StandardSection, Symbol as ElfSymbol, SymbolSection,
};
use object::{
    Architecture, BinaryFormat, Endianness, RelocationFlags, SectionKind, SymbolFlags, SymbolKind,
    SymbolScope, elf,
};
use std::io;

/// Alignment of both sections: a cache line.
const ALIGN: u64 = 64;
/// Bytes of a reference, which counts from its end.
const REFERENCE_BYTES: i64 = 4;

pub fn object(program: &Program) -> io::Result<Vec<u8>> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
    let text = object.section_id(StandardSection::Text);
    let data = object.section_id(StandardSection::ReadOnlyData);
    object.append_section_data(text, &program.text, ALIGN);
    object.append_section_data(data, &program.data, ALIGN);
    // Says that the stack need not be executable.
    object.add_section(vec![], b".note.GNU-stack".to_vec(), SectionKind::Other);
    for symbol in &program.symbols {
        object.add_symbol(elf_symbol(symbol, text, data));
    }
    let start_of_data = object.section_symbol(data);
    for reference in &program.references {
        let relocation = Relocation {
            offset: reference.at as u64,
            symbol: start_of_data,
            addend: reference.to as i64 - REFERENCE_BYTES,
            flags: RelocationFlags::Elf {
                r_type: elf::R_X86_64_PC32,
            },
        };
        object
            .add_relocation(text, relocation)
            .map_err(io::Error::other)?;
    }
    object.write().map_err(io::Error::other)
}

fn elf_symbol(symbol: &Symbol, text: SectionId, data: SectionId) -> ElfSymbol {
    let (section, kind) = match symbol.section {
        Section::Text => (text, SymbolKind::Text),
        Section::Data => (data, SymbolKind::Data),
    };
    ElfSymbol {
        name: symbol.name.clone().into_bytes(),
        value: symbol.start as u64,
        size: symbol.len as u64,
        kind,
        scope: match symbol.public {
            true => SymbolScope::Dynamic,
            false => SymbolScope::Compilation,
        },
        weak: false,
        section: SymbolSection::Section(section),
        flags: SymbolFlags::None,
    }
}
