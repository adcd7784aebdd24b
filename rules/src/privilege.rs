//! What a role may do in which namespace, from the grants that it has.

use std::collections::BTreeMap;

use crate::named::named_enum;

named_enum! {
    /// What a grant of a namespace allows.
    Privilege, "privilege" {
        /// To see what is in it.
        Read = "read",
        /// To create tasks in it.
        Create = "create",
        /// To claim and finish its steps.
        Work = "work",
        /// To change its tasks, and to see them.
        Operate = "operate",
    }
}

/// Stands for all namespaces, those made later too.
pub const EVERY_NAMESPACE: &str = "*";

impl Privilege {
    /// Whether who has this one may do what the other one allows.
    const fn includes(self, other: Self) -> bool {
        self as u8 == other as u8 || matches!((self, other), (Self::Operate, Self::Read))
    }
}

/// The grants of one role, its own and those of the roles it is a member of.
#[derive(Debug, Clone, Default)]
pub struct Rights(BTreeMap<String, Vec<Privilege>>);

impl Rights {
    /// Adds a grant.
    pub fn add(&mut self, namespace: &str, privilege: Privilege) {
        self.0
            .entry(namespace.to_owned())
            .or_default()
            .push(privilege);
    }

    /// Whether the role may do something in a namespace.
    #[must_use]
    pub fn may(&self, namespace: &str, privilege: Privilege) -> bool {
        [namespace, EVERY_NAMESPACE]
            .iter()
            .any(|namespace| self.has(namespace, privilege))
    }

    /// The namespaces in which the role may do something; `None` is all of them.
    #[must_use]
    pub fn namespaces(&self, privilege: Privilege) -> Option<Vec<&str>> {
        if self.has(EVERY_NAMESPACE, privilege) {
            return None;
        }
        let names = self.0.keys().map(String::as_str);
        Some(names.filter(|name| self.has(name, privilege)).collect())
    }

    fn has(&self, namespace: &str, privilege: Privilege) -> bool {
        self.0
            .get(namespace)
            .is_some_and(|granted| granted.iter().any(|granted| granted.includes(privilege)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(grants: &[(&str, Privilege)]) -> Rights {
        let mut rights = Rights::default();
        for &(namespace, privilege) in grants {
            rights.add(namespace, privilege);
        }
        rights
    }

    #[test]
    fn a_privilege_allows_itself_and_only_operate_allows_another_one() {
        for &granted in Privilege::ALL {
            for &asked in Privilege::ALL {
                let is_allowed =
                    granted == asked || (granted, asked) == (Privilege::Operate, Privilege::Read);
                let rights = rights(&[("a", granted)]);
                assert_eq!(rights.may("a", asked), is_allowed, "{granted} {asked}");
                assert!(!rights.may("b", asked));
            }
        }
    }

    #[test]
    fn without_a_grant_nothing_is_allowed_and_no_namespace_is_open() {
        for &asked in Privilege::ALL {
            assert!(!Rights::default().may("a", asked));
            assert_eq!(Rights::default().namespaces(asked), Some(Vec::new()));
        }
    }

    #[test]
    fn a_grant_of_every_namespace_holds_in_each() {
        let rights = rights(&[("*", Privilege::Operate), ("a", Privilege::Work)]);
        assert!(rights.may("b", Privilege::Read));
        assert_eq!(rights.namespaces(Privilege::Read), None);
        assert_eq!(rights.namespaces(Privilege::Work), Some(vec!["a"]));
    }

    #[test]
    fn the_open_namespaces_are_those_with_a_grant_that_allows_it() {
        let rights = rights(&[
            ("b", Privilege::Operate),
            ("a", Privilege::Read),
            ("c", Privilege::Create),
        ]);
        assert_eq!(rights.namespaces(Privilege::Read), Some(vec!["a", "b"]));
        assert_eq!(rights.namespaces(Privilege::Operate), Some(vec!["b"]));
    }
}
