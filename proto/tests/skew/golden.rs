//! Recorded messages of version 0.1, read by today's code, and by peers one version apart.

use super::{
    descriptors::{folder, messages, recording},
    wire::{self, Field},
};
use prost::Message;
use prost_types::{
    DescriptorProto,
    field_descriptor_proto::{Label, Type},
};
use proto::v1;
use std::fs;

/// Reads a message and writes it again, by the message's name.
type Again = fn(&[u8]) -> Result<Vec<u8>, prost::DecodeError>;

macro_rules! table {
    ($($name:ident)+) => {
        const TABLE: &[(&str, Again)] =
            &[$((stringify!($name), |bytes| Ok(v1::$name::decode(bytes)?.encode_to_vec()))),+];
    };
}

table! {
    Subject Receipt
    Capabilities HeldLease SyncRequest Offer SyncResponse AcceptRequest AcceptResponse
    DeclineRequest DeclineResponse FetchJobRequest FetchJobResponse SubmitRequest SubmitResponse
    SubmitImageRequest SubmitImageResponse GetImageRequest WatchImageRequest PlatformState
    ImageState HistoryRequest HistoryResponse EvidenceRequest EvidenceResponse
    AddWatchRequest AddWatchResponse ListWatchesRequest WatchedRepository ListWatchesResponse
    RemoveWatchRequest RemoveWatchResponse
    PublishRequest PublishResponse PendingPublication
    AddOperatorRequest AddOperatorResponse EnrollWorkerRequest EnrollWorkerResponse
    RevokeRequest RevokeResponse ListOperatorsRequest WorkerSummary OperatorSummary
    ListOperatorsResponse DrainWorkerRequest DrainWorkerResponse UnparkRequest UnparkResponse
    StatusRequest StatusResponse
}

/// A message with every field set to something that is not its default.
fn full(message: &DescriptorProto, all: &[DescriptorProto]) -> Vec<u8> {
    let mut fields = message.field.clone();
    fields.sort_by_key(|field| field.number());
    let value = |field: &prost_types::FieldDescriptorProto, round: u64| -> Field {
        let number = field.number() as u32;
        match field.r#type() {
            Type::String | Type::Bytes => {
                wire::delimited(number, format!("{} {round}", field.name()).as_bytes())
            }
            Type::Bool | Type::Enum => wire::number(number, 1),
            Type::Uint32 | Type::Uint64 | Type::Int64 => {
                wire::number(number, 300 + u64::from(number))
            }
            Type::Message => {
                let name = field.type_name().rsplit('.').next().unwrap();
                let inner = all.iter().find(|message| message.name() == name).unwrap();
                wire::delimited(number, &full(inner, all))
            }
            other => panic!("expected a type that the contract uses, found {other:?}"),
        }
    };
    let rounds = |field: &prost_types::FieldDescriptorProto| match field.label() {
        Label::Repeated => 2,
        _ => 1,
    };
    let each = fields.iter().flat_map(|field| (0..rounds(field)).map(move |n| (field, n)));
    wire::message(&each.map(|(field, round)| value(field, round)).collect::<Vec<_>>())
}

fn recorded() -> Vec<(&'static str, Again, Vec<u8>)> {
    let all = messages();
    for message in &all {
        let path = folder().join(format!("{}.bin", message.name()));
        if recording() && !path.exists() {
            fs::write(path, full(message, &all)).unwrap();
        }
    }
    let read = |name: &str| {
        let path = folder().join(format!("{name}.bin"));
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    TABLE.iter().map(|(name, again)| (*name, *again, read(name))).collect()
}

#[test]
fn every_message_is_recorded() {
    let recorded: Vec<&str> = recorded().iter().map(|(name, _, _)| *name).collect();
    for message in messages() {
        assert!(recorded.contains(&message.name()), "no record of {}", message.name());
    }
}

#[test]
fn recorded_messages_are_read_and_lose_nothing() {
    for (name, again, bytes) in recorded() {
        assert_eq!(again(&bytes).unwrap(), bytes, "{name}");
    }
}

/// What a newer peer may add: fields of every wire type, under numbers that this version does not
/// know, before, between and behind the others.
fn from_a_newer_peer(message: &[u8]) -> Vec<u8> {
    let mut fields = vec![wire::number(1000, 7)];
    for field in wire::fields(message) {
        fields.push(field);
        fields.push(wire::delimited(1001, b"something new"));
    }
    fields.extend(wire::fixed(99));
    fields.push(wire::delimited(536_870_911, &[0xff; 300]));
    wire::message(&fields)
}

#[test]
fn what_a_newer_peer_adds_is_passed_over() {
    for (name, again, bytes) in recorded() {
        assert_eq!(again(&from_a_newer_peer(&bytes)).unwrap(), bytes, "{name}");
    }
}

#[test]
fn what_an_older_peer_does_not_say_is_a_default() {
    for (name, again, bytes) in recorded() {
        let fields = wire::fields(&bytes);
        for missing in fields.iter().map(|field| field.number) {
            let rest: Vec<Field> =
                fields.iter().filter(|field| field.number != missing).cloned().collect();
            let rest = wire::message(&rest);
            assert_eq!(again(&rest).unwrap(), rest, "{name} without {missing}");
        }
    }
}

#[test]
fn an_enum_value_of_a_newer_peer_is_kept_and_means_nothing_here() {
    let message =
        wire::message(&[wire::delimited(1, b"registry.example/a:1"), wire::number(2, 77)]);
    let read = v1::SubmitImageRequest::decode(message.as_slice()).unwrap();
    assert_eq!(read.priority(), v1::Priority::Unspecified);
    assert_eq!(read.encode_to_vec(), message);
}

#[test]
fn cut_and_hostile_messages_are_errors_and_no_more() {
    for (name, again, bytes) in recorded() {
        for end in 0..bytes.len() {
            let _ = again(&bytes[..end]);
        }
        let mut wrong_type = bytes.clone();
        if let Some(first) = wrong_type.first_mut() {
            *first ^= 2;
            assert!(again(&wrong_type).is_err(), "{name}");
        }
    }
}
