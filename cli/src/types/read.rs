//! JSON Schemas read as types.
//!
//! What no language has types for (`not`, `if`, patterns, lengths, ranges) is passed over: a value of the type may still be refused by the
//! schema. Where the kind of a value can't be told at all, the type is any JSON, and a note says why.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::facts::{docs, further_docs, kinds_told_by, name_of_branch, width};
use super::merge::{base, flattened, has_structure, reference, target};
use super::model::{Field, Model, Object, Rest, Shape, Type};

/// Schemas that are nested deeper are any JSON.
const DEEPEST: usize = 64;
/// What is left of a schema with more parts than this is any JSON: alternatives of alternatives may be without number.
const MOST_PARTS: usize = 20_000;

/// Reads the schemas of one template into a model.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) model: Model,
    /// The definitions that references lead to, by the document and the reference. Templates tend to have the same ones in many schemas.
    references: HashMap<(String, String), usize>,
    /// What is to be told where the type that is being read is used.
    notes: Vec<String>,
    depth: usize,
    parts: usize,
}

/// A schema that has been read: a type of its own, which wants a name, or another one.
enum Read {
    Shape(Shape),
    Type(Type),
}

/// Where a schema stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    document: &'a Value,
    /// The name in words that a type of its own gets.
    words: &'a str,
}

impl Place<'_> {
    fn with<'a>(&'a self, words: &'a str) -> Place<'a> {
        Place {
            document: self.document,
            words,
        }
    }
}

impl Reader {
    /// Reads a schema under a name of its own; gives its place in the model.
    pub(super) fn root(&mut self, words: &str, about: &str, schema: &Value) -> usize {
        let place = self.model.add(words, Vec::new(), Shape::Alias(Type::Any));
        self.model.roots.push(place);
        self.parts = 0;
        self.define(
            place,
            schema,
            Place {
                document: schema,
                words,
            },
        );
        self.model.definitions[place]
            .docs
            .insert(0, about.to_owned());
        place
    }

    fn define(&mut self, definition: usize, schema: &Value, place: Place<'_>) {
        let outer = std::mem::take(&mut self.notes);
        let shape = match self.read(schema, place) {
            Read::Shape(shape) => shape,
            Read::Type(of) => Shape::Alias(of),
        };
        let notes = std::mem::replace(&mut self.notes, outer);
        let definition = &mut self.model.definitions[definition];
        definition.shape = shape;
        definition.docs = docs(schema);
        definition.docs.extend(further_docs(schema));
        definition.docs.extend(notes);
    }

    /// The type of a schema where it is used.
    fn type_of(&mut self, schema: &Value, place: Place<'_>) -> Type {
        match self.read(schema, place) {
            Read::Type(of) => of,
            Read::Shape(shape) => Type::Named(self.model.add(place.words, docs(schema), shape)),
        }
    }

    fn any(&mut self, why: impl Into<String>) -> Read {
        self.notes.push(why.into());
        Read::Type(Type::Any)
    }

    fn read(&mut self, schema: &Value, place: Place<'_>) -> Read {
        let schema = match schema {
            Value::Object(schema) => schema,
            Value::Bool(false) => return self.any("The schema allows no value here."),
            _ => return Read::Type(Type::Any),
        };
        self.parts += 1;
        if self.depth == DEEPEST || self.parts > MOST_PARTS {
            return self.any("Any JSON: the schema is too deep or too large for a type.");
        }
        self.depth += 1;
        let read = self.read_object(schema, place);
        self.depth -= 1;
        read
    }

