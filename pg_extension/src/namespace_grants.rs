//! What the caller may do in which namespace: what its role is granted, while `tasker.check_namespaces` is on, within what its session is limited to (`served_caller`). While neither is so,
//! nothing is looked up, and everything is allowed.
//!
//! The grants of a role are read once for each moment of a transaction: a change of its own is seen at once, another transaction's at the latest in the next one. Not here: which
//! privilege a call needs (each call says that itself), and how grants are made (`sql/110_namespace_grants.sql`).

use std::cell::RefCell;
use std::ffi::{CStr, CString};
use std::rc::Rc;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{pg_extern, pg_sys};
use tasker_rules::privilege::{EVERY_NAMESPACE, Privilege, Rights};
use tasker_rules::reach::Reach;

use crate::error::Error;
use crate::statements::{Session, Statement, session};
use crate::values::{self, Value};
use crate::{actor, edition, settings};

/// From a role to what it is a member of: other roles' grants, however many, aren't looked at.
const GRANTED: Statement = Statement {
    name: "granted_namespaces",
    text: "with recursive reached(role_id) as (
             select $1
             union
             select m.roleid from reached r join pg_catalog.pg_auth_members m on m.member = r.role_id
           )
           select n.namespace, n.privilege
           from reached r
           join {} n on n.role = pg_catalog.pg_get_userbyid(r.role_id)
           where pg_catalog.pg_has_role($1, r.role_id, 'usage')",
    rows: None,
    parameters: &[pg_sys::OIDOID],
};

/// As long as it is the same, so are the grants that a session sees and who asks.
#[derive(Debug, PartialEq, Eq)]
struct Moment {
    transaction: pg_sys::LocalTransactionId,
    subtransaction: pg_sys::SubTransactionId,
    command: pg_sys::CommandId,
    role: pg_sys::Oid,
}

impl Moment {
    fn now() -> Self {
        // SAFETY: reads the state of this backend's transaction.
        unsafe {
            #[cfg(any(feature = "pg15", feature = "pg16"))]
            let transaction = (*pg_sys::MyProc).lxid;
            #[cfg(not(any(feature = "pg15", feature = "pg16")))]
            let transaction = (*pg_sys::MyProc).vxid.lxid;
            Self {
                transaction,
                subtransaction: pg_sys::GetCurrentSubTransactionId(),
                command: pg_sys::GetCurrentCommandId(false),
                role: role(),
            }
        }
    }
}

thread_local! {
    static KEPT: RefCell<Option<(Moment, Rc<Rights>)>> = const { RefCell::new(None) };
}

/// Whose grants count: the caller's, or those of whoever has left it to maintenance. One that is gone has none.
fn role() -> pg_sys::Oid {
    match settings::acting_for() {
        Some(name) => role_of(&name),
        None => actor::role(),
    }
}

fn role_of(name: &CStr) -> pg_sys::Oid {
    // SAFETY: a look-up in the system's caches.
    unsafe { pg_sys::get_role_oid(name.as_ptr(), true) }
}

/// Superusers, the owner of the extension's tables and members of `tasker_admin`.
fn needs_no_grant(role: pg_sys::Oid) -> bool {
    let admin = role_of(c"tasker_admin");
    // SAFETY: look-ups in the system's caches.
    unsafe {
        pg_sys::superuser_arg(role)
            || (admin != pg_sys::InvalidOid && pg_sys::has_privs_of_role(role, admin))
            || edition::relation(c"templates").is_some_and(|table| owns(table, role))
    }
}

#[cfg(feature = "pg15")]
unsafe fn owns(table: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: the caller's.
    unsafe { pg_sys::pg_class_ownercheck(table, role) }
}

#[cfg(not(feature = "pg15"))]
unsafe fn owns(table: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: the caller's.
    unsafe { pg_sys::object_ownercheck(pg_sys::RelationRelationId, table, role) }
}

/// What the caller may do: what its role is granted, all while no grants are asked for, within the limit of its session.
pub(crate) struct Caller {
    rights: Option<Rc<Rights>>,
    reach: Reach,
}

impl Caller {
    /// The caller of this moment.
    pub(crate) fn now(session: &Session) -> Result<Self, Error> {
        let rights = if settings::checks_namespaces() {
            Some(Self::rights_now(session)?)
        } else {
            None
        };
        let reach = settings::reach();
        Ok(Self { rights, reach })
    }

    fn rights_now(session: &Session) -> Result<Rc<Rights>, Error> {
        let now = Moment::now();
        let kept = KEPT.with_borrow(|kept| match kept {
            Some((moment, rights)) if *moment == now => Some(Rc::clone(rights)),
            _ => None,
        });
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let rights = Rc::new(read(session, now.role)?);
        KEPT.replace(Some((now, Rc::clone(&rights))));
        Ok(rights)
    }

    /// Whether anything is checked.
    pub(crate) fn is_checked(&self) -> bool {
        self.rights.is_some() || self.reach.is_limited()
    }

