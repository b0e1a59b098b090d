//! The generated sources are what `models/onnx/proto/onnx.proto` says. `SKIMJIT_BLESS=1` rewrites them.

use protox::prost_reflect::{Cardinality, DescriptorPool, Kind, MessageDescriptor};
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn crate_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
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
        "{} is not what proto/onnx.proto generates; run the test with SKIMJIT_BLESS=1",
        path.display()
    );
}

#[test]
fn messages() {
    let out = tempfile::tempdir().unwrap();
    let mut config = prost_build::Config::new();
    // What is passed over, and elements of tensors, share the file's bytes.
    config.bytes(["."]).out_dir(out.path());
    let files = protox::compile(["onnx.proto"], [crate_file("proto")]).unwrap();
    config.compile_fds(files).unwrap();
    let generated = std::fs::read_to_string(out.path().join("onnx.rs")).unwrap();
    check("src/proto.rs", &generated);
}

/// The path of the type that prost makes of a message.
fn rust_type(message: &MessageDescriptor) -> String {
    match message.parent_message() {
        None => format!("proto::{}", message.name()),
        Some(parent) => {
            let mut module = String::new();
            for letter in parent.name().chars() {
                if letter.is_ascii_uppercase() && !module.is_empty() {
                    module.push('_');
                }
                module.push(letter.to_ascii_lowercase());
            }
            format!("proto::{module}::{}", message.name())
        }
    }
}

#[test]
fn schema() {
    let files = protox::compile(["onnx.proto"], [crate_file("proto")]).unwrap();
    let pool = DescriptorPool::from_file_descriptor_set(files).unwrap();
    let messages: Vec<_> = pool.all_messages().collect();
    let mut text = String::from(
        "// This file is @generated from proto/onnx.proto.\n\n\
         use super::proto;\nuse super::message::{Field, Kind::*, Message};\nuse std::mem::size_of;\n\n",
    );
    let index = |wanted: &MessageDescriptor| messages.iter().position(|one| one == wanted).unwrap();
    let model = pool.get_message_by_name("onnx.ModelProto").unwrap();
    writeln!(
        text,
        "pub static MODEL: &Message = &MESSAGES[{}];\n",
        index(&model)
    )
    .unwrap();
    writeln!(
        text,
        "pub static MESSAGES: [Message; {}] = [",
        messages.len()
    )
    .unwrap();
    for message in &messages {
        let (name, rust) = (message.name(), rust_type(message));
        writeln!(
            text,
            "    Message {{ name: \"{name}\", size: size_of::<{rust}>(), fields: &["
        )
        .unwrap();
        for field in message.fields() {
            let many = field.cardinality() == Cardinality::Repeated;
            let kind = match field.kind() {
                Kind::Message(inner) => format!("Message({})", index(&inner)),
                Kind::String | Kind::Bytes if many => "ManyBytes".to_owned(),
                Kind::String | Kind::Bytes => "Bytes".to_owned(),
                Kind::Float if many => "Numbers(4)".to_owned(),
                Kind::Double if many => "Numbers(8)".to_owned(),
                Kind::Float => "Fixed32".to_owned(),
                Kind::Int32 if many => "Varints(4)".to_owned(),
                _ if many => "Varints(8)".to_owned(),
                _ => "Varint".to_owned(),
            };
            writeln!(
                text,
                "        Field {{ number: {}, kind: {kind} }},",
                field.number()
            )
            .unwrap();
        }
        text.push_str("    ] },\n");
    }
    text.push_str("];\n");
    check("src/schema.rs", &text);
}
