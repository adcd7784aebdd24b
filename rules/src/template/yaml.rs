//! YAML to JSON.
//!
//! Numbers keep the digits they were written with: what a reader of YAML makes of `12345678901234567890123` or of 0.1
//! is a float near it, so a number's text is taken from the document where the float stands for one.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{
    DuplicateKeyPolicy, Error, Location, MessageFormatter, NonFiniteFloatPolicy, Options, Span,
    Spanned, UserMessageFormatter,
};

use super::MAX_DEPTH;
use crate::finding::{Finding, FindingCode};

/// The most values in a document: 10,000 steps with a hundred each. Aliases count as what they stand for.
const MAX_VALUES: usize = 2_000_000;

/// The most aliases in a document: each of 10,000 steps may share some of its parts with others.
const MAX_ALIASES: usize = 100_000;

/// The most that aliases may stand for in all, in events of the parser; a bomb of nested aliases ends here.
const MAX_REPLAYED_EVENTS: usize = 1_000_000;

/// The most that is remembered for aliases to come, in events of the parser; aliases inside anchors count anew.
const MAX_REMEMBERED_EVENTS: usize = 200_000;

/// Reads a YAML document as JSON, or says where it is malformed.
pub(super) fn read(text: &str) -> Result<Value, Finding> {
    let root: Spanned<Node> = serde_saphyr::from_str_with_options(text, options(text))
        .map_err(|error| malformed(&error))?;
    json(root.into(), text)
}

fn options(text: &str) -> Options {
    let budget = serde_saphyr::budget! {
        max_depth: MAX_DEPTH,
        flow_nesting_limit: MAX_DEPTH,
        max_nodes: MAX_VALUES,
        max_events: 2 * MAX_VALUES,
        max_total_scalar_bytes: text.len().max(1 << 20),
        max_aliases: MAX_ALIASES,
        max_recorded_anchor_events: MAX_REMEMBERED_EVENTS,
        // One anchor that every step refers to is good style.
        enforce_alias_anchor_ratio: false,
    };
    serde_saphyr::options! {
        budget: budget,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPLAYED_EVENTS },
        duplicate_keys: DuplicateKeyPolicy::Error,
        // YAML 1.2: `yes`, `on`, `0755` and `1_000` are text.
        strict_booleans: true,
        legacy_octal_numbers: false,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    }
}

fn malformed(error: &Error) -> Finding {
    let mut cause = error;
    while let Error::AliasError { error, .. } | Error::WithSnippet { error, .. } = cause {
        cause = error;
    }
    let text = match cause {
        Error::MultipleDocuments { .. } => {
            "a template is one YAML document, and another follows".into()
        }
        Error::NullIntoString { .. } => "null can not be the name of a field".into(),
        Error::Budget { .. } => {
            "the document is larger, deeper or fuller of aliases than a template may be".into()
        }
        other => UserMessageFormatter.format_message(other),
    };
    at(error.location(), &text)
}

fn at(place: Option<Location>, text: &str) -> Finding {
    let message = match place {
        Some(place) => format!("line {}, column {}: {text}", place.line(), place.column()),
        None => text.to_owned(),
    };
    Finding::new(FindingCode::SchemaInvalid, "", message)
}

/// A YAML value, before its floats have got their text.
enum Node {
    Null,
    Bool(bool),
    Integer(Number),
    /// With the place where it is written.
    Float(f64, Option<Box<Location>>),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl From<Spanned<Node>> for Node {
    fn from(node: Spanned<Node>) -> Self {
        match node.value {
            Node::Float(value, None) => Node::Float(value, Some(Box::new(node.defined))),
            other => other,
        }
    }
}

fn json(node: Node, text: &str) -> Result<Value, Finding> {
    Ok(match node {
        Node::Null => Value::Null,
        Node::Bool(value) => Value::Bool(value),
        Node::Integer(number) => Value::Number(number),
        Node::Text(value) => Value::String(value),
        Node::List(items) => Value::Array(
            items
                .into_iter()
                .map(|item| json(item, text))
                .collect::<Result<_, _>>()?,
        ),
        Node::Map(entries) => {
            let mut map = Map::new();
            for (key, value) in entries {
                map.insert(key, json(value, text)?);
            }
            Value::Object(map)
        }
        Node::Float(value, place) => {
            let written = place
                .as_ref()
                .and_then(|place| as_written(place.span(), text));
            Value::Number(written.or_else(|| Number::from_f64(value)).ok_or_else(|| {
                at(
                    place.map(|place| *place),
                    "a number that JSON can not hold: it is infinite, or not a number",
                )
            })?)
        }
    })
}

/// The number with the digits it was written with, if JSON would write it so too. Exponents are left to the float, so
/// that a few characters can not stand for a gigabyte of digits.
fn as_written(span: Span, text: &str) -> Option<Number> {
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let end = start.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
    let literal = text.get(start..end)?.trim();
    let plain = literal
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.'));
    if plain {
        serde_json::from_str(literal).ok()
    } else {
        None
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a YAML value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Integer(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Integer(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value, None))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Node, E> {
        Ok(Node::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Spanned<Node>>()? {
            items.push(item.into());
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, Spanned<Node>>()? {
            entries.push((key, value.into()));
        }
        Ok(Node::Map(entries))
    }
}
