//! `/v1/events` and `/v1/tasks/{task_uuid}/events`: the feed as Server-Sent Events. The streams of gRPC have the same listeners.
//!
//! | module | holds |
//! |---|---|
//! | `feed` | the one reader of the feed, and what it hands to all who listen |
//! | `listener` | one who listens: what it missed, then what comes, and how it ends |
//! | `message`, `sse` | what it is told, and that as Server-Sent Events |

mod feed;
mod listener;
mod message;
mod sse;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tasker_client::{EventFilter, EventSpan};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub(crate) use self::feed::Feed;
pub(crate) use self::listener::{Begin, Listener};
pub(crate) use self::message::Message;
use crate::auth::Caller;
use crate::extract::{PathParameters, QueryParameters};
use crate::openapi::Refusals;
use crate::problem::Problem;
use crate::routes::AppState;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Proxies that hold back what they pass on would make a stream of events stand still.
const UNBUFFERED: (HeaderName, &str) = (HeaderName::from_static("x-accel-buffering"), "no");

/// A stream that has just begun, for the document.
const EXAMPLE: &str = "\
: following
retry: 1742

id: 1.5e1f.2a
data: {\"task_uuid\":\"019cadc6-9a80-7000-8fc4-a72b81e00000\",\"step_name\":\"ship\",\"from_state\":\"enqueued\",\"to_state\":\"in_progress\",\"event\":\"start\",\"attempt\":1}

";

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct FollowQuery {
    /// Only events of tasks of this namespace.
    namespace: Option<String>,
    /// Go on after this cursor, the `id` of an event. The header `Last-Event-ID` goes before it.
    after: Option<String>,
    /// Where to begin without a cursor; `now` when left out.
    #[param(inline)]
    from: Option<Beginning>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct FollowTaskQuery {
    /// Go on after this cursor, the `id` of an event. The header `Last-Event-ID` goes before it.
    after: Option<String>,
    /// Where to begin without a cursor; `oldest` when left out.
    #[param(inline)]
    from: Option<Beginning>,
}

/// Where to begin.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Beginning {
    /// With the oldest event that is kept.
    Oldest,
    /// With what comes.
    Now,
}

/// Outside the request's timeout and the bound on requests: a stream is as long as its listener likes, and has a bound of its own.
pub(crate) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(follow))
        .routes(routes!(follow_task))
}

/// Follows the state changes of all tasks, or of a namespace's.
///
/// Each event is an `Event` as JSON, and its `id` the cursor after it: who comes back with it, in the header `Last-Event-ID` as browsers do or in `after`, misses nothing and gets nothing
/// twice, also from another server of the same database. Comments are sent while nothing happens. A listener that doesn't keep up, and all listeners of a server that stops, are sent a
/// comment that says so, and come back.
#[utoipa::path(
    get,
    path = "/v1/events",
    operation_id = "list_events",
    tag = "events",
    params(
        FollowQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that the listener has dealt with")
    ),
    responses(
        (
            status = 200, description = "The stream; each event's data is an Event as JSON", body = String, content_type = "text/event-stream",
            example = json!(EXAMPLE)
        ),
        Refusals
    ),
    extensions(("x-permission" = json!("tasks:read")))
)]
pub(crate) async fn follow(
    State(state): State<AppState>,
    caller: Option<Extension<Caller>>,
    headers: HeaderMap,
    QueryParameters(query): QueryParameters<FollowQuery>,
) -> Result<Response, Problem> {
    let begin = begin(&headers, query.after, query.from.unwrap_or(Beginning::Now))?;
    let filter = EventFilter {
        namespace: query.namespace,
        task_uuid: None,
    };
    stream(&state, caller, filter, begin).await
}

/// Follows the state changes of one task and its steps until it has ended.
///
/// As `/v1/events`. After the task's last event comes one named `end`, with `{"task_uuid", "state"}`, and the stream ends. Who comes back with the id of that gets 204, on which browsers stop;
/// a task that was revived meanwhile goes on.
#[utoipa::path(
    get,
    path = "/v1/tasks/{task_uuid}/events",
    operation_id = "list_task_events",
    tag = "events",
    params(
        ("task_uuid" = Uuid, Path, description = "The task"),
        FollowTaskQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that the listener has dealt with")
    ),
    responses(
        (
            status = 200, description = "The stream; each event's data is an Event as JSON, but for the last, which is named end", body = String,
            content_type = "text/event-stream", example = json!(EXAMPLE)
        ),
        (status = 204, description = "The task has ended, and nothing came after the cursor"),
        Refusals
    ),
    extensions(("x-permission" = json!("tasks:read")))
)]
pub(crate) async fn follow_task(
    State(state): State<AppState>,
    caller: Option<Extension<Caller>>,
    PathParameters(task_uuid): PathParameters<Uuid>,
    headers: HeaderMap,
    QueryParameters(query): QueryParameters<FollowTaskQuery>,
) -> Result<Response, Problem> {
    let begin = begin(
        &headers,
        query.after,
        query.from.unwrap_or(Beginning::Oldest),
    )?;
    let filter = EventFilter {
        namespace: None,
        task_uuid: Some(task_uuid),
    };
    stream(&state, caller, filter, begin).await
}

fn begin(headers: &HeaderMap, after: Option<String>, from: Beginning) -> Result<Begin, Problem> {
    let given = match headers.get(LAST_EVENT_ID) {
        None => after,
        Some(id) => match id.to_str() {
            // A browser that has had no event with an id yet sends an empty one.
            Ok("") => after,
            Ok(id) => Some(id.to_owned()),
            Err(_) => {
                return Err(Problem::bad_parameter(
                    "Last-Event-ID is no cursor of an event",
                ));
            }
        },
    };
    Ok(match (given, from) {
        (Some(cursor), _) => Begin::After(cursor),
        (None, from) => from.into(),
    })
}

impl From<Beginning> for Begin {
    fn from(from: Beginning) -> Self {
        match from {
            Beginning::Oldest => Self::Oldest,
            Beginning::Now => Self::Now,
        }
    }
}

async fn stream(
    state: &AppState,
    caller: Option<Extension<Caller>>,
    filter: EventFilter,
    begin: Begin,
) -> Result<Response, Problem> {
    let Some(listener) = listen(state, caller, filter, begin).await? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let mut response = sse::respond(listener);
    let headers = response.headers_mut();
    let (name, value) = UNBUFFERED;
    headers.insert(name, header::HeaderValue::from_static(value));
    Ok(response)
}

/// A listener for a caller; none when nothing is left to come of its task.
pub(crate) async fn listen(
    state: &AppState,
    caller: Option<Extension<Caller>>,
    filter: EventFilter,
    begin: Begin,
) -> Result<Option<Listener>, Problem> {
    let reach = caller.and_then(|Extension(caller)| caller.namespaces);
    if reach.is_some() {
        // The feed is read by the server for itself: asked for the caller, the database refuses what is out of reach.
        let one = EventSpan {
            limit: Some(1),
            ..EventSpan::default()
        };
        state.client.list_events(&filter, one).await?;
    }
    let seat = state.feed.seat().ok_or_else(Problem::listeners_full)?;
    Listener::start(state.feed.clone(), seat, filter, reach, begin).await
}
