//! What an application calls is answered alike over SQL and over REST: creating tasks, reading and listing them. Steering is in `application_steering`, waiting in `application_waits`, streams in `application_streams`.

use tasker_client::{Definition, Error, NewTask, TaskFilter};
use tasker_tests::application::{alike, has, of};
use tasker_tests::by_hand::{BOOKING, PAYMENT};
use uuid::Uuid;

/// Larger than any integer that machines count with.
const BIG: &str =
    r#"{"n": 123456789012345678901234567890, "small": -9007199254740993, "price": 0.1000}"#;
const PART: &str = "{\"n\": 123456789012345678901234567890}";
const CHECKED: &str = "{name: checked, namespace: shop, version: 1.0.0, input_schema: {type: object, properties: {n: {type: integer}}},
  steps: [{name: a, handler: {callable: t.a}}]}";

const TEMPLATES: [&str; 3] = [PAYMENT, BOOKING, CHECKED];

fn whole() -> anyhow::Result<NewTask> {
    Ok(NewTask {
        template_name: "checked".to_owned(),
        namespace: "shop".to_owned(),
        context: Some(serde_json::from_str(BIG)?),
        version: Some("1.0.0".to_owned()),
        idempotency_key: Some("order 1".to_owned()),
        priority: 7,
        run_at: Some("2020-01-01T00:00:00.000001Z".parse()?),
        correlation_id: Some(Uuid::from_u128(1)),
        parent_correlation_id: Some(Uuid::from_u128(2)),
        tags: vec!["ü & x=1".to_owned(), "b".to_owned()],
        initiator: Some("ada".to_owned()),
        source_system: Some("shop".to_owned()),
        reason: Some("an order".to_owned()),
    })
}

#[tokio::test]
async fn tasks_are_created_and_read() -> anyhow::Result<()> {
    let lines = alike(&TEMPLATES, async |application, t| {
        let tasker = &application.tasker;
        let created = tasker.create_task(&whole()?).await;
        t.note("create", &created);
        t.note("the same again", &tasker.create_task(&whole()?).await);
        let other = NewTask {
            priority: 8,
            ..whole()?
        };
        t.note_code("another with its key", &tasker.create_task(&other).await);
        let many = [of("payment"), whole()?, of("booking")];
        t.note("several", &tasker.create_tasks(&many).await);
        t.note("none", &tasker.create_tasks(&[]).await);
        let nothing = [of("payment"), of("nothing")];
        t.note("all or none", &tasker.create_tasks(&nothing).await);
        let task_uuid = created?;
        t.note("get", &tasker.get_task(task_uuid).await);
        t.note("steps", &tasker.list_steps(task_uuid).await);
        t.note("graph", &tasker.task_graph(task_uuid).await);
        t.note("history", &tasker.task_history(task_uuid).await);
        t.note("compensations", &tasker.list_compensations(task_uuid).await);
        let step = tasker.list_steps(task_uuid).await?.remove(0);
        t.note("step", &tasker.get_step(step.step_uuid).await);
        t.note("step history", &tasker.step_history(step.step_uuid).await);
        Ok(())
    })
    .await?;
    has(&lines, "the same again", "#1")?;
    has(
        &lines,
        "another with its key",
        "AlreadyExists Some(\"TK013\")",
    )?;
    has(&lines, "several", "\"created\":false")?;
    has(&lines, "all or none", "NotFound")?;
    has(&lines, "get", "123456789012345678901234567890")?;
    has(&lines, "get", "0.1000")?;
    Ok(())
}

fn filter(set: impl FnOnce(&mut TaskFilter)) -> TaskFilter {
    let mut filter = TaskFilter::default();
    set(&mut filter);
    filter
}

