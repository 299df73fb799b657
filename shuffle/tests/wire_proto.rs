//! Our messages, held against the descriptor inside the real client (0.9.2; it is the same in all of 0.9.x).
//!
//! Whatever the client declares for a message or service of ours, ours declares likewise. What 0.10 added is listed here,
//! so that nothing else can slip in.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};

/// Fields, messages, values and calls that 0.10 or its successors added.
const ADDED: &[&str] = &[
    "ApplicationInfoRequest.gitCommitId",
    "ApplicationInfoRequest.version",
    "CoordinatorServer.fetchClientConfV2",
    "FetchClientConfRequest",
    "GetLocalShuffleDataRequest.nextReadSegments",
    "GetLocalShuffleDataRequest.storageId",
    "GetLocalShuffleIndexResponse.storageIds",
    "GetMemoryShuffleDataResponse.is_end",
    "GetShuffleResultForMultiPartResponse.partitionStats",
    "PartitionStats",
    "ReadSegment",
    "ReportShuffleResultRequest.partitionStats",
    "RequireBufferRequest.partitionRequireSizes",
    "RequireBufferResponse.needSplitPartitionIds",
    "SendShuffleDataRequest.stageAttemptNumber",
    "ShuffleRegisterRequest.PropertiesEntry",
    "ShuffleRegisterRequest.properties",
    "ShuffleServerId.jetty_port",
    "StatusCode.APP_NOT_FOUND",
    "StatusCode.EXCEED_HUGE_PARTITION_HARD_LIMIT",
    "StatusCode.HARD_SPLIT_FROM_SERVER",
    "StatusCode.INTERNAL_NOT_RETRY_ERROR",
    "StatusCode.STAGE_RETRY_IGNORE",
    "TaskAttemptIdToRecords",
];

/// What a file declares: `Message.field`, `Enum.VALUE` or `Service.call`, and what must agree of it.
fn declared(file: &FileDescriptorProto) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for message in &file.message_type {
        declare_message(&mut all, "", message);
    }
    for values in &file.enum_type {
        declare_enum(&mut all, "", values);
    }
    for service in &file.service {
        for call in &service.method {
            let name = format!("{}.{}", service.name(), call.name());
            all.insert(name, format!("{} -> {}", call.input_type(), call.output_type()));
        }
    }
    all
}

fn declare_message(all: &mut BTreeMap<String, String>, outer: &str, message: &DescriptorProto) {
    let name = format!("{outer}{}", message.name());
    all.insert(name.clone(), "message".to_owned());
    for field in &message.field {
        all.insert(format!("{name}.{}", field.name()), field_shape(field));
    }
    for inner in &message.nested_type {
        declare_message(all, &format!("{name}."), inner);
    }
    for inner in &message.enum_type {
        declare_enum(all, &format!("{name}."), inner);
    }
}

fn field_shape(field: &FieldDescriptorProto) -> String {
    let (number, kind, label) = (field.number(), field.r#type(), field.label());
    let optional = if field.proto3_optional() { "optional" } else { "" };
    assert!(label != Label::Required && kind != Type::Group);
    format!("{number} {kind:?} {label:?} {} {optional}", field.type_name())
}

fn declare_enum(all: &mut BTreeMap<String, String>, outer: &str, values: &EnumDescriptorProto) {
    for value in &values.value {
        all.insert(format!("{outer}{}.{}", values.name(), value.name()), value.number().to_string());
    }
}

fn ours() -> FileDescriptorProto {
    let set = FileDescriptorSet::decode(&include_bytes!(concat!(env!("OUT_DIR"), "/rss.pb"))[..]).unwrap();
    set.file.into_iter().find(|file| file.package() == "rss.common").unwrap()
}

fn theirs() -> FileDescriptorProto {
    let file = FileDescriptorProto::decode(&include_bytes!("golden/rss-0.9.2.pb")[..]).unwrap();
    assert_eq!(file.package(), "rss.common");
    file
}

fn owner(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(owner, _)| owner)
}

#[test]
fn what_both_declare_agrees_and_the_rest_is_known() {
    let (ours, theirs) = (declared(&ours()), declared(&theirs()));
    let mut added = BTreeSet::new();
    for (name, shape) in &ours {
        match theirs.get(name) {
            Some(their_shape) => assert_eq!(shape, their_shape, "{name}"),
            None if added.iter().any(|whole| name.starts_with(&format!("{whole}."))) => {}
            None => {
                added.insert(name.as_str());
            }
        }
    }
    assert_eq!(added.into_iter().collect::<Vec<_>>(), ADDED);
}

#[test]
fn nothing_is_left_out_of_what_we_declare() {
    let (ours, theirs) = (declared(&ours()), declared(&theirs()));
    let owners = ours.keys().map(|name| owner(name)).collect::<BTreeSet<_>>();
    for name in theirs.keys().filter(|name| name.contains('.') && owners.contains(owner(name))) {
        assert!(ours.contains_key(name), "{name} of the client is missing here");
    }
    let services = |file: &FileDescriptorProto| file.service.iter().map(|s| s.name().to_owned()).collect::<Vec<_>>();
    assert_eq!(services(&self::ours()), ["ShuffleServer", "ShuffleServerInternal", "CoordinatorServer"]);
}

#[test]
fn no_number_has_two_names() {
    let by_number = |file: &FileDescriptorProto| {
        let mut numbers = BTreeMap::new();
        for message in &file.message_type {
            for field in &message.field {
                let again = numbers.insert((message.name().to_owned(), field.number()), field.name().to_owned());
                assert_eq!(again, None);
            }
        }
        numbers
    };
    let theirs = by_number(&theirs());
    for (place, name) in by_number(&ours()) {
        assert!(theirs.get(&place).is_none_or(|their_name| *their_name == name), "{place:?} is {name} here");
    }
}
