//! What the catalogue says of the extension and of everything in its schema, and how two databases differ in it.
//!
//! Object ids and the order of a table's columns don't count; the order of a composite type's fields does. What lies in the tables isn't looked at.

mod functions;
mod queries;

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use sqlx::PgConnection;

pub use functions::{Function, functions, statements_to_reach};

/// What is said of each object, by the object and what it is about.
pub type Catalogue = BTreeMap<(String, String), String>;

/// What is said of an object that only one of two databases has.
const WHOLE: &str = "the whole";

/// One thing that two databases say differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The object: `column tasker.steps.state`.
    pub object: String,
    /// What is said of it: `default`.
    pub about: String,
    /// What the first database says; `None` when it says nothing of it.
    pub wanted: Option<String>,
    /// What the second says.
    pub found: Option<String>,
}

impl Display for Difference {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            object,
            about,
            wanted,
            found,
        } = self;
        match (wanted, found) {
            (Some(_), None) if about == WHOLE => write!(formatter, "{object} is missing"),
            (None, Some(_)) if about == WHOLE => write!(formatter, "{object} is too much"),
            (Some(wanted), None) => write!(formatter, "{object}: missing, {about}: {wanted}"),
            (None, Some(found)) => write!(formatter, "{object}: too much, {about}: {found}"),
            _ => write!(
                formatter,
                "{object}: {about} is\n    {}\n  and should be\n    {}",
                found.as_deref().unwrap_or_default(),
                wanted.as_deref().unwrap_or_default()
            ),
        }
    }
}

/// Everything that the catalogue says of the extension and of its schema.
pub async fn catalogue(session: &mut PgConnection) -> anyhow::Result<Catalogue> {
    let mut catalogue = Catalogue::new();
    for query in queries::ALL {
        let rows: Vec<(String, String, String)> =
            sqlx::query_as(query).fetch_all(&mut *session).await?;
        for (object, about, said) in rows {
            let twice = catalogue.insert((object.clone(), about.clone()), said);
            anyhow::ensure!(twice.is_none(), "{object} has two of {about}");
        }
    }
    Ok(catalogue)
}

/// What the second database has to change to be like the first. Of an object that one of them lacks, only that is said.
#[must_use]
pub fn differences(wanted: &Catalogue, found: &Catalogue) -> Vec<Difference> {
    let mut keys: Vec<_> = wanted.keys().chain(found.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut differences: Vec<Difference> = keys
        .into_iter()
        .filter(|key| wanted.get(key) != found.get(key))
        .map(|key| Difference {
            object: key.0.clone(),
            about: key.1.clone(),
            wanted: wanted.get(key).cloned(),
            found: found.get(key).cloned(),
        })
        .collect();
    let has = |catalogue: &Catalogue, object: &str| {
        let first = (object.to_owned(), String::new());
        catalogue
            .range(first..)
            .next()
            .is_some_and(|((found, _), _)| found == object)
    };
    for difference in &mut differences {
        if !has(wanted, &difference.object) || !has(found, &difference.object) {
            let whole = WHOLE.to_owned();
            difference.wanted = difference.wanted.is_some().then(|| whole.clone());
            difference.found = difference.found.is_some().then(|| whole.clone());
            difference.about = whole;
        }
    }
    differences.dedup();
    differences
}