#[tokio::test]
async fn tasks_are_listed_by_every_filter() -> anyhow::Result<()> {
    let lines = alike(&TEMPLATES, async |application, t| {
        let tasker = &application.tasker;
        let first = tasker.create_task(&whole()?).await?;
        let mut many = vec![of("payment"); 1030];
        many.extend([of("booking"), of("booking")]);
        let many = tasker.create_tasks(&many).await?;
        tasker.cancel_task(many[1031].task_uuid, None).await?;
        let words = |word: &str| Some(vec![word.to_owned()]);
        let begin = tasker.get_task(first).await?.created_at;
        let of_checked = Some("checked".to_owned());
        let filters = [
            ("all", filter(|_| {})),
            ("most", filter(|f| f.limit = Some(1000))),
            ("a page and a bit", filter(|f| f.limit = Some(501))),
            ("after", filter(|f| f.after = Some(many[0].task_uuid))),
            (
                "namespace",
                filter(|f| f.namespace = Some("shop".to_owned())),
            ),
            ("template", filter(|f| f.template_name = of_checked.clone())),
            ("states", filter(|f| f.states = words("cancelled"))),
            ("no state", filter(|f| f.states = Some(Vec::new()))),
            ("tags", filter(|f| f.tags = words("ü & x=1"))),
            (
                "context",
                filter(|f| f.context_contains = serde_json::from_str(PART).ok()),
            ),
            ("before", filter(|f| f.created_before = Some(begin))),
            (
                "since",
                filter(|f| (f.created_after, f.template_name) = (Some(begin), of_checked.clone())),
            ),
        ];
        for (name, filter) in filters {
            let listed = tasker.list_tasks(&filter).await;
            let keys =
                listed.map(|tasks| tasks.iter().map(|task| task.task_uuid).collect::<Vec<_>>());
            if let Ok(keys) = &keys {
                t.note(name, &Ok(keys.len()));
            }
            t.note(name, &keys);
        }
        for (name, limit) in [("no limit", 0), ("a negative one", -1), ("too many", 1001)] {
            let listed = tasker.list_tasks(&filter(|f| f.limit = Some(limit))).await;
            t.note_code(name, &listed.map(drop));
        }
        Ok(())
    })
    .await?;
    has(&lines, "all", "50")?;
    has(&lines, "most", "1000")?;
    has(&lines, "a page and a bit", "501")?;
    has(&lines, "states", "1")?;
    has(&lines, "tags", "1")?;
    has(&lines, "context", "1")?;
    has(&lines, "too many", "BadParameter Some(\"22023\")")?;
    Ok(())
}

#[tokio::test]
async fn bad_input_is_refused() -> anyhow::Result<()> {
    let lines = alike(&TEMPLATES, async |application, t| {
        let tasker = &application.tasker;
        let new = |context: &str| -> anyhow::Result<NewTask> {
            Ok(NewTask {
                context: Some(serde_json::from_str(context)?),
                ..whole()?
            })
        };
        let deep = format!("{{\"a\": {}{}}}", "[".repeat(125), "]".repeat(125));
        let large = format!("{{\"a\": \"{}\"}}", "x".repeat(1024 * 1024));
        let bad = [
            ("not its schema", new("{\"n\": 1.5}")?),
            ("no object", new("[1]")?),
            ("a NUL", new("{\"a\": \"\\u0000\"}")?),
            ("too deep", new(&deep)?),
            ("too large", new(&large)?),
            (
                "priority",
                NewTask {
                    priority: 101,
                    ..whole()?
                },
            ),
            ("no template", of("nothing")),
            (
                "no namespace",
                NewTask {
                    namespace: "nothing".to_owned(),
                    ..of("payment")
                },
            ),
            (
                "no version",
                NewTask {
                    version: Some("9.9.9".to_owned()),
                    ..of("payment")
                },
            ),
        ];
        for (name, task) in bad {
            let refused = tasker.create_task(&task).await;
            assert!(refused.is_err(), "{name}");
            if name == "too large" {
                // A server refuses it before the database does.
                t.note(
                    "too large",
                    &Ok(matches!(refused, Err(Error::LimitExceeded(_)))),
                );
            } else {
                t.note_code(name, &refused);
            }
        }
        Ok(())
    })
    .await?;
    has(&lines, "not its schema", "TK021")?;
    has(&lines, "a NUL", "22P05")?;
    has(&lines, "too deep", "TK022")?;
    has(&lines, "too large", "true")?;
    has(&lines, "no template", "TK003")?;
    Ok(())
}

#[tokio::test]
async fn a_retired_template_is_not_to_be_had_now() -> anyhow::Result<()> {
    let lines = alike(&TEMPLATES, async |application, t| {
        let client = application.client();
        let retired = "{name: gone, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}]}";
        client
            .register_template(Definition::Yaml(retired), None)
            .await?;
        client
            .retire_template("gone", "default", Some("1.0.0"))
            .await?;
        t.note_code(
            "create",
            &application
                .tasker
                .create_task(&NewTask {
                    version: Some("1.0.0".to_owned()),
                    ..of("gone")
                })
                .await,
        );
        Ok(())
    })
    .await?;
    has(&lines, "create", "NotNow Some(\"TK015\")")?;
    Ok(())
}
