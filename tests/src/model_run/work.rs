//! What users and workers do: tasks are created, steps claimed and finished.

use std::collections::BTreeSet;
use std::rc::Rc;

use anyhow::ensure;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Run;
use crate::model::Millis;

const LEASES: [Millis; 2] = [5_000, 60_000];

impl Run {
    pub(super) async fn create(&mut self) -> anyhow::Result<()> {
        let template =
            Rc::clone(&self.model.templates[self.chance.below(self.model.templates.len())]);
        let wait = [1_000, 20_000][self.chance.below(2)];
        let wait = Some(wait).filter(|_| self.chance.once_in(6));
        self.trail
            .push(format!("create {} {wait:?}", template.name));
        let task_uuid: Uuid = sqlx::query_scalar(
            "select tasker.create_task($1, run_at => tasker._now() + $2 * interval '1 millisecond')",
        )
        .bind(&template.name)
        .bind(wait)
        .fetch_one(self.session())
        .await?;
        self.task_uuids.push(task_uuid);
        match wait {
            Some(wait) => self.model.create_later(&template, self.model.now + wait),
            None => self.model.create(&template),
        }
        Ok(())
    }

    pub(super) async fn claim(&mut self) -> anyhow::Result<()> {
        let lease = LEASES[self.chance.below(LEASES.len())];
        self.trail.push(format!("claim under a lease of {lease}"));
        let mut got: Vec<(Uuid, i32)> = sqlx::query_as(
            "select step_uuid, attempt from tasker.claim_steps('w', '{default}', 10000, $1 * interval '1 millisecond')",
        )
        .bind(lease)
        .fetch_all(self.session())
        .await?;
        let claimed = self.model.claim(lease);
        let mut expected = Vec::new();
        for place in claimed {
            let attempt = self.model.tasks[place.0].steps[&place.1].attempt;
            self.claims.push((place, attempt));
            expected.push((self.key(place), attempt));
        }
        got.sort_unstable();
        expected.sort_unstable();
        ensure!(got == expected, "claimed {got:?}, not {expected:?}");
        Ok(())
    }

    /// Reports outcomes of claims, which may have been lost meanwhile.
    pub(super) async fn finish(&mut self) -> anyhow::Result<()> {
        let (mut outcomes, mut expected) = (Vec::new(), Vec::new());
        let mut seen = BTreeSet::new();
        for _ in 0..=self.chance.below(3) {
            if self.claims.is_empty() {
                break;
            }
            let index = self.chance.below(self.claims.len());
            let (place, attempt) = self.claims.swap_remove(index);
            if !seen.insert(place) {
                continue;
            }
            let mut outcome = json!({"step_uuid": self.key(place), "attempt": attempt});
            expected.push(match self.chance.below(12) {
                0 => {
                    outcome["status"] = json!("release");
                    self.model.release(place, attempt)
                }
                number @ 1..=3 => {
                    let is_retryable = number != 1;
                    outcome["status"] = json!("fail");
                    // Told apart from any other, so that it is never a repetition.
                    outcome["error"] =
                        json!({"message": Uuid::new_v4(), "retryable": is_retryable});
                    self.model.fail(place, attempt, is_retryable)
                }
                _ => {
                    let (result, payload) = self.result(place, false);
                    outcome["status"] = json!("complete");
                    outcome["result"] = result;
                    match &mut outcome["result"] {
                        Value::Object(fields) => {
                            fields.insert("told_apart".to_owned(), json!(Uuid::new_v4()));
                        }
                        other => *other = json!(Uuid::new_v4()),
                    }
                    self.model.complete(place, attempt, payload)
                }
            });
            outcomes.push(outcome);
        }
        self.model.settle();
        let outcomes = json!(outcomes);
        self.trail
            .push(format!("finish {outcomes} -- {expected:?}"));
        let verdicts: Value =
            sqlx::query_scalar("select verdicts from tasker.finish_steps('w', $1::jsonb)")
                .bind(&outcomes)
                .fetch_one(self.session())
                .await?;
        let accepted: Vec<bool> = verdicts
            .as_array()
            .into_iter()
            .flatten()
            .map(|verdict| verdict["verdict"] == "accepted")
            .collect();
        ensure!(
            accepted == expected,
            "{verdicts}, {expected:?} in the model"
        );
        Ok(())
    }
}
