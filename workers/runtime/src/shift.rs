//! The loop of a worker, from its first claim to its last outcome.
//!
//! Two calls may be under way at once. The *exchange* trades outcomes for steps: a claim, a finish
//! that claims, or the question when work is due. While it is away, handlers go on and their
//! outcomes gather for the next one, so that a busy worker pays one round trip and one commit a
//! batch, however many handlers end in the meantime. The *upkeep* extends leases, sends heartbeats
//! and registers anew; it doesn't stand in line behind the exchange, so that a slow one costs no
//! lease.

mod answers;
mod places;

use std::collections::HashMap;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tasker_client::{ClaimedStep, Finished, HeldStep, LeaseVerdict, Outcome};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::calls::{CallError, Caller};
use crate::handler::Handlers;
use crate::prefetch::Prefetch;
use crate::schedule::{Look, Schedule, WakeMode};
use crate::spans::Spans;
use crate::upkeep::{Chore, HEARTBEAT_INTERVAL, Upkeep};
use crate::wake::Wake;
use crate::worker::Settings;

/// How long a leaving worker tries to hand in its last outcomes. What isn't taken by then is left
/// to its lease.
const FAREWELL: Duration = Duration::from_secs(10);

type Call<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

/// The loop and all it holds.
pub(crate) struct Shift {
    caller: Arc<Caller>,
    handlers: Handlers,
    board: Board,
    schedule: Schedule,
    upkeep: Upkeep,
    wake: Wake,
    attempts: JoinSet<Option<Outcome>>,
    started: HashMap<Id, places::Started>,
    waiting: places::Queue,
    spans: Spans,
    prefetch: Prefetch,
    exchange: Call<Traded>,
    /// When the exchange that is away began, and how many steps it asked for.
    asked: (Instant, usize),
    chore: Call<Done>,
    leaving: Leaving,
}

/// How far a shutdown is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    No,
    /// Running handlers may end until then.
    Waiting(Instant),
    /// All steps are given back; outcomes may be handed in until then.
    Parting(Instant),
}

/// The answer of an exchange.
enum Traded {
    Due(Result<Option<Duration>, CallError>),
    Claimed(Result<Vec<ClaimedStep>, CallError>),
    Finished {
        outcomes: Vec<Outcome>,
        claims: bool,
        answer: Result<Finished, CallError>,
        repetitions: u32,
    },
}

/// The answer of an upkeep call.
enum Done {
    Registered(Result<(), CallError>),
    Beaten(Result<(), CallError>),
    Extended {
        asked: Vec<HeldStep>,
        answer: Result<Vec<LeaseVerdict>, CallError>,
    },
}

/// What the loop waits for.
enum Event {
    Ended(Result<(Id, Option<Outcome>), JoinError>),
    Traded(Traded),
    Done(Done),
    Woken,
    TimeCame,
    ToldToLeave,
}

impl Shift {
    pub(crate) fn new(caller: Caller, settings: &Settings, handlers: Handlers) -> Self {
        let now = Instant::now();
        let wake = match settings.wake_mode {
            WakeMode::PollOnly => Wake::silent(),
            WakeMode::Hybrid | WakeMode::EventOnly => {
                Wake::listening(&caller.client, &caller.namespaces)
            }
        };
        Self {
            board: Board::new(settings.concurrency),
            schedule: Schedule::new(settings.wake_mode, settings.poll_interval, now),
            upkeep: Upkeep::new(caller.lease, now),
            caller: Arc::new(caller),
            handlers,
            wake,
            attempts: JoinSet::new(),
            started: HashMap::new(),
            waiting: places::Queue::new(),
            spans: Spans::default(),
            prefetch: Prefetch::new(settings.prefetch),
            exchange: None,
            asked: (now, 0),
            chore: None,
            leaving: Leaving::No,
        }
    }

    /// Works until told to leave, then leaves in good order.
    pub(crate) async fn work(mut self, shutdown: &CancellationToken, grace: Duration) {
        loop {
            let now = Instant::now();
            self.gather();
            self.give_back_waiting(now);
            self.fill_places();
            self.part(now);
            if self.has_left(now) {
                break;
            }
            self.start_exchange(now);
            self.start_chore(now);
            match self.next_event(shutdown, now).await {
                Event::Ended(ended) => self.ended(ended),
                Event::Traded(traded) => self.traded(traded),
                Event::Done(done) => self.done(done),
                Event::Woken => self.schedule.woken(Instant::now()),
                Event::TimeCame => {}
                Event::ToldToLeave => {
                    tracing::info!(running = self.attempts.len(), "the worker is leaving");
                    self.leaving = Leaving::Waiting(Instant::now() + grace);
                }
            }
        }
        self.attempts.shutdown().await;
    }

    /// When the grace is over, or nothing runs any more, gives back what is left.
    fn part(&mut self, now: Instant) {
        let Leaving::Waiting(until) = self.leaving else {
            return;
        };
        let steps = self.board.held_count();
        if steps > 0 && now < until {
            return;
        }
        if steps > 0 {
            tracing::info!(steps, "unfinished steps are given back");
        }
        self.board.give_all_back();
        self.leaving = Leaving::Parting(now + FAREWELL);
    }

    fn has_left(&self, now: Instant) -> bool {
        let Leaving::Parting(until) = self.leaving else {
            return false;
        };
        if self.exchange.is_none() && self.board.is_clear() {
            return true;
        }
        if until <= now {
            tracing::warn!(
                waiting = self.board.waiting_count(),
                "the database takes no outcomes; their steps are left to their leases"
            );
        }
        until <= now
    }

