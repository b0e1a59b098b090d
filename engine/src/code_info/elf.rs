//! A kernel as an ELF object with symbols, lines and unwind information.

use super::unwind;
use gimli::write::{
    Address, AttributeValue, DwarfUnit, EndianVec, FrameDescriptionEntry, FrameTable, LineProgram,
    LineString, Sections,
};
use gimli::{Encoding, Format, LineEncoding, LittleEndian};
use object::write::{Object, SectionId, StandardSection, Symbol, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
};
use skimjit_runtime::jit::observe::{PublishedCode, Source};
use std::io;

/// Where the code of an object is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Nowhere yet: addresses count from the section's start.
    Relocatable,
    /// Where it was published: for debuggers of this process.
    Loaded,
}

const ENCODING: Encoding = Encoding {
    format: Format::Dwarf32,
    version: 4,
    address_size: 8,
};

/// Offsets in ELF64 headers.
const SECTION_TABLE: usize = 0x28;
const SECTION_BYTES: usize = 64;
const SECTION_ADDRESS: usize = 16;

/// The object; its code is in section `.text`, with one symbol for the kernel and one for each further
/// entry.
pub fn object(name: &str, code: &PublishedCode<'_>, placement: Placement) -> io::Result<Vec<u8>> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
    let text = object.section_id(StandardSection::Text);
    object.append_section_data(text, code.bytes, 64);
    add_symbols(&mut object, text, name, code);
    let start = match placement {
        Placement::Relocatable => 0,
        Placement::Loaded => code.addresses.start as u64,
    };
    if let Some(source) = code.source {
        for (section, bytes) in lines(name, code, source, start)? {
            add_section(&mut object, section, bytes);
        }
    }
    add_section(&mut object, ".debug_frame", frames(code, start)?);
    let mut bytes = object.write().map_err(io::Error::other)?;
    if placement == Placement::Loaded {
        // The writer leaves section 1, the code, at address 0.
        let table = u64::from_le_bytes(word(&bytes, SECTION_TABLE)) as usize;
        let at = table + SECTION_BYTES + SECTION_ADDRESS;
        bytes[at..at + 8].copy_from_slice(&start.to_le_bytes());
    }
    Ok(bytes)
}

fn word(bytes: &[u8], at: usize) -> [u8; 8] {
    std::array::from_fn(|index| bytes[at + index])
}

fn add_symbols(object: &mut Object<'_>, text: SectionId, name: &str, code: &PublishedCode<'_>) {
    let mut symbol = |name: String, value: u64, size: u64| {
        object.add_symbol(Symbol {
            name: name.into_bytes(),
            value,
            size,
            kind: SymbolKind::Text,
            scope: SymbolScope::Dynamic,
            weak: false,
            section: SymbolSection::Section(text),
            flags: SymbolFlags::None,
        });
    };
    symbol(name.to_owned(), 0, code.bytes.len() as u64);
    let inner = code.entries.iter().filter(|(_, offset)| *offset > 0);
    for (index, (_, offset)) in inner.enumerate() {
        symbol(format!("{name}.{}", index + 1), *offset as u64, 0);
    }
}

fn add_section(object: &mut Object<'_>, name: &str, bytes: Vec<u8>) {
    let section = object.add_section(vec![], name.as_bytes().to_vec(), SectionKind::Debug);
    object.append_section_data(section, &bytes, 1);
}

/// The listing's lines as DWARF.
fn lines(
    name: &str,
    code: &PublishedCode<'_>,
    source: &Source,
    start: u64,
) -> io::Result<Vec<(&'static str, Vec<u8>)>> {
    let text = |path: Option<&std::ffi::OsStr>| {
        let text = path.unwrap_or_default().to_string_lossy();
        text.replace('\0', "").into_bytes()
    };
    let folder_bytes = text(source.file.parent().map(std::path::Path::as_os_str));
    let folder = LineString::String(folder_bytes.clone());
    let file = LineString::String(text(source.file.file_name()));
    let mut unit = DwarfUnit::new(ENCODING);
    let line_encoding = LineEncoding::default();
    let mut program = LineProgram::new(
        ENCODING,
        line_encoding,
        folder.clone(),
        None,
        file.clone(),
        None,
    );
    let folder_id = program.default_directory();
    let file_id = program.add_file(file, folder_id, None);
    program.begin_sequence(Some(Address::Constant(start)));
    for &(offset, line) in &source.lines {
        let row = program.row();
        row.address_offset = offset.into();
        row.file = file_id;
        row.line = line.into();
        program.generate_row();
    }
    program.end_sequence(code.bytes.len() as u64);
    unit.unit.line_program = program;
    let root = unit.unit.root();
    let (end, path) = (code.bytes.len() as u64, source.file.to_string_lossy());
    let root = unit.unit.get_mut(root);
    root.set(
        gimli::DW_AT_name,
        AttributeValue::String(path.as_bytes().to_vec()),
    );
    // Without it, debuggers look for the listing where they were started.
    root.set(gimli::DW_AT_comp_dir, AttributeValue::String(folder_bytes));
    root.set(
        gimli::DW_AT_producer,
        AttributeValue::String(b"skimjit".to_vec()),
    );
    root.set(
        gimli::DW_AT_low_pc,
        AttributeValue::Address(Address::Constant(start)),
    );
    root.set(gimli::DW_AT_high_pc, AttributeValue::Udata(end));
    let root = unit.unit.root();
    let function = unit.unit.add(root, gimli::DW_TAG_subprogram);
    let function = unit.unit.get_mut(function);
    function.set(
        gimli::DW_AT_name,
        AttributeValue::String(name.as_bytes().to_vec()),
    );
    function.set(
        gimli::DW_AT_low_pc,
        AttributeValue::Address(Address::Constant(start)),
    );
    function.set(gimli::DW_AT_high_pc, AttributeValue::Udata(end));
    let mut sections = Sections::new(EndianVec::new(LittleEndian));
    unit.write(&mut sections).map_err(io::Error::other)?;
    let mut written = Vec::new();
    sections
        .for_each(|id, section| {
            if !section.slice().is_empty() {
                written.push((id.name(), section.slice().to_vec()));
            }
            Ok::<(), gimli::write::Error>(())
        })
        .map_err(io::Error::other)?;
    Ok(written)
}

fn frames(code: &PublishedCode<'_>, start: u64) -> io::Result<Vec<u8>> {
    let mut table = FrameTable::default();
    let common = table.add_cie(unwind::common(ENCODING));
    let len = code.bytes.len() as u32;
    let mut frame = FrameDescriptionEntry::new(Address::Constant(start), len);
    unwind::describe(code.bytes, &mut frame);
    table.add_fde(common, frame);
    let mut section = gimli::write::DebugFrame(EndianVec::new(LittleEndian));
    table
        .write_debug_frame(&mut section)
        .map_err(io::Error::other)?;
    Ok(section.0.into_vec())
}
