//! For whom a server calls: its own role's connections act for one caller after the other, each within the namespaces that the caller may reach.
//!
//! A client made with [`Client::connect_lazy_serving`](crate::Client::connect_lazy_serving) says so to the database whenever a connection is handed out, so that no function needs to know.
//! Who is served is known from the scope in which the call is made; outside of any, such a client reaches no namespace.

use std::future::Future;
use std::sync::Arc;

use sqlx::PgConnection;

/// The longest name of a caller that history keeps, in characters.
const LONGEST_CALLER: usize = 200;

tokio::task_local! {
    static ACTING: Arc<Acting>;
}

/// For whom calls are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acting {
    caller: Option<String>,
    namespaces: Option<Vec<String>>,
}

impl Acting {
    /// For a caller, by the name that history is to show beside the role, within some namespaces; `None` is all that the role may reach. Of a long name the beginning is kept, and control
    /// characters are replaced.
    #[must_use]
    pub fn for_caller(name: &str, namespaces: Option<Vec<String>>) -> Self {
        let kept = name.chars().take(LONGEST_CALLER);
        let plain = kept.map(|c| if c.is_control() { '\u{FFFD}' } else { c });
        let caller: String = plain.collect();
        Self {
            caller: (!caller.is_empty()).then_some(caller),
            namespaces,
        }
    }

    /// For the program itself, which reaches all that its role may.
    #[must_use]
    pub fn for_itself() -> Self {
        Self {
            caller: None,
            namespaces: None,
        }
    }

    /// Makes the calls of a future so. What it spawns is outside, and so is a body that is still written when the future has ended.
    pub async fn scope<F: Future>(self, calls: F) -> F::Output {
        ACTING.scope(Arc::new(self), calls).await
    }

    fn current() -> Arc<Self> {
        let nowhere = || Self {
            caller: None,
            namespaces: Some(Vec::new()),
        };
        ACTING
            .try_with(Arc::clone)
            .unwrap_or_else(|_| Arc::new(nowhere()))
    }
}

/// Tells the database for whom the next calls over a connection are made.
pub(crate) async fn serve(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let acting = Acting::current();
    sqlx::query("select tasker.serve_caller(caller => $1, namespaces => $2)")
        .bind(acting.caller.as_deref())
        .bind(acting.namespaces.as_deref())
        .execute(connection)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn outside_of_any_scope_no_namespace_is_reached() {
        assert_eq!(Acting::current().namespaces, Some(Vec::new()));
        let inside = Acting::for_itself()
            .scope(async { Acting::current() })
            .await;
        assert_eq!(*inside, Acting::for_itself());
        let spawned = Acting::for_itself()
            .scope(async { tokio::spawn(async { Acting::current() }).await })
            .await
            .expect("it ends");
        assert_eq!(spawned.namespaces, Some(Vec::new()));
    }

    #[test]
    fn the_name_of_a_caller_is_one_that_history_can_keep() {
        let long = Acting::for_caller(&"é".repeat(300), None);
        assert_eq!(long.caller.map(|name| name.chars().count()), Some(200));
        let steering = Acting::for_caller("a\nb", None);
        assert_eq!(steering.caller.as_deref(), Some("a\u{FFFD}b"));
        assert_eq!(Acting::for_caller("", None), Acting::for_itself());
    }
}
