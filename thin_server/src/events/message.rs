//! What a listener is told, whichever way it listens.

use std::sync::Arc;

use axum::http::StatusCode;
use uuid::Uuid;

use super::feed::Live;
use crate::problem::Problem;

/// What a listener is told, whichever way it listens.
#[derive(Debug)]
pub(crate) enum Message {
    /// It has begun, after this cursor; none at the oldest event.
    Begun { place: Option<String> },
    /// An event.
    Event(Arc<Live>),
    /// Its task has come to its end, and all of it was told.
    TaskEnd {
        task_uuid: Uuid,
        state: String,
        cursor: String,
    },
    /// The server ends the stream before its time.
    Leave(Leave),
}

/// Why a stream ends before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    /// The listener fell behind.
    Slow,
    /// The server stops.
    Stopped,
    /// The events can't be read.
    Refused,
}

impl Leave {
    /// What metrics call it.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Stopped => "stopped",
            Self::Refused => "refused",
        }
    }

    /// What the listener is told.
    pub(super) fn said(self) -> &'static str {
        match self {
            Self::Slow => "this listener doesn't keep up",
            Self::Stopped => "the server stops",
            Self::Refused => "the events can't be read",
        }
    }

    /// The same as a problem.
    pub(crate) fn problem(self) -> Problem {
        let code = match self {
            Self::Slow => "listener_slow",
            Self::Stopped => "server_stops",
            Self::Refused => "feed_unavailable",
        };
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, self.said())
            .hint("Go on after the cursor of the last event.")
    }
}
