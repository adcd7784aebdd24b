//! What a key or a token allows its holder: permissions `resource:action`, with `resource:*` for all of a resource and `*` for everything.

use crate::nearest::did_you_mean;

/// Allows everything.
const EVERYTHING: &str = "*";
/// The longest permission that is read.
const MAX_LENGTH: usize = 64;
/// The most permissions that a key or a token may have.
const MAX_COUNT: usize = 64;

/// The permissions there are, each with what it allows.
pub const PERMISSIONS: [(&str, &str); 20] = [
    ("tasks:create", "create tasks"),
    ("tasks:read", "see a task, its graph, history and events"),
    ("tasks:list", "list tasks"),
    ("tasks:cancel", "cancel tasks"),
    (
        "tasks:manage",
        "pause, resume, rerun and signal tasks, bulk jobs",
    ),
    ("steps:read", "see the steps of a task and their history"),
    ("steps:resolve", "reset, complete and resolve steps by hand"),
    ("templates:read", "see and validate templates"),
    ("templates:write", "register and retire templates"),
    ("dlq:read", "see dead letters"),
    ("dlq:update", "open and resolve dead letters"),
    ("domain_events:read", "see domain events and subscriptions"),
    (
        "domain_events:subscribe",
        "subscribe to domain events, claim and finish them",
    ),
    (
        "domain_events:manage",
        "end subscriptions, send domain events again",
    ),
    (
        "schedules:write",
        "create, pause, delete and backfill schedules",
    ),
    (
        "system:read",
        "see workers, queues, schedules and namespaces",
    ),
    (
        "system:manage",
        "pause namespaces and change their settings, retire workers",
    ),
    ("system:analytics_read", "see statistics"),
    ("system:config_read", "see the server's settings"),
    (
        "workers:work",
        "claim, run and finish steps through the server",
    ),
];

/// A permission that can't be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPermissions {
    /// It isn't of the form `resource:action`.
    #[error("{0:?} is not a permission")]
    Malformed(String),
    /// Nothing asks for it.
    #[error("there is no permission {name:?}{question}")]
    Unknown {
        /// What was given.
        name: String,
        /// The permission that may have been meant, as a question; empty when none is near.
        question: String,
    },
    /// There are none, or too many.
    #[error("a key or a token has 1 to {MAX_COUNT} permissions, not {0}")]
    Count(usize),
}

/// Refuses permissions that have not the form of one: words of lower-case letters and `_`, joined by a colon. Whether anything asks for them isn't looked at: a server may be newer than
/// the database that keeps its keys.
pub fn check_form(permissions: &[impl AsRef<str>]) -> Result<(), BadPermissions> {
    if permissions.is_empty() || permissions.len() > MAX_COUNT {
        return Err(BadPermissions::Count(permissions.len()));
    }
    let malformed = permissions
        .iter()
        .map(AsRef::as_ref)
        .find(|permission| !is_formed(permission));
    malformed.map_or(Ok(()), |permission| {
        Err(BadPermissions::Malformed(permission.to_owned()))
    })
}

/// Refuses permissions that nothing asks for, besides those that have not the form of one.
pub fn check_known(permissions: &[impl AsRef<str>]) -> Result<(), BadPermissions> {
    check_form(permissions)?;
    let is_known = |given: &str| {
        given == EVERYTHING || PERMISSIONS.iter().any(|(known, _)| covers(given, known))
    };
    let unknown = permissions
        .iter()
        .map(AsRef::as_ref)
        .find(|permission| !is_known(permission));
    unknown.map_or(Ok(()), |name| {
        Err(BadPermissions::Unknown {
            name: name.to_owned(),
            question: did_you_mean(name, PERMISSIONS.iter().map(|(known, _)| *known)),
        })
    })
}

/// Whether one of the permissions given allows what is needed.
#[must_use]
pub fn allow(given: &[impl AsRef<str>], needed: &str) -> bool {
    given.iter().any(|given| covers(given.as_ref(), needed))
}

fn covers(given: &str, needed: &str) -> bool {
    if given == EVERYTHING || given == needed {
        return true;
    }
    match (given.split_once(':'), needed.split_once(':')) {
        (Some((resource, EVERYTHING)), Some((needed, _))) => resource == needed,
        _ => false,
    }
}

fn is_formed(permission: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    if permission.len() > MAX_LENGTH {
        return false;
    }
    match permission.split_once(':') {
        None => permission == EVERYTHING,
        Some((resource, action)) => is_word(resource) && (action == EVERYTHING || is_word(action)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permission_allows_itself_its_resource_all_of_it_and_a_star_everything() {
        for (needed, _) in PERMISSIONS {
            let (resource, _) = needed.split_once(':').expect("a colon");
            for (given, is_allowed) in [
                (needed.to_owned(), true),
                (format!("{resource}:*"), true),
                ("*".to_owned(), true),
                (format!("{resource}:"), false),
                (format!("{resource}s:*"), false),
                ("*:*".to_owned(), false),
                (resource.to_owned(), false),
                (String::new(), false),
            ] {
                assert_eq!(allow(&[&given], needed), is_allowed, "{given} {needed}");
            }
        }
        assert!(!allow(&[] as &[&str], "tasks:read"));
        assert!(!allow(&["tasks:read"], "tasks:list"));
    }

    #[test]
    fn what_has_not_the_form_of_a_permission_is_refused() {
        for given in [
            "",
            "tasks",
            "tasks:",
            ":read",
            "*:read",
            "*:*",
            "Tasks:read",
            "tasks:read ",
            "tasks:re*",
            "tasks:read:x",
            "ts:é",
        ] {
            assert_eq!(
                check_form(&["*", given]),
                Err(BadPermissions::Malformed(given.to_owned()))
            );
        }
        let long = format!("a:{}", "b".repeat(MAX_LENGTH));
        assert!(check_form(&[long]).is_err());
        assert_eq!(check_form(&[] as &[&str]), Err(BadPermissions::Count(0)));
        assert!(check_form(&vec!["*"; MAX_COUNT + 1]).is_err());
    }

    #[test]
    fn what_nothing_asks_for_is_refused_with_the_name_that_may_have_been_meant() {
        let known: Vec<&str> = PERMISSIONS.iter().map(|(name, _)| *name).collect();
        assert_eq!(check_known(&known), Ok(()));
        assert_eq!(check_known(&["*", "tasks:*", "system:*"]), Ok(()));
        assert_eq!(check_form(&["tasks:fly"]), Ok(()));
        let error = check_known(&["tasks:creat"]).expect_err("unknown");
        assert_eq!(
            error.to_string(),
            "there is no permission \"tasks:creat\"; did you mean \"tasks:create\"?"
        );
        assert!(check_known(&["cats:*"]).is_err());
    }
}
