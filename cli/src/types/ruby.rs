//! Types in Ruby: a `Struct` for each object, made from a parsed document and made one again. What is no object stays as `JSON.parse` gives it.

use std::fmt::Write;

use super::code::{Code, comment, quoted as json_quoted};
use super::model::{Field, Object, Rest, Shape, Type};

pub(super) fn text(code: &Code<'_>, heads: &[String], module: &str) -> String {
    let mut text = String::from("# frozen_string_literal: true\n\n");
    text.push_str(&comment("", "#", heads));
    let _ = writeln!(text, "module {module}");
    let mut is_first = true;
    for (place, definition) in code.definitions() {
        if !std::mem::take(&mut is_first) {
            text.push('\n');
        }
        let name = code.name(place);
        text.push_str(&comment("  ", "#", &definition.docs));
        match &definition.shape {
            Shape::Object(object) if is_class(object) => text.push_str(&class(code, name, object)),
            Shape::Object(_) => {
                let _ = writeln!(text, "  # {name}: an empty Hash.");
            }
            Shape::Enum(texts) => {
                let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
                let _ = writeln!(text, "  {name} = [{}].freeze", texts.join(", "));
            }
            Shape::Union(types) => {
                let types: Vec<String> = types.iter().map(|of| shown(code, of)).collect();
                let _ = writeln!(
                    text,
                    "  # {name}: one of {}, as it was parsed.",
                    types.join(", ")
                );
            }
            Shape::Alias(of) => {
                let _ = writeln!(text, "  # {name}: {}.", shown(code, of));
            }
        }
    }
    text + "end\n"
}

/// A Struct has members.
fn is_class(object: &Object) -> bool {
    !object.fields.is_empty()
}

fn quoted(text: &str) -> String {
    json_quoted(text).replace('#', "\\#")
}

/// The type for a reader.
fn shown(code: &Code<'_>, of: &Type) -> String {
    match of {
        Type::Any => "any JSON".to_owned(),
        Type::Null => "nil".to_owned(),
        Type::Boolean => "true or false".to_owned(),
        Type::Integer(_) => "Integer".to_owned(),
        Type::Number => "Numeric".to_owned(),
        Type::Text => "String".to_owned(),
        Type::Constants(_) => "a constant".to_owned(),
        Type::List(of) => format!("Array<{}>", shown(code, of)),
        Type::Map(of) => format!("Hash<String, {}>", shown(code, of)),
        Type::Nullable(of) => format!("{} or nil", shown(code, of)),
        Type::Named(place) => code.name(*place).to_owned(),
    }
}

/// Which way a document is converted.
#[derive(Clone, Copy)]
enum Way {
    FromDocument,
    ToDocument,
}

/// The expression that converts the value of another; none where it stays what it is.
fn converted(code: &Code<'_>, of: &Type, value: &str, way: Way, depth: usize) -> Option<String> {
    let item = if depth == 0 {
        "item".to_owned()
    } else {
        format!("item{}", depth + 1)
    };
    let inner = |of: &Type| converted(code, of, &item, way, depth + 1);
    match of {
        Type::List(of) => Some(format!("{value}.map {{ |{item}| {} }}", inner(of)?)),
        Type::Map(of) => Some(format!(
            "{value}.transform_values {{ |{item}| {} }}",
            inner(of)?
        )),
        Type::Nullable(of) => Some(format!("{value}&.then {{ |{item}| {} }}", inner(of)?)),
        Type::Named(place) => match (&code.model.definitions[*place].shape, way) {
            (Shape::Object(object), Way::FromDocument) if is_class(object) => {
                Some(format!("{}.from_document({value})", code.name(*place)))
            }
            (Shape::Object(object), Way::ToDocument) if is_class(object) => {
                Some(format!("{value}.to_document"))
            }
            (Shape::Alias(of), _) if !code.model.is_circular_alias(*place) => {
                converted(code, of, value, way, depth)
            }
            _ => None,
        },
        _ => None,
    }
}

fn class(code: &Code<'_>, name: &str, object: &Object) -> String {
    let fields = code.fields(object);
    let mut text = String::new();
    for (member, field) in &fields {
        let need = if field.is_required {
            ""
        } else {
            ", may be missing"
        };
        let about = format!("{member}: {}{need}.", shown(code, &field.of));
        let docs: Vec<String> = std::iter::once(about)
            .chain(field.docs.iter().cloned())
            .collect();
        text.push_str(&comment("  ", "#", &[docs.join(" ")]));
    }
    let mut members: Vec<String> = fields
        .iter()
        .map(|(member, _)| format!(":{member}"))
        .collect();
    if object.rest == Rest::Kept {
        text.push_str("  # extra: Hash<String, any JSON>, what else there is.\n");
        members.push(":extra".to_owned());
    }
    let _ = writeln!(
        text,
        "  {name} = Struct.new({}, keyword_init: true) do",
        members.join(", ")
    );
    text.push_str("    def self.from_document(document)\n      new(\n");
    for (member, field) in &fields {
        let _ = writeln!(text, "        {member}: {},", read(code, field));
    }
    if object.rest == Rest::Kept {
        let names: Vec<String> = fields
            .iter()
            .map(|(_, field)| quoted(&field.name))
            .collect();
        let _ = writeln!(
            text,
            "        extra: document.except({}),",
            names.join(", ")
        );
    }
    text.push_str("      )\n    end\n\n    def to_document\n      document = {\n");
    for (member, field) in &fields {
        let of = or_nil(field);
        let value =
            converted(code, &of, member, Way::ToDocument, 0).unwrap_or_else(|| member.clone());
        let _ = writeln!(text, "        {} => {value},", quoted(&field.name));
    }
    text.push_str("      }\n");
    let optional = fields.iter().filter(|(_, field)| !field.is_required);
    let optional: Vec<String> = optional.map(|(_, field)| quoted(&field.name)).collect();
    if !optional.is_empty() {
        let _ = writeln!(
            text,
            "      [{}].each {{ |name| document.delete(name) if document[name].nil? }}",
            optional.join(", ")
        );
    }
    let last = if object.rest == Rest::Kept {
        "document.merge(extra || {})"
    } else {
        "document"
    };
    let _ = write!(text, "      {last}\n    end\n  end\n");
    text
}

/// The value of a field in the document.
fn read(code: &Code<'_>, field: &Field) -> String {
    let name = quoted(&field.name);
    let value = if field.is_required {
        format!("document.fetch({name})")
    } else {
        format!("document[{name}]")
    };
    converted(code, &or_nil(field), &value, Way::FromDocument, 0).unwrap_or(value)
}

/// What is missing is nil.
fn or_nil(field: &Field) -> Type {
    if field.is_required {
        field.of.clone()
    } else {
        field.of.clone().or_null()
    }
}
