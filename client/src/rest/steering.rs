//! Tasks steered and explained, and signals sent to them.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::RestClient;
use super::answer::{document, items};
use super::call::Call;
use crate::error::Error;
use crate::signals::Signal;
use crate::steering::{CancelOptions, Compensation, Explanation, RerunOptions};

#[derive(Serialize)]
struct Reason<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

#[derive(Serialize)]
struct Payload<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Cancelled {
    cancelled: bool,
}

#[derive(Deserialize)]
struct Paused {
    paused: bool,
}

#[derive(Deserialize)]
struct Resumed {
    resumed: bool,
}

#[derive(Deserialize)]
struct Sent {
    sent: bool,
}

impl RestClient {
    /// As [`Client::cancel_task_with`](crate::Client::cancel_task_with).
    pub async fn cancel_task_with(
        &self,
        task_uuid: Uuid,
        options: CancelOptions<'_>,
    ) -> Result<bool, Error> {
        let path = ["v1", "tasks", &task_uuid.to_string()];
        let call = Call::new(Method::DELETE, &path)
            .query("reason", options.reason.map(str::to_owned))
            .query("compensate", options.compensate.then(|| "true".to_owned()));
        Ok(document::<Cancelled>(&self.send(call).await?)?.cancelled)
    }

    /// As [`Client::pause_task`](crate::Client::pause_task).
    pub async fn pause_task(&self, task_uuid: Uuid, reason: Option<&str>) -> Result<bool, Error> {
        let path = ["v1", "tasks", &task_uuid.to_string(), "pause"];
        let call = Call::new(Method::POST, &path).body(&Reason { reason })?;
        Ok(document::<Paused>(&self.send(call).await?)?.paused)
    }

    /// As [`Client::resume_task`](crate::Client::resume_task).
    pub async fn resume_task(&self, task_uuid: Uuid) -> Result<bool, Error> {
        let path = ["v1", "tasks", &task_uuid.to_string(), "resume"];
        let call = Call::new(Method::POST, &path);
        Ok(document::<Resumed>(&self.send(call).await?)?.resumed)
    }

    /// As [`Client::rerun_task`](crate::Client::rerun_task).
    pub async fn rerun_task(&self, task_uuid: Uuid, options: &RerunOptions) -> Result<(), Error> {
        let path = ["v1", "tasks", &task_uuid.to_string(), "rerun"];
        let call = Call::new(Method::POST, &path).body(options)?;
        self.send(call).await?;
        Ok(())
    }

    /// As [`Client::explain_task`](crate::Client::explain_task).
    pub async fn explain_task(&self, task_uuid: Uuid) -> Result<Vec<Explanation>, Error> {
        let path = ["v1", "tasks", &task_uuid.to_string(), "explain"];
        items(&self.send(Call::get(&path)).await?)
    }

    /// As [`Client::list_compensations`](crate::Client::list_compensations).
    pub async fn list_compensations(&self, task_uuid: Uuid) -> Result<Vec<Compensation>, Error> {
        let path = ["v1", "tasks", &task_uuid.to_string(), "compensations"];
        items(&self.send(Call::get(&path)).await?)
    }

    /// As [`Client::send_signal`](crate::Client::send_signal).
    pub async fn send_signal(
        &self,
        task_uuid: Uuid,
        name: &str,
        payload: Option<&RawValue>,
    ) -> Result<bool, Error> {
        let path = ["v1", "tasks", &task_uuid.to_string(), "signals", name];
        let call = Call::new(Method::POST, &path).body(&Payload { payload })?;
        Ok(document::<Sent>(&self.send(call).await?)?.sent)
    }

    /// As [`Client::list_signals`](crate::Client::list_signals).
    pub async fn list_signals(&self, task_uuid: Uuid) -> Result<Vec<Signal>, Error> {
        let path = ["v1", "tasks", &task_uuid.to_string(), "signals"];
        items(&self.send(Call::get(&path)).await?)
    }
}
