//! Tasks: create, get, list; their history and graph.

use chrono::SecondsFormat;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::RestClient;
use super::answer::{document, items};
use super::call::Call;
use crate::error::{Details, Error};
use crate::tasks::{CreatedTask, GraphNode, HistoryRow, NewTask, Task, TaskFilter};

/// A page of the server's.
const LONGEST_PAGE: i32 = 500;
/// What is listed when the caller doesn't say.
const DEFAULT_LIMIT: i32 = 50;
/// The most that is listed at once, as over SQL.
const MOST: i32 = 1000;

#[derive(Serialize)]
struct Batch<'a> {
    requests: &'a [NewTask],
}

#[derive(Deserialize)]
struct Created {
    task_uuid: Uuid,
}

impl RestClient {
    /// As [`Client::create_task`](crate::Client::create_task). Sent again only with an idempotency key.
    pub async fn create_task(&self, task: &NewTask) -> Result<Uuid, Error> {
        let call = Call::new(Method::POST, &["v1", "tasks"])
            .body(task)?
            .repeatable(task.idempotency_key.is_some());
        let body = self.send(call).await?;
        Ok(document::<Created>(&body)?.task_uuid)
    }

    /// As [`Client::create_tasks`](crate::Client::create_tasks). Sent again only when each has an idempotency key.
    pub async fn create_tasks(&self, tasks: &[NewTask]) -> Result<Vec<CreatedTask>, Error> {
        let call = Call::new(Method::POST, &["v1", "tasks", "batch"])
            .body(&Batch { requests: tasks })?
            .repeatable(tasks.iter().all(|task| task.idempotency_key.is_some()));
        items(&self.send(call).await?)
    }

    /// As [`Client::get_task`](crate::Client::get_task).
    pub async fn get_task(&self, task_uuid: Uuid) -> Result<Task, Error> {
        let path = ["v1", "tasks", &task_uuid.to_string()];
        document(&self.send(Call::get(&path)).await?)
    }

    /// As [`Client::list_tasks`](crate::Client::list_tasks). A tag with a comma can't be asked for.
    pub async fn list_tasks(&self, filter: &TaskFilter) -> Result<Vec<Task>, Error> {
        let limit = filter.limit.unwrap_or(DEFAULT_LIMIT);
        if limit > MOST {
            return self.page_of_tasks(filter, limit, filter.after).await;
        }
        let mut tasks: Vec<Task> = Vec::new();
        loop {
            let wanted = (limit - tasks.len() as i32).min(LONGEST_PAGE);
            let after = tasks.last().map(|task| task.task_uuid).or(filter.after);
            let page = self.page_of_tasks(filter, wanted, after).await?;
            let is_last = page.len() < wanted as usize;
            tasks.extend(page);
            if is_last || tasks.len() >= limit as usize {
                return Ok(tasks);
            }
        }
    }

    async fn page_of_tasks(
        &self,
        filter: &TaskFilter,
        limit: i32,
        after: Option<Uuid>,
    ) -> Result<Vec<Task>, Error> {
        let time =
            |time: chrono::DateTime<chrono::Utc>| time.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        let context = filter.context_contains.as_ref();
        let call = Call::get(&["v1", "tasks"])
            .query("namespace", filter.namespace.clone())
            .query("template_name", filter.template_name.clone())
            .query("states", words("state", filter.states.as_deref())?)
            .query("tags", words("tag", filter.tags.as_deref())?)
            .query(
                "context_contains",
                context.map(|json| json.get().to_owned()),
            )
            .query("created_after", filter.created_after.map(time))
            .query("created_before", filter.created_before.map(time))
            .query("after", after.map(|after| after.to_string()))
            .query("limit", Some(limit.to_string()));
        items(&self.send(call).await?)
    }

    /// As [`Client::task_history`](crate::Client::task_history).
    pub async fn task_history(&self, task_uuid: Uuid) -> Result<Vec<HistoryRow>, Error> {
        let path = ["v1", "tasks", &task_uuid.to_string(), "history"];
        items(&self.send(Call::get(&path)).await?)
    }

    /// As [`Client::task_graph`](crate::Client::task_graph).
    pub async fn task_graph(&self, task_uuid: Uuid) -> Result<Vec<GraphNode>, Error> {
        let path = ["v1", "tasks", &task_uuid.to_string(), "graph"];
        items(&self.send(Call::get(&path)).await?)
    }
}

/// Words as the server takes them, separated by commas.
fn words(what: &str, words: Option<&[String]>) -> Result<Option<String>, Error> {
    let Some(words) = words else { return Ok(None) };
    match words
        .iter()
        .find(|word| word.contains(',') || word.is_empty())
    {
        None => Ok(Some(words.join(","))),
        Some(word) => Err(Error::BadParameter(Details {
            code: "22023".to_owned(),
            message: format!("the {what} {word:?} can't be asked for over REST"),
            detail: Some("They are separated by commas there.".to_owned()),
            hint: Some("Ask for it over SQL.".to_owned()),
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_separated_by_commas_and_those_that_have_one_are_refused() {
        let given =
            |given: &[&str]| -> Vec<String> { given.iter().map(ToString::to_string).collect() };
        let said = words("tag", Some(&given(&["a", "b"])));
        assert_eq!(said.expect("words").as_deref(), Some("a,b"));
        assert_eq!(words("tag", Some(&[])).expect("none").as_deref(), Some(""));
        assert_eq!(words("tag", None).expect("nothing"), None);
        let refused = words("tag", Some(&given(&["a,b"])));
        assert!(matches!(refused, Err(Error::BadParameter(_))));
    }
}
