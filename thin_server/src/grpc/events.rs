//! The streams of `TaskService`: the same feed that Server-Sent Events are made of.

use axum::Extension;
use tasker_client::EventFilter;
use tasker_grpc::v1;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use super::status;
use super::surround::RequestId;
use super::wire::{self, ToWire, message};
use crate::auth::Caller;
use crate::events::{self, Begin, Beginning, Listener, Message};
use crate::problem::Problem;
use crate::routes::AppState;

message!(tasker_client::Event => Event {
    cursor, at, task_uuid, step_uuid, step_name, from_state, to_state, event, attempt, actor, namespace, template_name;
    json metadata => metadata_json
});

/// A stream of events.
pub(super) type Events = BoxStream<v1::Event>;

pub(super) async fn of_task(
    state: &AppState,
    request: Request<v1::StreamTaskEventsRequest>,
) -> Result<Response<Events>, Status> {
    let who = Who::of(&request);
    let given = request.into_inner();
    let wish = || -> Result<Wish, Problem> {
        let filter = EventFilter {
            namespace: None,
            task_uuid: Some(wire::uuid("task_uuid", &given.task_uuid)?),
        };
        let begin = begin(given.after, given.from.as_deref(), Beginning::Oldest)?;
        Ok((filter, begin))
    };
    who.stream(state, wish()).await
}

pub(super) async fn of_all(
    state: &AppState,
    request: Request<v1::StreamEventsRequest>,
) -> Result<Response<Events>, Status> {
    let who = Who::of(&request);
    let given = request.into_inner();
    let filter = EventFilter {
        namespace: given.namespace,
        task_uuid: None,
    };
    let begin = begin(given.after, given.from.as_deref(), Beginning::Now);
    who.stream(state, begin.map(|begin| (filter, begin))).await
}

/// Which events, and from where on.
type Wish = (EventFilter, Begin);

fn begin(after: Option<String>, from: Option<&str>, default: Beginning) -> Result<Begin, Problem> {
    if let Some(cursor) = after {
        return Ok(Begin::After(cursor));
    }
    let from = from.map(|from| wire::word("from", from));
    Ok(from.transpose()?.unwrap_or(default).into())
}

/// Who listens, and what the log calls that.
struct Who {
    caller: Option<Caller>,
    request_id: String,
}

impl Who {
    fn of<T>(request: &Request<T>) -> Self {
        let extensions = request.extensions();
        let id = extensions.get::<RequestId>();
        Self {
            caller: extensions.get::<Caller>().cloned(),
            request_id: id.map(|RequestId(id)| id.clone()).unwrap_or_default(),
        }
    }

    async fn stream(
        self,
        state: &AppState,
        wish: Result<Wish, Problem>,
    ) -> Result<Response<Events>, Status> {
        let (filter, begin) = wish.map_err(status::carrying)?;
        let caller = self.caller.map(Extension);
        let listener = events::listen(state, caller, filter, begin)
            .await
            .map_err(status::carrying)?;
        let heard = futures_util::stream::unfold(
            (listener, self.request_id),
            async |(rest, request_id)| {
                // Nothing is left to come of a task that had ended before.
                let mut listener = rest?;
                let heard = next(&mut listener, &request_id).await?;
                Some((heard, (Some(listener), request_id)))
            },
        );
        Ok(Response::new(Box::pin(heard)))
    }
}

/// The next event; nothing when its task has ended; a problem when the stream ends before its time.
async fn next(listener: &mut Listener, request_id: &str) -> Option<Result<v1::Event, Status>> {
    loop {
        return match listener.next().await? {
            // The head of the response says that it has begun.
            Message::Begun { .. } => continue,
            Message::Event(live) => Some(Ok(live.event.clone().to_wire())),
            Message::TaskEnd { .. } => None,
            Message::Leave(leave) => Some(Err(status::written(&leave.problem(), request_id))),
        };
    }
}
