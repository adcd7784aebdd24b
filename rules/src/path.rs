//! Paths into a document, as findings show them: `steps[2].retry.max_attempts`.

use std::fmt::Write as _;

use serde_json::Value;

/// Adds a field to a path. Names that would be read wrongly are quoted: `events["order.shipped"]`.
pub(crate) fn push_field(path: &mut String, name: &str) {
    let is_plain = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'$'));
    if is_plain {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(name);
    } else {
        let _ = write!(path, "[{name:?}]");
    }
}

/// Adds a position to a path.
pub(crate) fn push_index(path: &mut String, index: usize) {
    let _ = write!(path, "[{index}]");
}

/// The path of a field inside another path.
pub(crate) fn field(path: &str, name: &str) -> String {
    let mut path = path.to_owned();
    push_field(&mut path, name);
    path
}

/// Joins a path inside a part of a document to the path of that part.
pub(crate) fn join(outer: &str, inner: &str) -> String {
    let separator = if outer.is_empty() || inner.is_empty() || inner.starts_with('[') {
        ""
    } else {
        "."
    };
    format!("{outer}{separator}{inner}")
}

/// The same path for a JSON pointer (RFC 6901) into `document`, which tells positions from fields with digits for names.
pub(crate) fn of_pointer(pointer: &str, document: &Value) -> String {
    let mut path = String::new();
    let mut here = Some(document);
    for segment in pointer.split('/').skip(1) {
        let name = segment.replace("~1", "/").replace("~0", "~");
        if let (Some(Value::Array(items)), Ok(index)) = (here, name.parse::<usize>()) {
            push_index(&mut path, index);
            here = items.get(index);
        } else {
            push_field(&mut path, &name);
            here = here.and_then(|value| value.get(&name));
        }
    }
    path
}
