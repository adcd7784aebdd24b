//! Steps whose handler is a SQL function, where the extension's own processes don't run them. Each runner has a session of its own, which claims a step, commits that, and runs it with the
//! next call; any number of servers may do this.

use std::time::{Duration, Instant};

use tasker_client::rounds::pause_after;
use tasker_client::{Error, SqlRunner};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The pause after work was found: what follows from it is often ready soon. It doubles each time nothing is found.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
/// The longest pause between two looks for work.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often it is asked whether there is anything to do for a server: the first template with such a step waits for it.
const ASKED_EVERY: Duration = Duration::from_secs(10);
/// How often a runner looks whether it is needed; that asks nobody.
const LOOKED_EVERY: Duration = Duration::from_secs(1);
/// The longest pause after failures in a row.
const LONGEST_REST: Duration = Duration::from_secs(30);
/// How a runner's session names itself; `tasker._live_sql_runners` looks for it.
const APPLICATION_NAME: &str = "tasker-server sql steps";

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Starts runners, which end with `stopped`; the steps that are claimed by then are run.
pub(crate) fn start(
    database_url: &str,
    runners: u32,
    stopped: &watch::Receiver<bool>,
) -> Vec<JoinHandle<()>> {
    let (asked, is_needed) = watch::channel(false);
    let mut asked = Some(asked);
    let runner = |_| {
        let runner = Runner {
            database_url: database_url.to_owned(),
            session: None,
            asked: asked.take(),
            is_needed: is_needed.clone(),
            asked_at: None,
            has_claimed: false,
            pause: SHORTEST_PAUSE,
            failures: 0,
            told: None,
        };
        tokio::spawn(runner.run(stopped.clone()))
    };
    (0..runners).map(runner).collect()
}

struct Runner {
    database_url: String,
    session: Option<SqlRunner>,
    /// The first runner asks for all of them whether they are needed.
    asked: Option<watch::Sender<bool>>,
    is_needed: watch::Receiver<bool>,
    asked_at: Option<Instant>,
    has_claimed: bool,
    pause: Duration,
    failures: u32,
    /// The failure that the log has been told of.
    told: Option<String>,
}

impl Runner {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        loop {
            let pause = self.next().await;
            let is_stopped = tokio::select! {
                biased;
                // An error means that whoever stops is gone, which is a stop too.
                () = async { drop(stopped.wait_for(|stopped| *stopped).await) } => true,
                () = tokio::time::sleep(pause) => false,
            };
            if is_stopped {
                return self.stop().await;
            }
        }
    }

    /// Runs a step, or looks for one, and gives the pause before the next look.
    async fn next(&mut self) -> Duration {
        match self.step().await {
            Ok(pause) => {
                if self.told.take().is_some() {
                    tracing::info!("SQL functions of steps are run again");
                }
                self.failures = 0;
                pause
            }
            Err(error) => {
                self.failed(&error);
                pause_after(self.failures, LONGEST_PAUSE, LONGEST_REST)
            }
        }
    }

    async fn step(&mut self) -> Result<Duration, Error> {
        let asks = self.asked.is_some() && !self.has_claimed;
        let asks = asks && self.asked_at.is_none_or(|at| at.elapsed() >= ASKED_EVERY);
        let rests = !*self.is_needed.borrow() && !self.has_claimed;
        if rests && !asks {
            return Ok(LOOKED_EVERY);
        }
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(
                SqlRunner::connect(&self.database_url, APPLICATION_NAME, CONNECT_TIMEOUT).await?,
            ),
        };
        if let Some(asked) = self.asked.as_ref().filter(|_| asks) {
            self.asked_at = Some(Instant::now());
            let is_needed = session.is_needed().await?;
            asked.send_replace(is_needed);
            if !is_needed {
                return Ok(LOOKED_EVERY);
            }
        }
        let run = session.run(true).await?;
        self.has_claimed = run.more;
        if run.more {
            self.pause = SHORTEST_PAUSE;
            return Ok(Duration::ZERO);
        }
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(self.pause)
    }

    /// What the session had claimed goes with it, and is claimed anew.
    fn failed(&mut self, error: &Error) {
        self.session = None;
        self.asked_at = None;
        self.has_claimed = false;
        self.failures = self.failures.saturating_add(1);
        let said = error.to_string();
        if self.told.as_ref() != Some(&said) {
            tracing::warn!(code = error.code(), error = %error, "a SQL function of a step could not be run, which is tried again");
            self.told = Some(said);
        }
    }

    /// An attempt that is claimed would be lost with the session.
    async fn stop(mut self) {
        let Some(mut session) = self.session.take() else {
            return;
        };
        let last = if self.has_claimed {
            session.run(false).await.map(|_| ())
        } else {
            Ok(())
        };
        match last {
            Ok(()) => drop(session.close().await),
            Err(error) => self.failed(&error),
        }
    }
}
