//! The keys that sign tokens, read from an address again as they change.
//!
//! They are read when the first token comes, when they are older than they may be, and at once when a token names a key that isn't among them, but no more often than each few seconds,
//! whatever tokens name. While the address can't be read, the keys that were read last count for an hour.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::http::StatusCode;
use tasker_client::tokens::TokenKeys;
use tokio::sync::Mutex;

use super::fetch::Address;
use crate::problem::Problem;

/// The pause between two reads, whatever tokens name: strangers may send any.
const SHORTEST_PAUSE: Duration = Duration::from_secs(5);
/// How long keys count that should have been read again and can't be.
const LONGEST_OUTAGE: Duration = Duration::from_hours(1);

#[derive(Debug, Clone)]
struct Read {
    keys: Arc<TokenKeys>,
    at: Instant,
}

#[derive(Debug)]
pub(super) struct Jwks {
    address: Address,
    refresh: Duration,
    read: RwLock<Option<Read>>,
    /// When it was last tried; held by who tries.
    tried: Mutex<Option<Instant>>,
}

impl Jwks {
    pub(super) fn new(
        url: &str,
        authorities: Option<&Path>,
        refresh: Duration,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            address: Address::new(url, authorities).context("--jwks-url")?,
            refresh,
            read: RwLock::default(),
            tried: Mutex::default(),
        })
    }

    /// The keys to read a token with.
    pub(super) async fn for_token(&self, token: &str) -> Result<Arc<TokenKeys>, Problem> {
        let read = self.usable();
        let knows = |read: &Read| read.keys.knows_key_of(token);
        match read.filter(knows) {
            Some(read) if read.at.elapsed() < self.refresh => return Ok(read.keys),
            // Others go on with what is there while one reads.
            Some(read) => {
                if let Ok(tried) = self.tried.try_lock() {
                    self.refresh(tried).await;
                } else {
                    return Ok(read.keys);
                }
            }
            None => self.refresh(self.tried.lock().await).await,
        }
        self.usable().map(|read| read.keys).ok_or_else(|| {
            let message = "the keys that sign tokens can't be read";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "keys_unavailable", message)
                .hint("Try again in a second.")
        })
    }

    fn usable(&self) -> Option<Read> {
        let read = self.read.read().unwrap_or_else(PoisonError::into_inner);
        read.clone()
            .filter(|read| read.at.elapsed() < self.refresh + LONGEST_OUTAGE)
    }

    async fn refresh(&self, mut tried: tokio::sync::MutexGuard<'_, Option<Instant>>) {
        if tried.is_some_and(|at| at.elapsed() < SHORTEST_PAUSE) {
            return;
        }
        *tried = Some(Instant::now());
        let fetched = self.fetch().await;
        // A read that takes long is a pause too: those who wait for it don't each begin another one.
        *tried = Some(Instant::now());
        match fetched {
            Ok(keys) => {
                let read = Read {
                    keys: Arc::new(keys),
                    at: Instant::now(),
                };
                tracing::info!(keys = ?read.keys, "the keys that sign tokens are read");
                *self.read.write().unwrap_or_else(PoisonError::into_inner) = Some(read);
            }
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the keys that sign tokens can't be read, which is tried again"
                );
            }
        }
    }

    async fn fetch(&self) -> anyhow::Result<TokenKeys> {
        let document = self.address.get().await?;
        Ok(TokenKeys::from_jwks(&document)?)
    }
}
