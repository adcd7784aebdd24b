//! The loop that takes domain events: it subscribes, claims durable ones, hears of fast ones, runs
//! their handlers, and says what became of them. It stands beside the shift, which works on steps.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tasker_client::{
    ClaimedEvent, Client, Delivery, DeliveryStatus, DomainEvent, EventClaim, EventNotice,
    EventNotices,
};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::calls::{CallError, DEADLINE, within};
use crate::event_handler::{EventHandler, Subscriptions};
use crate::jitter::{fraction, pause, stretched};
use crate::{HandlerError, WakeMode};

/// How many durable events are handled at once.
const PLACES: usize = 16;

/// With so many handlers at work a fast event is dropped: nobody holds them back.
const MOST_RUNNING: usize = 1000;

/// A worker that hears of events asks for them so much less often than for work.
const RARER: u32 = 10;

/// One that never asks for work asks for events so often: the longest time that passes between two
/// deliveries of one.
const RAREST: Duration = Duration::from_mins(5);

/// So long a worker leaves a database alone that refuses it, as one does that is still of a version
/// without domain events.
const REFUSED_FOR: Duration = Duration::from_secs(30);

/// How long a leaving worker tries to say what became of its events.
const FAREWELL: Duration = Duration::from_secs(10);

/// Who takes events, and which.
#[derive(Debug)]
pub(crate) struct EventCaller {
    pub(crate) client: Client,
    pub(crate) worker_id: String,
    pub(crate) subscriber: String,
    pub(crate) namespaces: Vec<String>,
    pub(crate) lease: Duration,
    pub(crate) wake_mode: WakeMode,
    pub(crate) poll_interval: Duration,
    pub(crate) subscriptions: Subscriptions,
}

/// The loop and all it holds.
#[derive(Debug)]
pub(crate) struct Deliveries {
    caller: EventCaller,
    notices: Option<EventNotices>,
    running: JoinSet<Result<(), HandlerError>>,
    /// What runs of durable events. Fast ones are not among them.
    held: HashMap<Id, Delivery>,
    ended: Vec<Delivery>,
    is_subscribed: bool,
    look_at: Instant,
    /// When a delivery failed last: for a while it will come again soon.
    failed_at: Option<Instant>,
    /// Calls that failed in a row, and when the next one may be made.
    failures: u32,
    rests_until: Instant,
}

impl Deliveries {
    pub(crate) fn new(caller: EventCaller) -> Self {
        let notices = match caller.wake_mode {
            WakeMode::PollOnly => None,
            WakeMode::Hybrid | WakeMode::EventOnly => {
                Some(caller.client.event_notices(&caller.namespaces))
            }
        };
        let now = Instant::now();
        Self {
            caller,
            notices,
            running: JoinSet::new(),
            held: HashMap::new(),
            ended: Vec::new(),
            is_subscribed: false,
            look_at: now,
            failed_at: None,
            failures: 0,
            rests_until: now,
        }
    }

