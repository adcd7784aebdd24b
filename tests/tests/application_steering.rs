//! What an application calls is answered alike over SQL and over REST: steering tasks, sending signals, repairing steps; and what isn't there.

use serde_json::json;
use tasker_client::{CancelOptions, RerunOptions};
use tasker_tests::application::{alike, has, json, of};
use tasker_tests::by_hand::{APPROVAL, BOOKING, PAYMENT, claim, complete, fail};
use uuid::Uuid;

/// Larger than any integer that machines count with.
const BIG: &str = "{\"n\": -123456789012345678901234567890}";
const TEMPLATES: [&str; 3] = [PAYMENT, BOOKING, APPROVAL];

#[tokio::test]
async fn tasks_are_steered() -> anyhow::Result<()> {
    let lines = alike(&TEMPLATES, async |application, t| {
        let tasker = &application.tasker;
        let task_uuid = tasker.create_task(&of("payment")).await?;
        t.note(
            "pause",
            &tasker.pause_task(task_uuid, Some("wait & see")).await,
        );
        t.note("pause again", &tasker.pause_task(task_uuid, None).await);
        // What is said besides has the time in words.
        let explained = tasker.explain_task(task_uuid).await?;
        let reasons: Vec<_> = explained
            .iter()
            .map(|step| (&step.step_name, &step.reason))
            .collect();
        t.note("explain", &Ok(reasons));
        t.note("resume", &tasker.resume_task(task_uuid).await);
        t.note("resume again", &tasker.resume_task(task_uuid).await);
        t.note(
            "too early",
            &tasker.rerun_task(task_uuid, &RerunOptions::default()).await,
        );
        t.note(
            "cancel",
            &tasker.cancel_task(task_uuid, Some("no more; ü")).await,
        );
        t.note("cancel again", &tasker.cancel_task(task_uuid, None).await);
        t.note("too late", &tasker.pause_task(task_uuid, None).await);
        t.note("history", &tasker.task_history(task_uuid).await);
        let anew = RerunOptions {
            context: Some(serde_json::from_str(BIG)?),
            ..RerunOptions::default()
        };
        t.note("rerun", &tasker.rerun_task(task_uuid, &anew).await);
        t.note("with another context", &tasker.get_task(task_uuid).await);
        let from = RerunOptions {
            from_step: Some("nothing".to_owned()),
            ..RerunOptions::default()
        };
        t.note(
            "rerun of nothing",
            &tasker.rerun_task(task_uuid, &from).await,
        );
        tasker.cancel_task(task_uuid, None).await?;

        let task_uuid = tasker.create_task(&of("booking")).await?;
        complete(application.client(), "flight", &json!({"seat": 7})).await?;
        let undo = CancelOptions {
            reason: Some("ill"),
            compensate: true,
        };
        t.note(
            "cancel and undo",
            &tasker.cancel_task_with(task_uuid, undo).await,
        );
        t.note("what undoes", &tasker.list_compensations(task_uuid).await);
        Ok(())
    })
    .await?;
    has(&lines, "pause", "true")?;
    has(&lines, "explain", "task_paused")?;
    has(&lines, "resume again", "false")?;
    has(&lines, "too early", "TransitionNotAllowed")?;
    has(&lines, "history", "no more; ü")?;
    has(
        &lines,
        "with another context",
        "-123456789012345678901234567890",
    )?;
    has(&lines, "what undoes", "flight")?;
    Ok(())
}

#[tokio::test]
async fn signals_are_sent() -> anyhow::Result<()> {
    let lines = alike(&TEMPLATES, async |application, t| {
        let tasker = &application.tasker;
        let task_uuid = tasker.create_task(&of("approval")).await?;
        let by = json(&json!({"by": "ada"}))?;
        let payload = Some(by.as_ref());
        t.note("signals before", &tasker.list_signals(task_uuid).await);
        t.note(
            "a wrong payload",
            &tasker.send_signal(task_uuid, "approved", None).await,
        );
        t.note(
            "a wrong name",
            &tasker.send_signal(task_uuid, "a b/ü?", payload).await,
        );
        t.note(
            "send",
            &tasker.send_signal(task_uuid, "approved", payload).await,
        );
        let other = json(&json!({"by": "eve"}))?;
        t.note(
            "send again",
            &tasker
                .send_signal(task_uuid, "approved", Some(&other))
                .await,
        );
        t.note("signals after", &tasker.list_signals(task_uuid).await);
        tasker.cancel_task(task_uuid, None).await?;
        let late = tasker.create_task(&of("approval")).await?;
        tasker.cancel_task(late, None).await?;
        t.note(
            "too late",
            &tasker.send_signal(late, "approved", payload).await,
        );
        Ok(())
    })
    .await?;
    has(&lines, "a wrong payload", "Invalid")?;
    has(&lines, "a wrong name", "NotFound")?;
    has(&lines, "send", "true")?;
    has(&lines, "send again", "false")?;
    has(&lines, "too late", "Cancelled")?;
    Ok(())
}

