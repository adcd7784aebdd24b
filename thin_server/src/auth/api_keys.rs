//! API keys: checked in the database, and remembered for a while, so that a busy caller costs no statement more for it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;
use sha2::{Digest, Sha256};
use tasker_client::{Acting, ApiKey, Client};

use super::{Caller, refused};
use crate::problem::Problem;

/// Every key begins so; what doesn't is not asked for.
const PREFIX: &str = "tsk_";
/// How many answers are remembered. Whoever tries keys that aren't any can't make more of them.
const MOST_REMEMBERED: usize = 10_000;

/// The hash of a key: what is remembered, and sent, is never the key.
type Hash = [u8; 32];

/// What is no key.
#[derive(Debug, Clone, Copy)]
struct NoKey;

#[derive(Debug)]
struct Answer {
    at: Instant,
    key: Result<ApiKey, NoKey>,
}

#[derive(Debug)]
pub(super) struct ApiKeys {
    client: Client,
    remembered_for: Duration,
    answers: Mutex<HashMap<Hash, Answer>>,
}

impl ApiKeys {
    pub(super) fn new(client: Client, remembered_for: Duration) -> Self {
        Self {
            client,
            remembered_for,
            answers: Mutex::default(),
        }
    }

    /// Who has a key.
    pub(super) async fn caller(&self, key: &str) -> Result<Caller, Problem> {
        if !key.starts_with(PREFIX) {
            return Err(unknown());
        }
        let hash: Hash = Sha256::digest(key).into();
        let known = match self.remembered(&hash) {
            Some(known) => known,
            None => self.ask(hash).await?,
        };
        let key = known.map_err(|NoKey| unknown())?;
        let is_over = key.expires_at.is_some_and(|at| at <= Utc::now());
        match (key.problem.as_deref(), is_over) {
            (Some("revoked"), _) => Err(refused(format!("the key {} is revoked", key.name))),
            (None, false) => Ok(Caller {
                name: format!("key {}", key.name),
                permissions: key.permissions,
                namespaces: key.namespaces,
            }),
            _ => Err(refused(format!("the key {} has expired", key.name))),
        }
    }

    async fn ask(&self, hash: Hash) -> Result<Result<ApiKey, NoKey>, Problem> {
        let mut digits = String::with_capacity(64);
        for byte in hash {
            let _ = write!(digits, "{byte:02x}");
        }
        let at = Instant::now();
        let asked = Acting::for_itself().scope(self.client.check_api_key(&digits));
        let key = asked.await?.ok_or(NoKey);
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= MOST_REMEMBERED {
            answers.retain(|_, answer| answer.at.elapsed() < self.remembered_for);
        }
        if answers.len() >= MOST_REMEMBERED {
            answers.clear();
        }
        let kept = key.clone();
        answers.insert(hash, Answer { at, key: kept });
        Ok(key)
    }

    fn remembered(&self, hash: &Hash) -> Option<Result<ApiKey, NoKey>> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = answers.get(hash)?;
        (answer.at.elapsed() < self.remembered_for).then(|| answer.key.clone())
    }
}

fn unknown() -> Problem {
    refused("the key isn't known").hint("tasker-ctl auth key list shows the keys there are.")
}
