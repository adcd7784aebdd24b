//! What an application needs, over SQL or over REST: create tasks, look at them, steer them, wait for their results, follow what happens.
//!
//! | module | holds |
//! |---|---|
//! | `calls` | the calls, each made over the transport that there is |
//! | `events` | the stream of events over both |
//! | `wait` | waiting for a task's end |
//! | `lookout` | over SQL, one connection for all who wait |

mod calls;
mod events;
mod lookout;
mod wait;

use std::sync::Arc;

pub use events::{EventStart, EventStream};
pub use wait::{FailedTask, FinishedTask, TaskError, WaitError, WaitOptions};

use self::lookout::Lookout;
use crate::connection::{Client, ConnectOptions};
use crate::error::Error;
#[cfg(feature = "rest")]
use crate::rest::{RestClient, RestOptions};

/// The door of an application. Cheap to clone: all clones share their connections.
///
/// The same methods, types and errors, whether it is a database or a server that is called. What an application does in a transaction of its own it does over SQL:
/// [`create_task_in`](crate::tasks::create_task_in).
#[derive(Debug, Clone)]
pub struct Tasker {
    transport: Transport,
}

#[derive(Debug, Clone)]
enum Transport {
    Sql(Client, Arc<Lookout>),
    #[cfg(feature = "rest")]
    Rest(RestClient),
}

/// How a [`Tasker`] connects, to whichever of the two its address names.
#[derive(Debug, Clone, Default)]
pub struct TaskerOptions {
    /// To a database.
    pub sql: ConnectOptions,
    /// To a server.
    #[cfg(feature = "rest")]
    pub rest: RestOptions,
}

impl Tasker {
    /// The door at an address: of a database, `postgres://…`, or of a server, `https://…` or `http://…`, for which the feature `rest` is needed.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::connect_with(url, TaskerOptions::default()).await
    }

    /// The same with options. A database is connected to, and must be there; a server is called at the first call.
    pub async fn connect_with(url: &str, options: TaskerOptions) -> Result<Self, Error> {
        if !is_of_server(url) {
            return Ok(Client::connect(url, options.sql).await?.into());
        }
        #[cfg(feature = "rest")]
        return Ok(RestClient::new(url, options.rest)?.into());
        #[cfg(not(feature = "rest"))]
        Err(Error::from(sqlx::Error::Configuration(
            "a server is called with the feature `rest` of tasker-client, which is off".into(),
        )))
    }

    /// The client of the database, for who has one: for SQL in transactions of one's own, and for what operators need.
    #[must_use]
    pub fn sql(&self) -> Option<&Client> {
        match &self.transport {
            Transport::Sql(client, _) => Some(client),
            #[cfg(feature = "rest")]
            Transport::Rest(_) => None,
        }
    }
}

impl From<Client> for Tasker {
    fn from(client: Client) -> Self {
        Self {
            transport: Transport::Sql(client, Arc::default()),
        }
    }
}

#[cfg(feature = "rest")]
impl From<RestClient> for Tasker {
    fn from(client: RestClient) -> Self {
        Self {
            transport: Transport::Rest(client),
        }
    }
}

fn is_of_server(url: &str) -> bool {
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    ["http", "https"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_which_transport_it_is() {
        assert!(is_of_server("https://host/tasker") && is_of_server("HTTP://host"));
        assert!(!is_of_server("postgres://https@host/db") && !is_of_server("host=localhost"));
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_refused() {
        for url in ["not a url", "https://"] {
            let refused = Tasker::connect(url).await;
            assert!(matches!(refused, Err(Error::Configuration(_))), "{url}");
        }
    }
}
