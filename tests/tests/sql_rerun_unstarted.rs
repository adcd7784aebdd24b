//! Running tasks that ended before they had started.

use serde_json::json;
use tasker_tests::Scenario;

#[tokio::test]
async fn a_task_that_was_cancelled_before_it_started_starts_when_it_is_rerun() -> anyhow::Result<()>
{
    for pauses in [false, true] {
        let mut sql = Scenario::new().await?;
        sql.register("{name: later, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}]}")
            .await?;
        let task = sql
            .create("'later', run_at => tasker._now() + interval '1 hour'")
            .await?;
        if pauses {
            sql.run(&format!("select tasker.pause_task('{task}')"))
                .await?;
        }
        sql.run(&format!("select tasker.cancel_task('{task}')"))
            .await?;
        let refused = sql
            .refused(&format!("select tasker.rerun_task('{task}', 'a')"))
            .await?;
        assert_eq!(refused.code, "TK010");
        sql.run(&format!("select tasker.rerun_task('{task}')"))
            .await?;
        sql.verify().await?;
        if pauses {
            assert!(sql.claim("w", 1).await?.is_empty());
            sql.run(&format!("select tasker.resume_task('{task}')"))
                .await?;
        }
        let step = sql.claim_one().await?;
        sql.complete(&step, json!(1)).await?;
        sql.verify().await?;
        assert_eq!(sql.task_state(&task).await?, "complete");
        assert_eq!(
            sql.path("task_history", &task).await?,
            "pending -cancel-> cancelled -rerun-> evaluating_results -ready_steps_found-> enqueuing_steps -steps_enqueued-> steps_in_process \
             -all_steps_completed-> evaluating_results -all_steps_successful-> complete"
        );
    }
    Ok(())
}
