//! The generated sources are what `models/caffe/proto/caffe.proto` says. `SKIMJIT_BLESS=1` rewrites them.

use protox::prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
use protox::prost_reflect::prost_types::source_code_info::Location;
use protox::prost_reflect::prost_types::{FieldDescriptorProto, FileDescriptorProto};
use protox::prost_reflect::{
    Cardinality, DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor,
};
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn crate_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn descriptors() -> DescriptorPool {
    let files = protox::compile(["caffe.proto"], [crate_file("proto")]).unwrap();
    DescriptorPool::from_file_descriptor_set(files).unwrap()
}

/// Compares with the checked-in file, or rewrites it.
fn check(name: &str, generated: &str) {
    let path = crate_file(name);
    if std::env::var_os("SKIMJIT_BLESS").is_some() {
        std::fs::write(&path, generated).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        checked_in == generated,
        "{} is not what proto/caffe.proto generates; run the test with SKIMJIT_BLESS=1",
        path.display()
    );
}

fn is_single_message(field: &FieldDescriptor) -> bool {
    matches!(field.kind(), Kind::Message(_)) && field.cardinality() != Cardinality::Repeated
}

/// The message that holds what a file says and the tables do not know.
const UNKNOWN: &str = "UnknownField";

/// The list of them that every other message has, under the largest number that the format allows.
fn add_unknown_fields(file: &mut FileDescriptorProto) {
    for (index, message) in file.message_type.iter_mut().enumerate() {
        if message.name() != UNKNOWN {
            // prost-build wants to know where each field is in the source: message_type and field are
            // the numbers 4 and 2 of their messages.
            let place = [4, index, 2, message.field.len()].map(|part| part as i32);
            message.field.push(unknown_fields());
            let places = file.source_code_info.get_or_insert_default();
            places.location.push(Location {
                path: place.to_vec(),
                ..Location::default()
            });
        }
    }
}

fn unknown_fields() -> FieldDescriptorProto {
    let mut field = FieldDescriptorProto {
        name: Some("unknown_fields".to_owned()),
        number: Some((1 << 29) - 1),
        type_name: Some(format!(".caffe.{UNKNOWN}")),
        ..FieldDescriptorProto::default()
    };
    field.set_label(Label::Repeated);
    field.set_type(Type::Message);
    field
}

#[test]
fn messages() {
    let pool = descriptors();
    let mut config = prost_build::Config::new();
    // An empty layer is then a few hundred bytes, although it has sixty kinds of parameters.
    for name in ["LayerParameter", "V1LayerParameter"] {
        let message = pool.get_message_by_name(&format!("caffe.{name}")).unwrap();
        for field in message.fields().filter(is_single_message) {
            config.boxed(format!(".caffe.{name}.{}", field.name()));
        }
    }
    let out = tempfile::tempdir().unwrap();
    config.out_dir(out.path());
    let mut files = protox::compile(["caffe.proto"], [crate_file("proto")]).unwrap();
    files.file.iter_mut().for_each(add_unknown_fields);
    config.compile_fds(files).unwrap();
    let generated = std::fs::read_to_string(out.path().join("caffe.rs")).unwrap();
    check("src/proto.rs", &generated);
}

/// Messages of the file with the messages nested in them; only enums are nested.
fn all_messages(pool: &DescriptorPool) -> Vec<MessageDescriptor> {
    let messages = pool.all_messages();
    let messages: Vec<_> = messages
        .filter(|message| message.name() != UNKNOWN)
        .collect();
    assert!(
        messages
            .iter()
            .all(|message| message.parent_message().is_none())
    );
    messages
}

fn constant_name(name: &str) -> String {
    let mut result = String::new();
    for (index, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && index > 0 && !result.ends_with('_') {
            result.push('_');
        }
        result.push(letter.to_ascii_uppercase());
    }
    result
}

fn kind(kind: Kind, messages: &[MessageDescriptor], enums: &[EnumDescriptor]) -> String {
    match kind {
        Kind::Message(message) => {
            let index = messages.iter().position(|other| *other == message).unwrap();
            format!("Message({index})")
        }
        Kind::Enum(of) => {
            let index = enums.iter().position(|other| *other == of).unwrap();
            format!("Enum({index})")
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn schema() {
    let pool = descriptors();
    let messages = all_messages(&pool);
    let enums: Vec<_> = pool.all_enums().collect();
    let mut text = String::from("// This file is @generated from proto/caffe.proto.\n\n");
    text.push_str("use super::proto;\nuse super::schema::{Enum, Field, Kind::*, Message};\n");
    text.push_str("use std::mem::size_of;\n\n");
    for name in [
        "NetParameter",
        "SolverParameter",
        "SolverState",
        "BlobProto",
    ] {
        let index = messages
            .iter()
            .position(|message| message.name() == name)
            .unwrap();
        writeln!(
            text,
            "pub static {}: &Message = &MESSAGES[{index}];",
            constant_name(name)
        )
        .unwrap();
    }
    writeln!(
        text,
        "\npub static MESSAGES: [Message; {}] = [",
        messages.len()
    )
    .unwrap();
    for message in &messages {
        let name = message.name();
        let rust = prost_name(name);
        writeln!(
            text,
            "    Message {{ name: \"{name}\", size: size_of::<proto::{rust}>(), fields: &["
        )
        .unwrap();
        for field in message.fields() {
            let kind = kind(field.kind(), &messages, &enums);
            let label = if field.is_list() { "many" } else { "one" };
            let (name, number) = (field.name(), field.number());
            writeln!(
                text,
                "        Field::{label}(\"{name}\", {number}, {kind}){},",
                default(&field)
            )
            .unwrap();
        }
        text.push_str("    ] },\n");
    }
    writeln!(text, "];\n\npub static ENUMS: [Enum; {}] = [", enums.len()).unwrap();
    for of in &enums {
        writeln!(text, "    Enum {{ name: \"{}\", values: &[", of.name()).unwrap();
        for value in of.values() {
            writeln!(text, "        (\"{}\", {}),", value.name(), value.number()).unwrap();
        }
        text.push_str("    ] },\n");
    }
    text.push_str("];\n");
    check("src/schema_table.rs", &text);
}

/// What the file says after `default =`, as a call.
fn default(field: &FieldDescriptor) -> String {
    match &field.field_descriptor_proto().default_value {
        Some(value) => format!(".or({value:?})"),
        None => String::new(),
    }
}

/// The name that prost gives a message: acronyms become words.
fn prost_name(name: &str) -> String {
    let generated = std::fs::read_to_string(crate_file("src/proto.rs")).unwrap_or_default();
    let mut lines = generated.lines();
    lines
        .find_map(|line| {
            let found = line
                .trim()
                .strip_prefix("pub struct ")?
                .strip_suffix(" {")?;
            found.eq_ignore_ascii_case(name).then(|| found.to_owned())
        })
        .unwrap_or_else(|| name.to_owned())
}
