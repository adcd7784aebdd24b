//! Who calls, and what they may do.
//!
//! A caller shows an API key or a token. What an operation needs is its `x-permission` in the OpenAPI document, so that the document, the check and the page are one; an operation without
//! one is open. Where the caller may reach some namespaces only, the database is told so with each call (`tasker_client::Acting`).
//!
//! | module | holds |
//! |---|---|
//! | `options` | the flags |
//! | `permissions` | what each operation needs, whichever protocol it comes by |
//! | `credentials` | what a request shows |
//! | `api_keys` | keys, checked in the database and remembered for a while |
//! | `tokens`, `jwks`, `fetch` | tokens; the keys that sign them, read from an address as they change |

mod api_keys;
mod credentials;
mod fetch;
mod jwks;
mod options;
mod permissions;
mod tokens;

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tasker_client::{Acting, Client, permission};
use utoipa::openapi::OpenApi as Document;

pub(crate) use options::AuthOptions;
pub(crate) use permissions::by_operation as permissions_by_operation;

use self::api_keys::ApiKeys;
use self::credentials::Credentials;
use self::permissions::Permissions;
use self::tokens::Tokens;
use crate::problem::Problem;

/// Who calls. Handlers find it in the request's extensions, where callers are asked who they are.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// As history and the log name them: `key …` or `token …`.
    pub(crate) name: String,
    permissions: Vec<String>,
    /// Those that they may reach; `None` is all.
    pub(crate) namespaces: Option<Vec<String>>,
}

impl Caller {
    fn acting(&self) -> Acting {
        Acting::for_caller(&self.name, self.namespaces.clone())
    }
}

/// What callers are asked for.
#[derive(Debug)]
pub(crate) struct Authentication {
    keys: ApiKeys,
    tokens: Option<Tokens>,
}

impl Authentication {
    /// What the flags ask for; nothing when callers aren't asked who they are.
    pub(crate) fn new(options: &AuthOptions, client: Client) -> anyhow::Result<Option<Arc<Self>>> {
        if !options.is_on() {
            return Ok(None);
        }
        Ok(Some(Arc::new(Self {
            keys: ApiKeys::new(client, options.remembered_for()),
            tokens: Tokens::new(options)?,
        })))
    }

    async fn caller(&self, credentials: Credentials) -> Result<Caller, Problem> {
        match (credentials, &self.tokens) {
            (Credentials::Key(key), _) => self.keys.caller(&key).await,
            (Credentials::Token(token), Some(tokens)) => tokens.caller(&token).await,
            (Credentials::Token(_), None) => {
                Err(refused("tokens aren't taken here").hint("Give an API key in X-API-Key."))
            }
        }
    }
}

/// Asks who calls an operation of a document, and whether they may.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    authentication: Arc<Authentication>,
    permissions: Arc<Permissions>,
}

impl Gate {
    pub(crate) fn new(authentication: Arc<Authentication>, document: &Document) -> Self {
        Self {
            authentication,
            permissions: Arc::new(Permissions::of(document)),
        }
    }
}

/// Lets through who may.
pub(crate) async fn guard(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>();
    let needed = path.and_then(|path| gate.permissions.needed(request.method(), path.as_str()));
    let_through(&gate.authentication, needed, request, next).await
}

/// Lets through who has the permission that is needed, and makes their calls theirs. What is open to all is the server's own to ask.
pub(crate) async fn let_through(
    authentication: &Authentication,
    needed: Option<&str>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(needed) = needed else {
        return Acting::for_itself().scope(next.run(request)).await;
    };
    let caller = match Credentials::of(request.headers()) {
        Ok(credentials) => authentication.caller(credentials).await,
        Err(problem) => Err(problem),
    };
    let caller = match caller {
        Ok(caller) => caller,
        Err(problem) => return problem.into_response(),
    };
    tracing::Span::current().record("caller", &caller.name);
    if !permission::allow(&caller.permissions, needed) {
        return lacking(needed).into_response();
    }
    let acting = caller.acting();
    request.extensions_mut().insert(caller);
    acting.scope(next.run(request)).await
}

/// Says in the document how callers show who they are.
pub(crate) fn describe(document: &mut Document) {
    permissions::describe(document);
}

/// The credentials aren't any, or don't count.
fn refused(message: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "credentials_refused", message)
        .challenge("Bearer realm=\"tasker\", error=\"invalid_token\"")
}

fn missing() -> Problem {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "credentials_missing",
        "callers are asked who they are",
    )
    .hint("Give an API key in the header X-API-Key, or a token as Authorization: Bearer …")
    .challenge("Bearer realm=\"tasker\"")
}

fn lacking(needed: &str) -> Problem {
    let message = format!("the permission {needed} is needed");
    Problem::new(StatusCode::FORBIDDEN, "permission_missing", message)
        .hint("Use a key or a token that has it.")
        .challenge(&format!(
            "Bearer realm=\"tasker\", error=\"insufficient_scope\", scope=\"{needed}\""
        ))
}
