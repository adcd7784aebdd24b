//! Types in Python: `TypedDict`, so that what a handler is given, and what it returns, is checked as it is, without being converted.

use std::fmt::Write;

use serde_json::Value;

use super::code::{Code, comment, lines, quoted};
use super::model::{Object, Rest, Shape, Type};

/// The words that can't be names, and those that would hide a type from the fields after them.
const NO_FIELDS: &str = "False None True and as assert async await break class continue def del elif else except finally for from global if import in is lambda \
    nonlocal not or pass raise return try while with yield \
    Any Literal NotRequired TypeAlias TypedDict Union bool dict float int list str";

pub(super) fn text(code: &Code<'_>, heads: &[String]) -> String {
    let mut body = String::new();
    let mut written = vec![false; code.model.definitions.len()];
    for place in parts_first(code) {
        let definition = &code.model.definitions[place];
        let name = code.name(place);
        let scope = Scope {
            code,
            written: &written,
        };
        let (docs, alias) = match &definition.shape {
            Shape::Object(object) => {
                let docs = with_rest(&definition.docs, object.rest);
                body.push_str(&scope.object(name, &docs, object));
                written[place] = true;
                continue;
            }
            Shape::Enum(texts) => {
                let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
                (&definition.docs, format!("Literal[{}]", texts.join(", ")))
            }
            Shape::Union(types) => (&definition.docs, scope.union(types)),
            Shape::Alias(of) => (&definition.docs, scope.shown(of).0),
        };
        let _ = write!(
            body,
            "\n\n{}{name}: TypeAlias = {alias}\n",
            comment("", "#", docs)
        );
        written[place] = true;
    }
    let mut text = format!(
        "\"\"\"{}\n\nNeeds Python 3.11 or newer.\n\"\"\"\n\n",
        heads.join("\n")
    );
    let imports = [
        "Any",
        "Literal",
        "NotRequired",
        "TypeAlias",
        "TypedDict",
        "Union",
    ];
    let used = imports.iter().filter(|import| has_word(&body, import));
    let used: Vec<&str> = used.copied().collect();
    let _ = writeln!(text, "from typing import {}", used.join(", "));
    text + &body
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|other| other == word)
}

fn with_rest(docs: &[String], rest: Rest) -> Vec<String> {
    let more = match rest {
        Rest::Ignored => None,
        Rest::Refused => Some("No other keys are allowed.".to_owned()),
        Rest::Kept => Some("Further keys are allowed.".to_owned()),
    };
    docs.iter().cloned().chain(more).collect()
}

/// Places in an order in which each definition comes after its parts, but for those that are parts of themselves.
fn parts_first(code: &Code<'_>) -> Vec<usize> {
    let mut order = Vec::new();
    let mut seen = vec![false; code.model.definitions.len()];
    for (root, _) in code.definitions() {
        let mut rest = vec![(root, false)];
        while let Some((place, parts_are_done)) = rest.pop() {
            if parts_are_done {
                order.push(place);
            } else if !std::mem::replace(&mut seen[place], true) {
                rest.push((place, true));
                let parts = code.model.parts(place).into_iter().rev();
                rest.extend(parts.filter(|part| !seen[*part]).map(|part| (part, false)));
            }
        }
    }
    order
}

struct Scope<'a> {
    code: &'a Code<'a>,
    /// Which definitions stand above, by their places.
    written: &'a [bool],
}

impl Scope<'_> {
    /// The type, and whether it names something that comes later, which has to be in quotes.
    fn shown(&self, of: &Type) -> (String, bool) {
        let plain = |text: &str| (text.to_owned(), false);
        match of {
            Type::Any => plain("Any"),
            Type::Null => plain("None"),
            Type::Boolean => plain("bool"),
            Type::Integer(_) => plain("int"),
            Type::Number => plain("float"),
            Type::Text => plain("str"),
            Type::Constants(values) => (constants(values), false),
            Type::List(of) => (format!("list[{}]", self.shown(of).0), false),
            Type::Map(of) => (format!("dict[str, {}]", self.shown(of).0), false),
            Type::Nullable(of) => match self.shown(of) {
                (of, true) => (format!("Union[{of}, None]"), false),
                (of, false) => (format!("{of} | None"), false),
            },
            Type::Named(place) if self.written[*place] => plain(self.code.name(*place)),
            Type::Named(place) => (quoted(self.code.name(*place)), true),
        }
    }

    fn union(&self, types: &[Type]) -> String {
        let types: Vec<(String, bool)> = types.iter().map(|of| self.shown(of)).collect();
        let has_later = types.iter().any(|(_, is_later)| *is_later);
        let types: Vec<String> = types.into_iter().map(|(of, _)| of).collect();
        if has_later {
            format!("Union[{}]", types.join(", "))
        } else {
            types.join(" | ")
        }
    }

    fn object(&self, name: &str, docs: &[String], object: &Object) -> String {
        let keys = object.fields.iter().map(|field| field.name.as_str());
        if keys.clone().all(|key| self.may_be_attribute(key)) {
            return self.class(name, docs, object);
        }
        let mut text = format!(
            "\n\n{}{name} = TypedDict(\n    {},\n    {{\n",
            comment("", "#", docs),
            quoted(name)
        );
        for field in &object.fields {
            text.push_str(&comment("        ", "#", &field.docs));
            let of = self.field(&field.of, field.is_required);
            let _ = writeln!(text, "        {}: {of},", quoted(&field.name));
        }
        text + "    },\n)\n"
    }

    fn class(&self, name: &str, docs: &[String], object: &Object) -> String {
        let mut text = format!("\n\nclass {name}(TypedDict):\n");
        let told: Vec<String> = lines(docs)
            .map(|line| line.replace('\\', "\\\\").replace('"', "\\\""))
            .collect();
        if !told.is_empty() {
            let _ = writeln!(text, "    \"\"\"{}\"\"\"", told.join("\n    "));
        } else if object.fields.is_empty() {
            text.push_str("    pass\n");
        }
        for (position, field) in object.fields.iter().enumerate() {
            let docs = comment("    ", "#", &field.docs);
            if (position == 0 && !told.is_empty()) || (position > 0 && !docs.is_empty()) {
                text.push('\n');
            }
            text.push_str(&docs);
            let of = self.field(&field.of, field.is_required);
            let _ = writeln!(text, "    {}: {of}", field.name);
        }
        text
    }

    fn field(&self, of: &Type, is_required: bool) -> String {
        let of = self.shown(of).0;
        if is_required {
            of
        } else {
            format!("NotRequired[{of}]")
        }
    }

    /// Whether a key can be written as an attribute of a class.
    fn may_be_attribute(&self, key: &str) -> bool {
        let is_identifier = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            // Python changes such names within a class.
            && !key.starts_with("__");
        is_identifier
            && !self.code.is_name(key)
            && !NO_FIELDS.split_ascii_whitespace().any(|word| word == key)
    }
}

/// Python has literals of texts, integers and booleans.
fn constants(values: &[Value]) -> String {
    let shown: Option<Vec<String>> = values
        .iter()
        .map(|value| match value {
            Value::Bool(true) => Some("True".to_owned()),
            Value::Bool(false) => Some("False".to_owned()),
            Value::String(text) => Some(quoted(text)),
            Value::Number(number) => {
                Some(number.to_string()).filter(|text| text.parse::<i128>().is_ok())
            }
            _ => None,
        })
        .collect();
    shown.map_or_else(
        || "Any".to_owned(),
        |shown| format!("Literal[{}]", shown.join(", ")),
    )
}
