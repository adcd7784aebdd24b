//! The methods of gRPC, as the .proto files say them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use anyhow::Context;
use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    MethodDescriptorProto, ServiceDescriptorProto,
};
use serde_json::Value;
use tasker_grpc::{DESCRIPTORS, Operation, operation_of};

use super::{MADE, cell};

const PACKAGE: &str = "tasker.v1";
/// The numbers of fields by which places in a file are named (`google.protobuf.SourceCodeInfo`).
const MESSAGES: i32 = 4;
const SERVICES: i32 = 6;
const PARTS: i32 = 2;

/// What is written about a place in a file.
struct Comments(BTreeMap<Vec<i32>, String>);

impl Comments {
    fn of(file: &FileDescriptorProto) -> Self {
        let places = file.source_code_info.iter().flat_map(|info| &info.location);
        let written = places.filter_map(|place| {
            let text = place.leading_comments.as_deref()?;
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            Some((place.path.clone(), lines.join("\n").trim().to_owned()))
        });
        Self(written.collect())
    }

    fn at(&self, place: &[i32]) -> &str {
        self.0.get(place).map_or("", String::as_str)
    }
}

/// The page; what each method needs of its caller is in the OpenAPI document.
pub fn grpc(document: &Value) -> anyhow::Result<String> {
    let set = FileDescriptorSet::decode(DESCRIPTORS)?;
    let permissions = permissions_of(document);
    let own = || set.file.iter().filter(|file| file.package() == PACKAGE);
    let mut page = format!(
        "{MADE}\n# gRPC\n\nPackage `{PACKAGE}`; the files are under `grpc/proto/`, and the server's reflection shows them too. [How to call it](../grpc.md), with what holds for all methods. Any method \
         may also answer an [error](errors.md). Fields that may be left out have a `?`; fields named `…_json` are JSON as text.\n"
    );
    let mut used = BTreeSet::new();
    for file in own() {
        let comments = Comments::of(file);
        for (number, service) in (0..).zip(&file.service) {
            write_service(&mut page, service, number, &comments, &permissions)?;
            for method in &service.method {
                used.insert(method.input_type());
                used.insert(method.output_type());
            }
        }
    }
    anyhow::ensure!(!used.is_empty(), "no methods");
    page.push_str("\n## Messages\n");
    let mut messages = BTreeMap::new();
    for file in own() {
        let comments = Comments::of(file);
        for (number, message) in (0..).zip(&file.message_type) {
            let mut section = String::new();
            write_message(&mut section, message, number, &comments)?;
            messages.insert(message.name().to_owned(), section);
        }
    }
    for section in messages.values() {
        page.push_str(section);
    }
    Ok(page)
}

fn permissions_of(document: &Value) -> BTreeMap<String, Option<String>> {
    let paths = document["paths"].as_object().into_iter().flatten();
    let operations = paths.flat_map(|(_, item)| item.as_object().into_iter().flatten());
    operations
        .filter_map(|(_, operation)| {
            let id = operation["operationId"].as_str()?;
            let permission = operation["x-permission"].as_str();
            Some((id.to_owned(), permission.map(str::to_owned)))
        })
        .collect()
}

fn write_service(
    page: &mut String,
    service: &ServiceDescriptorProto,
    number: i32,
    comments: &Comments,
    permissions: &BTreeMap<String, Option<String>>,
) -> anyhow::Result<()> {
    let about = comments.at(&[SERVICES, number]);
    write!(page, "\n## {}\n\n{about}\n\n", service.name())?;
    page.push_str("| method | | permission | request | answer |\n|---|---|---|---|---|\n");
    for (at, method) in (0..).zip(&service.method) {
        let path = format!("/{PACKAGE}.{}/{}", service.name(), method.name());
        let needed = match operation_of(&path).with_context(|| path.clone())? {
            Operation::Own(permission) => Some(permission.to_owned()),
            Operation::Rest(id) => permissions.get(id).with_context(|| id.to_owned())?.clone(),
        };
        let needed = needed.map_or("open to all".to_owned(), |needed| format!("`{needed}`"));
        let about = comments.at(&[SERVICES, number, PARTS, at]);
        writeln!(
            page,
            "| `{}` | {} | {needed} | {} | {} |",
            method.name(),
            cell(&about.replace("\n\n", " ")),
            link(method.input_type()),
            answer_of(method),
        )?;
    }
    Ok(())
}

fn answer_of(method: &MethodDescriptorProto) -> String {
    let link = link(method.output_type());
    if method.server_streaming() {
        format!("stream of {link}")
    } else {
        link
    }
}

fn write_message(
    page: &mut String,
    message: &DescriptorProto,
    number: i32,
    comments: &Comments,
) -> anyhow::Result<()> {
    let about = comments.at(&[MESSAGES, number]);
    write!(page, "\n### {}\n\n{about}\n", message.name())?;
    if message.field.is_empty() {
        return Ok(());
    }
    page.push_str("\n| field | type | |\n|---|---|---|\n");
    for (at, field) in (0..).zip(&message.field) {
        let about = comments.at(&[MESSAGES, number, PARTS, at]);
        let may_be_left_out = field.proto3_optional()
            || field.oneof_index.is_some()
            || (field.r#type() == Type::Message && field.label() != Label::Repeated);
        let mark = if may_be_left_out { "?" } else { "" };
        writeln!(
            page,
            "| `{}`{mark} | {} | {} |",
            field.name(),
            kind(field),
            cell(about)
        )?;
    }
    Ok(())
}

/// The type of a field in a few words.
fn kind(field: &FieldDescriptorProto) -> String {
    if field.type_name().ends_with("Entry") {
        return "map of string to string".to_owned();
    }
    let one = match field.r#type() {
        Type::Message => link(field.type_name()),
        Type::String => "string".to_owned(),
        Type::Bool => "bool".to_owned(),
        Type::Int32 => "int32".to_owned(),
        Type::Int64 => "int64".to_owned(),
        Type::Uint64 => "uint64".to_owned(),
        Type::Double => "double".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    };
    if field.label() == Label::Repeated {
        format!("repeated {one}")
    } else {
        one
    }
}

/// A message of the package as a link to it; another by its name.
fn link(name: &str) -> String {
    let name = name.trim_start_matches('.');
    match name.strip_prefix("tasker.v1.") {
        Some(own) => format!("[{own}](#{})", own.to_lowercase()),
        None => format!("`{name}`"),
    }
}