    /// Whether the caller may do something in a namespace.
    pub(crate) fn may(&self, namespace: &str, privilege: Privilege) -> bool {
        let is_granted = |rights: &Rc<Rights>| rights.may(namespace, privilege);
        self.reach.holds(namespace) && self.rights.as_ref().is_none_or(is_granted)
    }

    /// The namespaces in which the caller may do something; `None` is all of them.
    fn namespaces(&self, privilege: Privilege) -> Option<Vec<&str>> {
        let Some(mut within) = self.reach.namespaces() else {
            return self.rights.as_ref()?.namespaces(privilege);
        };
        within.retain(|name| self.may(name, privilege));
        Some(within)
    }

    /// Refuses the call when there is a namespace in which the caller may not do something, also one that there is not.
    pub(crate) fn require<'a>(
        &self,
        mut namespaces: impl Iterator<Item = &'a str>,
        privilege: Privilege,
    ) -> Result<(), Error> {
        let closed = namespaces.find(|namespace| !self.may(namespace, privilege));
        closed.map_or(Ok(()), |namespace| {
            Err(if self.reach.holds(namespace) {
                refusal(namespace, privilege)
            } else {
                out_of_reach(namespace, &self.reach)
            })
        })
    }
}

fn read(session: &Session, role: pg_sys::Oid) -> Result<Rights, Error> {
    let mut rights = Rights::default();
    if role == pg_sys::InvalidOid {
        return Ok(rights);
    }
    if needs_no_grant(role) {
        for &privilege in Privilege::ALL {
            rights.add(EVERY_NAMESPACE, privilege);
        }
        return Ok(rights);
    }
    // A schema that hasn't got it yet grants nothing.
    if edition::relation(c"namespace_grants").is_none() {
        return Ok(rights);
    }
    let granted = [Value::oid(role)];
    session.rows(&GRANTED, "tasker.namespace_grants", &granted, |row| {
        rights.add(row.text(0), row.text(1).parse()?);
        Ok(())
    })?;
    Ok(rights)
}

fn refusal(namespace: &str, privilege: Privilege) -> Error {
    let role =
        settings::acting_for().map_or_else(actor::name, |name| name.to_string_lossy().into_owned());
    let message = format!("role {role} lacks the privilege {privilege} in namespace {namespace}");
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let hint = format!(
        "An admin grants it: select tasker.grant_namespace({}, {}, '{privilege}').",
        quoted(&role),
        quoted(namespace)
    );
    let detail = "Grants are asked for while tasker.check_namespaces is on.".to_owned();
    Error::refused("42501", message, Some(detail), Some(&hint))
}

fn out_of_reach(namespace: &str, reach: &Reach) -> Error {
    let caller = settings::served_caller().map_or_else(
        || "the session".to_owned(),
        |caller| caller.to_string_lossy().into_owned(),
    );
    let message = format!("{caller} can not reach namespace {namespace}");
    let names = reach.namespaces().unwrap_or_default().join(", ");
    let detail = format!("It is limited to these namespaces: {names}.");
    let hint = "Use a key or a token that reaches it.";
    Error::refused("42501", message, Some(detail), Some(hint))
}

/// Whether the caller may do something in a namespace; in none, null, everything.
#[pg_extern(stable, parallel_unsafe)]
fn _may(namespace: Option<&str>, privilege: &str) -> Result<bool, ErrorReport> {
    let Some(namespace) = namespace.filter(|_| settings::asks_for_namespaces()) else {
        return Ok(true);
    };
    Ok(session(|session| {
        Ok(Caller::now(session)?.may(namespace, privilege.parse()?))
    })?)
}

/// The refusal of a caller who may not do something in one of the namespaces (42501); null when there is none to refuse. Nulls name nothing.
#[pg_extern(stable, parallel_unsafe)]
fn _namespace_problem(
    namespaces: Option<Vec<Option<String>>>,
    privilege: &str,
) -> Result<Option<Vec<Option<String>>>, ErrorReport> {
    let Some(namespaces) = namespaces.filter(|_| settings::asks_for_namespaces()) else {
        return Ok(None);
    };
    let required = session(|session| {
        Caller::now(session)?.require(
            namespaces.iter().flatten().map(String::as_str),
            privilege.parse()?,
        )
    });
    Ok(values::refused(required)?)
}

/// The namespaces in which the caller may do something; null is all of them.
#[pg_extern(stable, parallel_unsafe)]
fn _open_namespaces(privilege: &str) -> Result<Option<Vec<String>>, ErrorReport> {
    if !settings::asks_for_namespaces() {
        return Ok(None);
    }
    Ok(session(|session| {
        let caller = Caller::now(session)?;
        let names = caller.namespaces(privilege.parse()?);
        Ok(names.map(|names| names.into_iter().map(str::to_owned).collect()))
    })?)
}

/// From now on in this transaction, what a role may do counts in the caller's place; without one, the caller's again.
#[pg_extern(volatile, parallel_unsafe)]
fn _act_for(role: Option<&str>) -> Result<(), ErrorReport> {
    let role = CString::new(role.unwrap_or_default()).map_err(|_| Error::NameUnusable)?;
    settings::act_for(&role);
    Ok(())
}
