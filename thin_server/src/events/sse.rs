//! What a listener is told, as Server-Sent Events.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use uuid::Uuid;

use super::listener::Listener;
use super::message::Message;

/// When to come back, at the earliest and at the latest, in milliseconds: not all at once.
const COMES_BACK_MS: (u64, u64) = (500, 2500);

/// The stream of a listener.
pub(super) fn respond(listener: Listener) -> Response {
    let heartbeat = KeepAlive::new().interval(listener.heartbeat());
    let messages = futures_util::stream::unfold(listener, async |mut listener| {
        let message = written(listener.next().await?);
        Some((Ok::<_, Infallible>(message), listener))
    });
    Sse::new(messages).keep_alive(heartbeat).into_response()
}

fn written(message: Message) -> Event {
    match message {
        Message::Begun { place } => greeting(place.as_deref()),
        Message::Event(live) => live.message(),
        Message::TaskEnd {
            task_uuid,
            state,
            cursor,
        } => {
            let data = json!({"task_uuid": task_uuid, "state": state});
            Event::default()
                .event("end")
                .id(cursor)
                .data(data.to_string())
        }
        Message::Leave(leave) => Event::default().comment(format!(
            "{}: go on from the last id in Last-Event-ID",
            leave.said()
        )),
    }
}

/// Tells that it has begun, and when to come back after an end; and the cursor that it begins after, so that nothing is missed by who loses the connection before the first event.
fn greeting(place: Option<&str>) -> Event {
    let (least, most) = COMES_BACK_MS;
    // The low bits of such a key are random.
    let chance = Uuid::now_v7().as_u128() as u64 % (most - least);
    let greeting = Event::default()
        .retry(Duration::from_millis(least + chance))
        .comment("following");
    match place {
        Some(cursor) => greeting.id(cursor),
        None => greeting,
    }
}
