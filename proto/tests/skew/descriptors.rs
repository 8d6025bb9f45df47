//! Numbers, types and methods never change: a peer of an older version goes by them.

use prost::Message;
use prost_types::{
    DescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use std::{collections::BTreeSet, path::PathBuf};

/// The folder of version 0.1.
pub fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v0.1"))
}

/// True when what is missing is to be written.
pub fn recording() -> bool {
    std::env::var_os("ASSAY_RECORD").is_some_and(|value| value == "1")
}

/// Every message of the contract.
pub fn messages() -> Vec<DescriptorProto> {
    let set = FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
    let own = set.file.into_iter().filter(|file| file.package() == "assay.v1");
    own.flat_map(|file| file.message_type).collect()
}

fn lines() -> BTreeSet<String> {
    let set = FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
    let mut lines = BTreeSet::new();
    for file in set.file.iter().filter(|file| file.package() == "assay.v1") {
        for message in &file.message_type {
            assert!(message.nested_type.is_empty() && message.oneof_decl.is_empty());
            for field in &message.field {
                let repeated = if field.label() == Label::Repeated { "repeated " } else { "" };
                let kind = match field.r#type() {
                    Type::Message | Type::Enum => field.type_name().to_owned(),
                    plain => plain.as_str_name().to_lowercase().replace("type_", ""),
                };
                let (number, name) = (field.number(), field.name());
                lines.insert(format!("{}.{name} = {number}: {repeated}{kind}", message.name()));
            }
        }
        for kind in &file.enum_type {
            for value in &kind.value {
                lines.insert(format!("{}.{} = {}", kind.name(), value.name(), value.number()));
            }
        }
        for service in &file.service {
            for method in &service.method {
                let (from, to) = (method.input_type(), method.output_type());
                lines.insert(format!("{}/{}({from}) {to}", service.name(), method.name()));
            }
        }
    }
    lines
}

#[test]
fn no_number_no_type_and_no_method_ever_changes() {
    let path = folder().join("fields.txt");
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    let mut known: BTreeSet<String> = known.lines().map(str::to_owned).collect();
    let now = lines();
    let gone: Vec<_> = known.difference(&now).collect();
    assert!(gone.is_empty(), "peers of version 0.1 rely on these: {gone:#?}");
    let new: Vec<String> = now.difference(&known).cloned().collect();
    if recording() {
        known.extend(new);
        let text: String = known.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(path, text).unwrap();
    } else {
        assert!(new.is_empty(), "ASSAY_RECORD=1 adds these to fields.txt: {new:#?}");
    }
}

#[test]
fn no_number_of_a_message_is_used_twice() {
    for message in messages() {
        let numbers: BTreeSet<i32> = message.field.iter().map(|field| field.number()).collect();
        assert_eq!(numbers.len(), message.field.len(), "{}", message.name());
        // Common.proto keeps 50 to 99 for the second stage, 100 and up for extensions.
        assert!(numbers.iter().all(|number| (1..100).contains(number)), "{}", message.name());
    }
}
