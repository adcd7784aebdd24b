//! Who may call which method: each needs the permission of the operation that it is.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tasker_grpc::{OPERATIONS, Operation};
use utoipa::openapi::OpenApi as Document;

use crate::auth::{self, Authentication};
use crate::problem::Problem;

/// Methods under this are Tasker's own: one that isn't listed is none.
const OWN: &str = "/tasker.v1.";

/// Asks who calls, and whether they may.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    authentication: Arc<Authentication>,
    needed: Arc<HashMap<&'static str, Option<String>>>,
}

impl Gate {
    /// What each method needs, as the operations of the document say it.
    pub(super) fn new(
        authentication: Arc<Authentication>,
        document: &Document,
    ) -> anyhow::Result<Self> {
        let of_operations = auth::permissions_by_operation(document);
        let mut needed = HashMap::new();
        for (path, operation) in OPERATIONS {
            let permission = match operation {
                Operation::Own(permission) => Some(permission.to_owned()),
                Operation::Rest(id) => of_operations
                    .get(id)
                    .with_context(|| format!("{path} is no operation: {id}"))?
                    .clone(),
            };
            needed.insert(path, permission);
        }
        Ok(Self {
            authentication,
            needed: Arc::new(needed),
        })
    }
}

/// Lets through who may. What isn't of this package, which is health and reflection, is open as are health and the document over REST.
pub(super) async fn guard(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let needed = match gate.needed.get(path) {
        Some(needed) => needed.as_deref(),
        None if path.starts_with(OWN) => return Problem::method_unknown(path).into_response(),
        None => None,
    };
    auth::let_through(&gate.authentication, needed, request, next).await
}