#[tokio::test]
async fn steps_are_repaired() -> anyhow::Result<()> {
    let lines = alike(&TEMPLATES, async |application, t| {
        let (tasker, client) = (&application.tasker, application.client());
        let task_uuid = tasker.create_task(&of("payment")).await?;
        complete(client, "price", &json!({"cents": 995})).await?;
        let pay = tasker.list_steps(task_uuid).await?.remove(1).step_uuid;
        t.note("nothing to reset", &tasker.reset_step(pay, None).await);
        fail(client, "pay").await?;
        t.note("failed", &tasker.get_task(task_uuid).await);
        t.note(
            "reset",
            &tasker.reset_step(pay, Some("it is up again")).await,
        );
        fail(client, "pay").await?;
        let wrong = json(&json!("a text"))?;
        t.note(
            "a wrong result",
            &tasker.complete_step_manually(pay, &wrong, None).await,
        );
        let null = json(&json!(null))?;
        t.note(
            "complete",
            &tasker
                .complete_step_manually(pay, &null, Some("by hand"))
                .await,
        );
        t.note("step", &tasker.get_step(pay).await);
        t.note("step history", &tasker.step_history(pay).await);
        t.note("done", &tasker.get_task(task_uuid).await);
        t.note(
            "resolve what is done",
            &tasker.resolve_step(pay, None).await,
        );

        let task_uuid = tasker.create_task(&of("payment")).await?;
        let price = claim(client).await?.step_uuid;
        t.note(
            "resolve",
            &tasker.resolve_step(price, Some("no price")).await,
        );
        t.note("steps", &tasker.list_steps(task_uuid).await);
        Ok(())
    })
    .await?;
    has(&lines, "nothing to reset", "TransitionNotAllowed")?;
    has(&lines, "failed", "step pay failed: no money")?;
    has(&lines, "a wrong result", "Invalid")?;
    has(&lines, "step", "complete")?;
    has(&lines, "done", "\"state\":\"complete\"")?;
    has(&lines, "steps", "resolved_manually")?;
    Ok(())
}

#[tokio::test]
async fn what_is_not_there_is_refused() -> anyhow::Result<()> {
    let lines = alike(&TEMPLATES, async |application, t| {
        let tasker = &application.tasker;
        // A key as tasks have them, and one as nothing has.
        for key in [
            "01890000-0000-7000-8000-000000000000",
            "00000000-0000-0000-0000-000000000001",
        ] {
            let key: Uuid = key.parse()?;
            t.note("task", &tasker.get_task(key).await);
            t.note("steps", &tasker.list_steps(key).await);
            t.note("history", &tasker.task_history(key).await);
            t.note("graph", &tasker.task_graph(key).await);
            t.note("explain", &tasker.explain_task(key).await);
            t.note("compensations", &tasker.list_compensations(key).await);
            t.note("signals", &tasker.list_signals(key).await);
            t.note("cancel", &tasker.cancel_task(key, None).await);
            t.note("pause", &tasker.pause_task(key, None).await);
            t.note("resume", &tasker.resume_task(key).await);
            t.note(
                "rerun",
                &tasker.rerun_task(key, &RerunOptions::default()).await,
            );
            t.note("signal", &tasker.send_signal(key, "approved", None).await);
            t.note("step", &tasker.get_step(key).await);
            t.note("step history", &tasker.step_history(key).await);
            // A server has looked for the step before, and says more.
            t.note_code("reset", &tasker.reset_step(key, None).await);
            t.note_code("resolve", &tasker.resolve_step(key, None).await);
            let one = json(&json!(1))?;
            t.note_code(
                "complete",
                &tasker.complete_step_manually(key, &one, None).await,
            );
        }
        Ok(())
    })
    .await?;
    assert!(
        lines.iter().all(|line| line.contains(": NotFound")),
        "{lines:#?}"
    );
    Ok(())
}
