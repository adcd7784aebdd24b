//! Domain events beside their model: steps that publish them, and operations as chance has it.

mod compare;
mod deliveries;
mod publishers;

use anyhow::ensure;
use serde_json::json;
use sqlx::postgres::PgListener;
use sqlx::{Executor, PgConnection};
use tasker_rules::key::step_key;
use uuid::Uuid;

use crate::database::TestDatabase;
use crate::model::events::Events;
use crate::model::{Chance, Millis, Model, Payload, Place};
use deliveries::Handed;
use publishers::Publisher;

const TEMPLATES: usize = 5;
const NAMESPACES: [&str; 2] = ["farm", "shop"];
const LEASES: [Millis; 2] = [5_000, 60_000];
const EPOCH: Millis = 1_893_456_000_000;

/// The model, and the database beside it.
#[derive(Debug)]
pub struct Run {
    chance: Chance,
    model: Model,
    events: Events,
    publishers: Vec<Publisher>,
    /// Which publisher each task is of.
    of: Vec<usize>,
    task_uuids: Vec<Uuid>,
    claims: Vec<(Place, i32)>,
    deliveries: Vec<Handed>,
    session: PgConnection,
    ears: PgListener,
    /// How many events have been heard or are in the queues.
    heard: usize,
    trail: Vec<String>,
}

impl Run {
    /// On a fresh database, with the templates of a seed.
    pub async fn new(database: &TestDatabase, seed: u64) -> anyhow::Result<Self> {
        let mut chance = Chance::new(seed);
        let mut session = database.session().await?;
        let publishers: Vec<Publisher> = (0..TEMPLATES)
            .map(|number| Publisher::random(number, &mut chance))
            .collect();
        for publisher in &publishers {
            sqlx::query("select from tasker.register_template($1::jsonb)")
                .bind(publisher.written()?.to_string())
                .execute(&mut session)
                .await?;
        }
        let mut ears = PgListener::connect(database.url()).await?;
        let channels = NAMESPACES.map(|namespace| format!("tasker_domain_events_{namespace}"));
        ears.listen_all(channels.iter().map(String::as_str)).await?;
        ears.listen("model").await?;
        let mut run = Self {
            chance,
            model: Model::default(),
            events: Events::default(),
            publishers,
            of: Vec::new(),
            task_uuids: Vec::new(),
            claims: Vec::new(),
            deliveries: Vec::new(),
            session,
            ears,
            heard: 0,
            trail: Vec::new(),
        };
        run.pass(0).await?;
        Ok(run)
    }

    fn key(&self, (number, position): Place) -> Uuid {
        let task = self.task_uuids[number].as_u128();
        Uuid::from_u128(step_key(task, position as u32 + 1).unwrap_or_default())
    }

    async fn pass(&mut self, milliseconds: Millis) -> anyhow::Result<()> {
        self.model.pass(milliseconds);
        self.trail.push(format!("the time is {}", self.model.now));
        sqlx::query("select tasker._set_now(timestamptz 'epoch' + $1 * interval '1 millisecond')")
            .bind(EPOCH + self.model.now)
            .execute(&mut self.session)
            .await?;
        Ok(())
    }

    /// What has been done last.
    #[must_use]
    pub fn last(&self, count: usize) -> String {
        let from = self.trail.len().saturating_sub(count);
        self.trail[from..].join("\n")
    }

    /// Does something, to both, and compares.
    pub async fn turn(&mut self) -> anyhow::Result<()> {
        match self.chance.below(22) {
            0 => self.subscribe().await?,
            1 if self.chance.once_in(4) => self.unsubscribe().await?,
            2 | 3 => self.create().await?,
            4..=6 => self.claim_steps().await?,
            7..=11 => self.finish_step().await?,
            12 => {
                self.trail.push("maintenance".to_owned());
                self.model.maintain();
                self.session
                    .execute("select count(*) from tasker.run_maintenance(100000)")
                    .await?;
            }
            13 => {
                let milliseconds = [500, 3_000, 20_000, 150_000][self.chance.below(4)];
                self.pass(milliseconds).await?;
            }
            14..=16 => self.claim_events().await?,
            17..=19 => self.finish_deliveries().await?,
            20 if self.chance.once_in(3) => self.exhaust().await?,
            21 => self.redeliver().await?,
            _ => {}
        }
        self.publish();
        self.compare_published().await?;
        self.compare_messages().await?;
        self.hear().await
    }

    /// What the last call has published, in the model.
    fn publish(&mut self) {
        for outcome in self.model.take_outcomes() {
            let (number, position) = outcome.place;
            let publisher = &self.publishers[self.of[number]];
            let now = self.model.now;
            let events = &publisher.events[position];
            self.events
                .publish(publisher.namespace, events, outcome, now);
        }
    }

    async fn create(&mut self) -> anyhow::Result<()> {
        let of = self.chance.below(self.publishers.len());
        let publisher = &self.publishers[of];
        self.trail
            .push(format!("create {}", publisher.template.name));
        let task_uuid = sqlx::query_scalar("select tasker.create_task($1, $2)")
            .bind(&publisher.template.name)
            .bind(publisher.namespace)
            .fetch_one(&mut self.session)
            .await?;
        self.model.create(&publisher.template);
        self.of.push(of);
        self.task_uuids.push(task_uuid);
        Ok(())
    }

    async fn claim_steps(&mut self) -> anyhow::Result<()> {
        let lease = LEASES[self.chance.below(LEASES.len())];
        self.trail
            .push(format!("claim steps under a lease of {lease}"));
        let claimed: i64 = sqlx::query_scalar(
            "select count(*) from tasker.claim_steps('w', $1, 10000, $2 * interval '1 millisecond')",
        )
        .bind(&NAMESPACES[..])
        .bind(lease)
        .fetch_one(&mut self.session)
        .await?;
        let places = self.model.claim(lease);
        ensure!(claimed == places.len() as i64);
        for place in places {
            let attempt = self.model.tasks[place.0].steps[&place.1].attempt;
            self.claims.push((place, attempt));
        }
        Ok(())
    }

    async fn finish_step(&mut self) -> anyhow::Result<()> {
        if self.claims.is_empty() {
            return Ok(());
        }
        let index = self.chance.below(self.claims.len());
        let (place, attempt) = self.claims.swap_remove(index);
        let mut outcome = json!({"step_uuid": self.key(place), "attempt": attempt});
        let expected = match self.chance.below(8) {
            0 => {
                outcome["status"] = json!("release");
                self.model.release(place, attempt)
            }
            number @ 1..=4 => {
                outcome["status"] = json!("fail");
                outcome["error"] = json!({"message": Uuid::new_v4(), "retryable": number != 1});
                self.model.fail(place, attempt, number != 1)
            }
            _ => {
                outcome["status"] = json!("complete");
                outcome["result"] = json!(Uuid::new_v4());
                self.model.complete(place, attempt, Payload::default())
            }
        };
        self.model.settle();
        self.trail.push(format!("finish {outcome} -- {expected}"));
        let verdict: String = sqlx::query_scalar(
            "select verdicts -> 0 ->> 'verdict' from tasker.finish_steps('w', $1)",
        )
        .bind(json!([outcome]))
        .fetch_one(&mut self.session)
        .await?;
        ensure!((verdict == "accepted") == expected, "{verdict}");
        Ok(())
    }
}
