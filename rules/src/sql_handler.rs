//! Handlers that are functions of the database: `sql:schema.function`. Not here: whether there is such a function, and who may call it.

/// What the callable of such a handler begins with.
pub const PREFIX: &str = "sql:";

/// The longest name that PostgreSQL keeps, in bytes.
const NAME_MAX: usize = 63;

/// Whether a callable is meant to be a function of the database, whether its form is right or not. No worker runs it.
#[must_use]
pub fn is_sql(callable: &str) -> bool {
    callable.trim_start().starts_with(PREFIX)
}

/// The schema and the name of the function, as PostgreSQL has them in its catalogue: nothing is folded to lower case. `None` where the form is another than
/// `sql:schema.function`, both of letters, digits, `_` and `$`, 63 at most, and not beginning with a digit or `$`.
#[must_use]
pub fn function_of(callable: &str) -> Option<(&str, &str)> {
    let (schema, function) = callable.strip_prefix(PREFIX)?.split_once('.')?;
    (is_name(schema) && is_name(function)).then_some((schema, function))
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let begins = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.len() <= NAME_MAX
        && bytes.next().is_some_and(begins)
        && bytes.all(|byte| begins(byte) || byte.is_ascii_digit() || byte == b'$')
}
