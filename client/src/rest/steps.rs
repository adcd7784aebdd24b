//! Steps: list, get, their history; reset, complete and resolve them by hand. A step's key names its task, which the paths want.

use reqwest::Method;
use serde::Serialize;
use serde_json::value::RawValue;
use tasker_rules::key;
use uuid::Uuid;

use super::RestClient;
use super::answer::{document, items};
use super::call::Call;
use crate::error::Error;
use crate::steps::Step;
use crate::tasks::HistoryRow;

#[derive(Serialize)]
struct Repair<'a> {
    action_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
}

impl RestClient {
    /// As [`Client::list_steps`](crate::Client::list_steps).
    pub async fn list_steps(&self, task_uuid: Uuid) -> Result<Vec<Step>, Error> {
        let path = ["v1", "tasks", &task_uuid.to_string(), "workflow_steps"];
        items(&self.send(Call::get(&path)).await?)
    }

    /// As [`Client::get_step`](crate::Client::get_step).
    pub async fn get_step(&self, step_uuid: Uuid) -> Result<Step, Error> {
        let (task, step) = (task_of(step_uuid), step_uuid.to_string());
        let path = ["v1", "tasks", &task, "workflow_steps", &step];
        document(&self.send(Call::get(&path)).await?)
    }

    /// As [`Client::step_history`](crate::Client::step_history).
    pub async fn step_history(&self, step_uuid: Uuid) -> Result<Vec<HistoryRow>, Error> {
        let (task, step) = (task_of(step_uuid), step_uuid.to_string());
        let path = ["v1", "tasks", &task, "workflow_steps", &step, "audit"];
        items(&self.send(Call::get(&path)).await?)
    }

    /// As [`Client::reset_step`](crate::Client::reset_step).
    pub async fn reset_step(&self, step_uuid: Uuid, reason: Option<&str>) -> Result<(), Error> {
        let repair = Repair {
            action_type: "reset_for_retry",
            reason,
            result: None,
        };
        self.repair(step_uuid, &repair).await
    }

    /// As [`Client::complete_step_manually`](crate::Client::complete_step_manually).
    pub async fn complete_step_manually(
        &self,
        step_uuid: Uuid,
        result: &RawValue,
        reason: Option<&str>,
    ) -> Result<(), Error> {
        let repair = Repair {
            action_type: "complete_manually",
            reason,
            result: Some(result),
        };
        self.repair(step_uuid, &repair).await
    }

    /// As [`Client::resolve_step`](crate::Client::resolve_step).
    pub async fn resolve_step(&self, step_uuid: Uuid, reason: Option<&str>) -> Result<(), Error> {
        let repair = Repair {
            action_type: "resolve_manually",
            reason,
            result: None,
        };
        self.repair(step_uuid, &repair).await
    }

    async fn repair(&self, step_uuid: Uuid, repair: &Repair<'_>) -> Result<(), Error> {
        let (task, step) = (task_of(step_uuid), step_uuid.to_string());
        let path = ["v1", "tasks", &task, "workflow_steps", &step];
        self.send(Call::new(Method::PATCH, &path).body(repair)?)
            .await?;
        Ok(())
    }
}

fn task_of(step_uuid: Uuid) -> String {
    Uuid::from_u128(key::task_of(step_uuid.as_u128())).to_string()
}