    fn read_object(&mut self, schema: &Map<String, Value>, place: Place<'_>) -> Read {
        if let Some(reference) = reference(schema) {
            return self.referred(reference, place);
        }
        let Some(schema) = flattened(place.document, schema) else {
            return self.any("Any JSON: the schema refers to what isn't in it, or to itself.");
        };
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            return self.constants(values, place);
        }
        if let Some(value) = schema.get("const") {
            return self.constants(std::slice::from_ref(value), place);
        }
        for key in ["oneOf", "anyOf"] {
            let branches = schema.get(key).and_then(Value::as_array);
            if let Some(branches) = branches.filter(|branches| branches.iter().any(has_structure)) {
                return self.union(&base(&schema), branches, place);
            }
        }
        self.of_kinds(&schema, place)
    }

    fn referred(&mut self, reference: &str, place: Place<'_>) -> Read {
        let Some(schema) = target(place.document, reference) else {
            return self.any(format!("Any JSON: {reference} isn't in the schema."));
        };
        let definitions = ["$defs", "definitions"].map(|name| place.document.get(name));
        let is_definition =
            reference.starts_with("#/$defs/") || reference.starts_with("#/definitions/");
        let document = if is_definition {
            format!("{definitions:?}")
        } else {
            place.document.to_string()
        };
        let key = (document, reference.to_owned());
        if let Some(&definition) = self.references.get(&key) {
            return Read::Type(Type::Named(definition));
        }
        let last = reference.rsplit(['/', '#']).next().unwrap_or_default();
        let words = if last.is_empty() { place.words } else { last };
        let definition = self.model.add(words, Vec::new(), Shape::Alias(Type::Any));
        self.references.insert(key, definition);
        self.define(definition, schema, place.with(words));
        Read::Type(Type::Named(definition))
    }

    /// Null aside, all texts are an enum; other values stay what they are.
    fn constants(&mut self, values: &[Value], place: Place<'_>) -> Read {
        let others: Vec<Value> = values
            .iter()
            .filter(|value| !value.is_null())
            .cloned()
            .collect();
        let has_null = others.len() < values.len();
        let texts: Option<Vec<String>> = others
            .iter()
            .map(|value| value.as_str().map(str::to_owned))
            .collect();
        let of = match texts {
            _ if others.is_empty() => return Read::Type(Type::Null),
            Some(texts) if !has_null => return Read::Shape(Shape::Enum(texts)),
            Some(texts) => Type::Named(self.model.add(place.words, Vec::new(), Shape::Enum(texts))),
            None => {
                let shown: Vec<String> = others.iter().map(ToString::to_string).collect();
                let which = if shown.len() == 1 { "Always" } else { "One of" };
                self.notes.push(format!("{which} {}.", shown.join(", ")));
                Type::Constants(others)
            }
        };
        Read::Type(if has_null { of.or_null() } else { of })
    }

    fn union(&mut self, base: &Map<String, Value>, branches: &[Value], place: Place<'_>) -> Read {
        let mut types: Vec<Type> = Vec::new();
        let mut has_null = false;
        for (position, branch) in branches.iter().enumerate() {
            let words = format!("{} {}", place.words, name_of_branch(branch, position));
            let both = match (branch, base.is_empty()) {
                (branch, true) => branch.clone(),
                (branch, false) => serde_json::json!({"allOf": [base, branch]}),
            };
            match self.type_of(&both, place.with(&words)) {
                Type::Null => has_null = true,
                Type::Nullable(of) => {
                    has_null = true;
                    types.push(*of);
                }
                of => types.push(of),
            }
        }
        // Those that stay, each once.
        let mut once: Vec<Type> = Vec::new();
        for of in types {
            if !once.contains(&of) {
                once.push(of);
            }
        }
        if once.contains(&Type::Any) {
            return self.any("Any JSON: one of the alternatives is any JSON.");
        }
        let of = match once.len() {
            0 => Type::Null,
            1 => once.remove(0),
            _ if !has_null => return Read::Shape(Shape::Union(once)),
            _ => {
                let words = format!("{} value", place.words);
                Type::Named(self.model.add(&words, Vec::new(), Shape::Union(once)))
            }
        };
        Read::Type(if has_null { of.or_null() } else { of })
    }

    /// A schema with `type`, or with what only one kind of value has.
    fn of_kinds(&mut self, schema: &Map<String, Value>, place: Place<'_>) -> Read {
        let named = match schema.get("type") {
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(name)) => vec![name.as_str()],
            _ => kinds_told_by(schema),
        };
        let has_null = named.contains(&"null");
        let kinds: Vec<&str> = named
            .iter()
            .copied()
            .filter(|name| *name != "null")
            .collect();
        match kinds[..] {
            [] if has_null => Read::Type(Type::Null),
            [] if schema.contains_key("not") || schema.contains_key("if") => {
                self.any("Any JSON: what the schema says of it, no type can say.")
            }
            [] => Read::Type(Type::Any),
            [kind] if !has_null => self.of_kind(kind, schema, place),
            [kind] => match self.of_kind(kind, schema, place) {
                Read::Type(of) => Read::Type(of.or_null()),
                Read::Shape(shape) => {
                    let definition = self.model.add(place.words, Vec::new(), shape);
                    Read::Type(Type::Named(definition).or_null())
                }
            },
            _ => {
                let branches: Vec<Value> = named
                    .iter()
                    .map(|name| serde_json::json!({"type": name}))
                    .collect();
                let mut base = base(schema);
                base.remove("type");
                self.union(&base, &branches, place)
            }
        }
    }

    fn of_kind(&mut self, kind: &str, schema: &Map<String, Value>, place: Place<'_>) -> Read {
        Read::Type(match kind {
            "boolean" => Type::Boolean,
            "integer" => Type::Integer(width(schema)),
            "number" => Type::Number,
            "string" => Type::Text,
            "array" => self.array(schema, place),
            "object" => return self.object(schema, place),
            _ => Type::Any,
        })
    }

    fn array(&mut self, schema: &Map<String, Value>, place: Place<'_>) -> Type {
        let is_tuple =
            schema.contains_key("prefixItems") || schema.get("items").is_some_and(Value::is_array);
        if is_tuple {
            self.notes.push(
                "The items differ by their place, which no type says: each is any JSON.".to_owned(),
            );
            return Type::Any.list();
        }
        let words = format!("{} item", place.words);
        match schema.get("items") {
            Some(items) => self.type_of(items, place.with(&words)).list(),
            None => Type::Any.list(),
        }
    }

    fn object(&mut self, schema: &Map<String, Value>, place: Place<'_>) -> Read {
        let properties = schema.get("properties").and_then(Value::as_object);
        let required = schema.get("required").and_then(Value::as_array);
        let required: Vec<&str> = required
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let mut named: Vec<(&str, &Value)> = properties
            .into_iter()
            .flatten()
            .map(|(name, schema)| (name.as_str(), schema))
            .collect();
        for name in &required {
            if !named.iter().any(|(other, _)| other == name) {
                named.push((name, &Value::Bool(true)));
            }
        }
        // A template that is registered has lost its author's order.
        named.sort_unstable_by_key(|(name, _)| *name);
        let additional = schema.get("additionalProperties");
        let patterns = schema.get("patternProperties").and_then(Value::as_object);
        if named.is_empty() {
            return self.map(additional, patterns, place);
        }
        let rest = match (additional, patterns) {
            (Some(Value::Bool(false)), None) => Rest::Refused,
            (None, None) => Rest::Ignored,
            _ => Rest::Kept,
        };
        let fields = named.into_iter().map(|(name, schema)| {
            let words = format!("{} {name}", place.words);
            let outer = std::mem::take(&mut self.notes);
            let of = self.type_of(schema, place.with(&words));
            let notes = std::mem::replace(&mut self.notes, outer);
            let mut docs = docs(schema);
            if let Type::Named(part) = of
                && self.model.definitions[part].docs == docs
            {
                // Told there.
                docs.clear();
            }
            docs.extend(further_docs(schema));
            docs.extend(notes);
            Field {
                name: name.to_owned(),
                docs,
                is_required: required.contains(&name),
                of,
            }
        });
        let fields = fields.collect();
        Read::Shape(Shape::Object(Object { fields, rest }))
    }

    /// An object whose fields have no names in the schema.
    fn map(
        &mut self,
        additional: Option<&Value>,
        patterns: Option<&Map<String, Value>>,
        place: Place<'_>,
    ) -> Read {
        let words = format!("{} value", place.words);
        let patterns: Vec<&Value> = patterns.into_iter().flat_map(Map::values).collect();
        let closed = matches!(additional, Some(Value::Bool(false)));
        let of = match (&patterns[..], additional) {
            ([], Some(Value::Bool(false))) => {
                let fields = Vec::new();
                return Read::Shape(Shape::Object(Object {
                    fields,
                    rest: Rest::Refused,
                }));
            }
            ([], Some(additional)) => self.type_of(additional, place.with(&words)),
            ([only], _) if closed || additional.is_none() => self.type_of(only, place.with(&words)),
            _ => Type::Any,
        };
        Read::Type(Type::Map(Box::new(of)))
    }
}

#[cfg(test)]
mod tests;