    /// How many steps may be claimed now.
    fn free(&self) -> usize {
        if self.leaving == Leaving::No {
            self.board.free(self.prefetch.ahead())
        } else {
            0
        }
    }

    fn start_exchange(&mut self, now: Instant) {
        if self.exchange.is_some() {
            return;
        }
        let caller = Arc::clone(&self.caller);
        let free = self.free();
        self.asked = (now, free);
        if self.board.batch_due_at(now).is_some_and(|at| at <= now) {
            let outcomes = self.board.take_batch();
            if free > 0 {
                self.schedule.claiming();
            }
            let spans = self.spans.finishing(&outcomes);
            if self.board.waiting_count() == 0 {
                self.spans.keep(self.started.values().map(|step| step.held));
            }
            self.exchange = Some(Box::pin(async move {
                let (outcomes, answer, repetitions) =
                    spans.around(caller.finish(outcomes, free)).await;
                Traded::Finished {
                    outcomes,
                    claims: free > 0,
                    answer,
                    repetitions,
                }
            }));
        } else if free > 0 {
            match self.schedule.due(now) {
                None => {}
                Some(Look::Claim) => {
                    self.schedule.claiming();
                    self.exchange = Some(Box::pin(async move {
                        Traded::Claimed(caller.claim(free).await)
                    }));
                }
                // An idle worker asks one thing at a time: its heartbeat takes the turn of a
                // question.
                Some(Look::AskWhenDue { routine: true })
                    if self.beats_in_turn() && self.starts_beat(now) =>
                {
                    self.schedule.rest(now);
                }
                Some(Look::AskWhenDue { .. }) => {
                    self.exchange =
                        Some(Box::pin(
                            async move { Traded::Due(caller.work_due_in().await) },
                        ));
                }
            }
        }
    }

    /// Whether heartbeats wait for the turn of a question.
    fn beats_in_turn(&self) -> bool {
        self.board.held_count() == 0
            && self.free() > 0
            && self.schedule.asks_more_often_than(HEARTBEAT_INTERVAL)
    }

    fn starts_beat(&mut self, now: Instant) -> bool {
        let starts = self.chore.is_none() && self.upkeep.due(now) == Some(Chore::Beat);
        if starts {
            self.start(Chore::Beat);
        }
        starts
    }

    fn start_chore(&mut self, now: Instant) {
        if self.chore.is_some() {
            return;
        }
        match self.upkeep.due(now) {
            None => {}
            Some(Chore::Extend) if self.board.held_count() == 0 => {
                self.upkeep.extended(now, false);
            }
            Some(Chore::Beat) if self.beats_in_turn() => {}
            Some(chore) => self.start(chore),
        }
    }

    fn start(&mut self, chore: Chore) {
        let caller = Arc::clone(&self.caller);
        let (running, held) = (self.attempts.len(), self.board.held());
        let capacity = match self.leaving {
            Leaving::No => self.board.places(),
            Leaving::Waiting(_) | Leaving::Parting(_) => running,
        };
        self.chore = Some(match chore {
            Chore::Register => Box::pin(async move { Done::Registered(caller.register().await) }),
            Chore::Beat => {
                Box::pin(async move { Done::Beaten(caller.heartbeat(running, capacity).await) })
            }
            Chore::Extend => Box::pin(async move {
                let answer = caller.extend(&held).await;
                Done::Extended {
                    asked: held,
                    answer,
                }
            }),
        });
    }

    async fn next_event(&mut self, shutdown: &CancellationToken, now: Instant) -> Event {
        let alarm = self.alarm(now);
        tokio::select! {
            () = shutdown.cancelled(), if self.leaving == Leaving::No => Event::ToldToLeave,
            Some(ended) = self.attempts.join_next_with_id() => Event::Ended(ended),
            traded = answer_of(&mut self.exchange) => Event::Traded(traded),
            done = answer_of(&mut self.chore) => Event::Done(done),
            () = self.wake.woken() => Event::Woken,
            () = at(alarm) => Event::TimeCame,
        }
    }

    /// When the loop must look again, if nothing happens before.
    fn alarm(&self, now: Instant) -> Option<Instant> {
        let exchange = match self.exchange {
            Some(_) => None,
            None if self.free() > 0 => {
                earlier(self.board.batch_due_at(now), self.schedule.next_at())
            }
            None => self.board.batch_due_at(now),
        };
        let chore = match self.chore {
            Some(_) => None,
            None if self.upkeep.due(now) == Some(Chore::Beat) && self.beats_in_turn() => None,
            None => Some(self.upkeep.next_at()),
        };
        let leaving = match self.leaving {
            Leaving::No => self.patience_ends_at(),
            Leaving::Waiting(until) | Leaving::Parting(until) => Some(until),
        };
        earlier(earlier(exchange, chore), leaving)
    }
}

/// Waits for the answer of a call; for ever when there is no call.
async fn answer_of<T>(call: &mut Call<T>) -> T {
    match call {
        None => pending().await,
        Some(under_way) => {
            let answer = under_way.await;
            *call = None;
            answer
        }
    }
}

async fn at(alarm: Option<Instant>) {
    match alarm {
        Some(alarm) => sleep_until(alarm).await,
        None => pending().await,
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