    /// Takes events until told to leave; then waits for running handlers up to the grace time, and
    /// gives the rest back.
    pub(crate) async fn work(mut self, shutdown: &CancellationToken, grace: Duration) {
        while !shutdown.is_cancelled() {
            self.trade().await;
            let alarm = self.alarm();
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(ended) = self.running.join_next_with_id() => self.gather(ended),
                notice = heard(&mut self.notices) => self.noticed(notice),
                () = sleep_until(alarm) => {}
            }
        }
        self.leave(grace).await;
    }

    fn alarm(&self) -> Instant {
        if !self.ended.is_empty() {
            self.rests_until
        } else if self.held.len() < PLACES {
            self.look_at.max(self.rests_until)
        } else {
            // All places are taken: nothing is asked until one is free.
            Instant::now() + self.caller.lease
        }
    }

    /// Says what has ended and claims anew, unless it isn't time yet.
    async fn trade(&mut self) {
        if self.rests_until > Instant::now() {
            return;
        }
        match self.try_trade().await {
            Ok(()) => {
                if self.failures > 0 {
                    tracing::info!("domain events are taken again");
                }
                self.failures = 0;
            }
            Err(error) => {
                if self.failures == 0 {
                    tracing::warn!(%error, code = error.code(), "domain events can't be taken now");
                }
                self.failures = self.failures.saturating_add(1);
                let rest = if error.is_passing() {
                    pause(self.failures, fraction())
                } else {
                    stretched(REFUSED_FOR, fraction())
                };
                self.rests_until = Instant::now() + rest;
            }
        }
    }

    async fn try_trade(&mut self) -> Result<(), CallError> {
        if !self.is_subscribed {
            let EventCaller {
                client,
                subscriber,
                namespaces,
                subscriptions,
                ..
            } = &self.caller;
            let patterns = subscriptions.patterns();
            let call = client.subscribe_domain_events(subscriber, namespaces, &patterns);
            within(DEADLINE, call).await?;
            self.is_subscribed = true;
        }
        self.hand_in().await?;
        while self.look_at <= Instant::now() && self.held.len() < PLACES {
            let free = PLACES - self.held.len();
            let claimed = self.claim(free).await?;
            let is_all = claimed.len() < free;
            for event in claimed {
                self.start(event);
            }
            if is_all {
                self.look_at = Instant::now() + self.rest();
            }
        }
        Ok(())
    }

    /// How long until events are looked for again, if nothing is heard.
    fn rest(&self) -> Duration {
        let often = self.caller.poll_interval;
        let has_failed = self.failed_at.is_some_and(|at| at.elapsed() < RAREST * 2);
        let rest = match self.caller.wake_mode {
            _ if has_failed => often,
            WakeMode::PollOnly => often,
            WakeMode::Hybrid => often * RARER,
            WakeMode::EventOnly => RAREST,
        };
        stretched(rest, fraction())
    }

    async fn claim(&self, free: usize) -> Result<Vec<ClaimedEvent>, CallError> {
        let caller = &self.caller;
        let claim = EventClaim {
            worker_id: caller.worker_id.clone(),
            subscriber: caller.subscriber.clone(),
            namespaces: caller.namespaces.clone(),
            patterns: caller.subscriptions.patterns(),
            max_events: u32::try_from(free).unwrap_or(u32::MAX),
            lease: caller.lease,
        };
        within(DEADLINE, caller.client.claim_domain_events(&claim)).await
    }

    async fn hand_in(&mut self) -> Result<(), CallError> {
        if self.ended.is_empty() {
            return Ok(());
        }
        let EventCaller {
            client, worker_id, ..
        } = &self.caller;
        let call = client.finish_domain_events(worker_id, &self.ended);
        match within(DEADLINE, call).await {
            Ok(verdicts) => {
                let lost = verdicts
                    .iter()
                    .filter(|said| said.verdict == "lost")
                    .count();
                if lost > 0 {
                    tracing::info!(lost, "deliveries came too late: the events come again");
                }
                self.ended.clear();
                Ok(())
            }
            Err(error) => {
                if error.blames_the_input() {
                    self.ended.clear();
                }
                Err(error)
            }
        }
    }

    fn start(&mut self, claimed: ClaimedEvent) {
        let mut delivery = Delivery {
            namespace: claimed.namespace,
            msg_id: claimed.msg_id,
            delivery: claimed.delivery,
            status: DeliveryStatus::Release,
            error: None,
        };
        let Some(handler) = self.caller.subscriptions.of(&claimed.pattern) else {
            delivery.status = DeliveryStatus::Fail;
            delivery.error = Some("the worker has no such subscription".into());
            self.ended.push(delivery);
            return;
        };
        // Over before the event is handed out again.
        let limit = self.caller.lease * 9 / 10;
        let task = self.running.spawn(take(handler, claimed.event, limit));
        self.held.insert(task.id(), delivery);
    }

    fn noticed(&mut self, notice: EventNotice) {
        match notice {
            EventNotice::MayClaim => self.look_at = Instant::now(),
            EventNotice::Fast(event) if self.running.len() >= MOST_RUNNING => {
                tracing::warn!(
                    event_uuid = %event.event_uuid,
                    "a fast event was dropped: too many handlers run"
                );
            }
            EventNotice::Fast(event) => {
                for handler in self.caller.subscriptions.matching(&event.name) {
                    let limit = self.caller.lease;
                    let event = DomainEvent::clone(&event);
                    self.running.spawn(take(handler, event, limit));
                }
            }
        }
    }

    /// Takes over what ended by now, so that it is handed in together.
    fn gather(&mut self, first: Result<(Id, Result<(), HandlerError>), JoinError>) {
        let mut next = Some(first);
        while let Some(ended) = next {
            let (task, answer) = match ended {
                Ok(ended) => ended,
                Err(error) => (
                    error.id(),
                    Err(HandlerError::retryable("the handler panicked")),
                ),
            };
            self.handled(task, answer);
            next = self.running.try_join_next_with_id();
        }
    }

    fn handled(&mut self, task: Id, answer: Result<(), HandlerError>) {
        let held = self.held.remove(&task);
        if let Err(error) = &answer {
            tracing::warn!(
                is_durable = held.is_some(),
                "a domain event was not taken: {error}"
            );
        }
        let Some(mut delivery) = held else {
            return;
        };
        delivery.status = DeliveryStatus::Done;
        if let Err(error) = answer {
            delivery.status = DeliveryStatus::Fail;
            // PostgreSQL's text has no NUL.
            delivery.error = Some(error.to_string().replace('\0', "\u{fffd}"));
            let now = Instant::now();
            self.failed_at = Some(now);
            self.look_at = self.look_at.min(now + self.caller.poll_interval);
        }
        self.ended.push(delivery);
    }

    async fn leave(mut self, grace: Duration) {
        let until = Instant::now() + grace;
        while let Ok(Some(ended)) =
            tokio::time::timeout_at(until, self.running.join_next_with_id()).await
        {
            self.gather(ended);
        }
        self.running.shutdown().await;
        self.ended.extend(self.held.drain().map(|(_, held)| held));
        let unsaid = self.ended.len();
        match timeout(FAREWELL, self.hand_in()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => {
                tracing::warn!(
                    unsaid,
                    "the database takes no deliveries; their events come again"
                );
            }
        }
    }
}

async fn heard(notices: &mut Option<EventNotices>) -> EventNotice {
    match notices {
        Some(notices) => notices.next().await,
        None => pending().await,
    }
}

async fn take(
    handler: Arc<dyn EventHandler>,
    event: DomainEvent,
    limit: Duration,
) -> Result<(), HandlerError> {
    match timeout(limit, handler.handle(event)).await {
        Ok(answer) => answer,
        Err(_) => Err(HandlerError::retryable(format!(
            "the handler took longer than {} ms",
            limit.as_millis()
        ))
        .with_type("timed_out")),
    }
}
