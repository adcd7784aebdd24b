//! Structures inside a body, read from JSON objects only: serde would take an array for one as well, field by field.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// For `deserialize_with` of a field that is a structure.
pub(crate) fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Object::deserialize(deserializer).map(|Object(inner)| inner)
}

/// For `deserialize_with` of a field that is a list of structures.
pub(crate) fn objects<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let objects = Vec::<Object<T>>::deserialize(deserializer)?;
    Ok(objects.into_iter().map(|Object(inner)| inner).collect())
}

struct Object<T>(T);

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_map(ObjectVisitor(PhantomData))
            .map(Self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(fields))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[derive(Deserialize)]
    struct Outer {
        #[serde(deserialize_with = "object")]
        one: Inner,
        #[serde(deserialize_with = "objects")]
        many: Vec<Inner>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, default)]
    #[derive(Default)]
    struct Inner {
        n: Option<Box<RawValue>>,
    }

    #[test]
    fn an_object_is_read_with_its_payloads_as_they_are() {
        let outer: Outer =
            serde_json::from_str(r#"{"one": {"n": 1.10}, "many": [{}, {"n": [1]}]}"#)
                .expect("it fits");
        assert_eq!(
            outer.one.n.map(|n| n.get().to_owned()).as_deref(),
            Some("1.10")
        );
        assert_eq!(outer.many.len(), 2);
    }

    #[test]
    fn an_array_is_no_object() {
        for text in [
            r#"{"one": [], "many": []}"#,
            r#"{"one": [1], "many": []}"#,
            r#"{"one": null, "many": []}"#,
            r#"{"one": {}, "many": [[1]]}"#,
            r#"{"one": {"m": 1}, "many": []}"#,
        ] {
            let error = serde_json::from_str::<Outer>(text).err();
            assert!(error.is_some_and(|error| error.is_data()), "{text}");
        }
    }
}
