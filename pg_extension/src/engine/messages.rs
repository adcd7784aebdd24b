//! The messages of steps: sent when a step becomes ready, deleted when it has ended, shown again when it is to run again; and the wake-up of workers.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use pgrx::pg_sys::{self, TimestampTz};
use pgrx::{IntoDatum, direct_function_call_as_datum};
use tasker_rules::key::task_of;

use super::Call;
use crate::compiled::Kept;
use crate::error::Error;
use crate::queue::{self, Message};
use crate::settings;

/// The time from which on a message is visible that stays hidden until somebody shows it: that of a step whose task is paused. PostgreSQL's `infinity`.
pub(super) const NEVER: TimestampTz = TimestampTz::MAX;

/// A message to be sent for a step.
pub(super) struct Sent {
    pub(super) kept: Rc<Kept>,
    pub(super) step: u128,
    pub(super) attempt: i32,
    pub(super) handler: String,
    pub(super) priority: i32,
    pub(super) correlation_id: u128,
    pub(super) visible_at: TimestampTz,
}

impl Sent {
    fn message(&self) -> Message<'_> {
        Message {
            task: task_of(self.step),
            step: self.step,
            attempt: self.attempt,
            handler: &self.handler,
            priority: self.priority,
            correlation_id: self.correlation_id,
            visible_at: self.visible_at,
        }
    }
}

/// Pairs messages that are to be sent with messages of the same queue that are done: the row of one becomes the other, for less than it costs to delete the one and insert the
/// other. Gives the id of the row that each is to take over; those rows are no longer released.
pub(super) fn pair(messages: &[Sent], released: &mut Vec<Released>) -> Vec<Option<i64>> {
    let mut done: HashMap<&str, Vec<i64>> = HashMap::new();
    for message in released
        .iter()
        .filter(|message| message.visible_at.is_none())
    {
        done.entry(message.kept.queue_name.as_str())
            .or_default()
            .push(message.msg_id);
    }
    let reused: Vec<Option<i64>> = messages
        .iter()
        .map(|message| done.get_mut(message.kept.queue_name.as_str())?.pop())
        .collect();
    // Numbers count in each queue anew.
    let taken: HashSet<(&str, i64)> = messages
        .iter()
        .zip(&reused)
        .filter_map(|(message, id)| Some((message.kept.queue_name.as_str(), (*id)?)))
        .collect();
    released.retain(|message| {
        message.visible_at.is_some()
            || !taken.contains(&(message.kept.queue_name.as_str(), message.msg_id))
    });
    reused
}

/// Gives messages that are visible now times of their own, a microsecond apart and just past, so that their order in the index on times is theirs, and a claim that begins at the oldest one
/// left walks over none that is gone.
pub(super) fn spread(call: &Call, messages: &mut [Sent]) {
    let mut at = call.now;
    for message in messages
        .iter_mut()
        .rev()
        .filter(|message| message.visible_at <= call.now)
    {
        message.visible_at = at;
        at -= 1;
    }
}

/// Sends those messages that take over no row, and gives the ids of all in the same order.
pub(super) fn send(
    call: &Call,
    messages: &[Sent],
    reused: &[Option<i64>],
) -> Result<Vec<i64>, Error> {
    let mut ids: Vec<i64> = reused.iter().map(|id| id.unwrap_or_default()).collect();
    for (queue_name, positions) in by_queue(messages, |position| reused[position].is_none()) {
        let sent: Vec<Message> = positions
            .iter()
            .map(|&position| messages[position].message())
            .collect();
        for (position, id) in
            positions
                .into_iter()
                .zip(queue::send(call.session, queue_name, &sent)?)
        {
            ids[position] = id;
        }
    }
    Ok(ids)
}

/// Writes the messages that take over a row into it. Where the row is gone, its message was lost; then the new one is sent after all: gives those steps with their messages' ids.
pub(super) fn reuse(
    call: &Call,
    messages: &[Sent],
    reused: &[Option<i64>],
) -> Result<Vec<(u128, i64)>, Error> {
    let mut lost = Vec::new();
    for (queue_name, positions) in by_queue(messages, |position| reused[position].is_some()) {
        let rows: Vec<(i64, Message)> = positions
            .iter()
            .filter_map(|&position| Some((reused[position]?, messages[position].message())))
            .collect();
        let found: HashSet<i64> = queue::reuse(call.session, queue_name, &rows, call.now)?
            .into_iter()
            .collect();
        let missing: Vec<Message> = rows
            .into_iter()
            .filter(|(id, _)| !found.contains(id))
            .map(|(_, message)| message)
            .collect();
        let ids = queue::send(call.session, queue_name, &missing)?;
        lost.extend(missing.iter().map(|message| message.step).zip(ids));
    }
    Ok(lost)
}

fn by_queue(messages: &[Sent], is_wanted: impl Fn(usize) -> bool) -> BTreeMap<&str, Vec<usize>> {
    let mut queues: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (position, message) in messages.iter().enumerate() {
        if is_wanted(position) {
            queues
                .entry(message.kept.queue_name.as_str())
                .or_default()
                .push(position);
        }
    }
    queues
}

/// What becomes of a message: shown from a time on, or deleted.
pub(super) struct Released {
    pub(super) kept: Rc<Kept>,
    pub(super) msg_id: i64,
    pub(super) visible_at: Option<TimestampTz>,
}

/// Deletes messages, and shows again, now or later, those of steps that run again.
pub(super) fn release(call: &Call, released: &[Released]) -> Result<(), Error> {
    let mut queues: BTreeMap<&str, (&str, Vec<i64>, Vec<(i64, TimestampTz)>)> = BTreeMap::new();
    for message in released {
        let (_, done, kept) = queues
            .entry(message.kept.queue_name.as_str())
            .or_insert_with(|| {
                (
                    message.kept.template.namespace.as_str(),
                    Vec::new(),
                    Vec::new(),
                )
            });
        match message.visible_at {
            Some(at) => kept.push((message.msg_id, at)),
            None => done.push(message.msg_id),
        }
    }
    for (queue_name, (namespace, done, kept)) in queues {
        queue::delete(call.session, queue_name, done)?;
        let is_any_shown = kept.iter().any(|&(_, at)| at != NEVER);
        queue::set_visible_at(call.session, queue_name, kept)?;
        if is_any_shown {
            // Sleepers learn of it at once: of work that is visible now, and of a retry that may be due before their next poll.
            wake(namespace);
        }
    }
    Ok(())
}

/// Wakes the workers of a namespace when this transaction commits, unless its session lets them sleep; once, however often it is called.
pub(super) fn wake(namespace: &str) {
    if !settings::wakes_workers() {
        return;
    }
    let channel = format!("tasker_ready_{namespace}");
    // SAFETY: takes two texts and gives nothing.
    unsafe {
        direct_function_call_as_datum(
            pg_sys::pg_notify,
            &[channel.into_datum(), String::new().into_datum()],
        );
    }
}
