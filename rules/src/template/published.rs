//! The JSON Schema of a template, made from the types. It checks documents here, and editors read it.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform as _};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::Template;

static PUBLISHED: LazyLock<Value> = LazyLock::new(|| {
    let mut schema = SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<Template>();
    RecursiveTransform(without_null_default).transform(&mut schema);
    schema.to_value()
});

/// That a field may be left out is said by its not being required.
fn without_null_default(schema: &mut Schema) {
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
}

/// The JSON Schema (draft 2020-12) of a template, aliases included.
#[must_use]
pub fn json_schema() -> Value {
    PUBLISHED.clone()
}

pub(super) fn published() -> &'static Value {
    &PUBLISHED
}

/// Lets a property go by a second name as well.
pub(super) fn alias(name: &'static str, alias: &'static str) -> impl FnMut(&mut Schema) {
    move |schema| {
        if let Some(Value::Object(properties)) = schema.get_mut("properties")
            && let Some(property) = properties.get(name).cloned()
        {
            properties.insert(alias.to_owned(), property);
        }
    }
}

/// The schema of a field that holds a JSON Schema itself.
pub(super) fn json_schema_value(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["object", "boolean", "null"] })
}

/// Gives an enum of fixed names a schema that lists them.
macro_rules! enum_schema {
    ($enum:ident) => {
        impl schemars::JsonSchema for $enum {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($enum).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let names: Vec<&str> = Self::ALL.iter().map(|value| value.as_str()).collect();
                schemars::json_schema!({ "type": "string", "enum": names })
            }
        }
    };
}
pub(super) use enum_schema;
