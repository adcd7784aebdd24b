//! What it costs to ask whether a caller may act in a namespace, counted and not timed.

use sqlx::Executor;
use tasker_tests::counting::Counting;
use tasker_tests::has_statement_statistics;

const CHAIN: &str = "{name: chain, version: 1.0.0, steps: [{name: a, handler: {callable: t}}, {name: b, handler: {callable: t}, dependencies: [a]}]}";

#[tokio::test]
async fn a_check_of_namespaces_costs_one_statement_a_call_and_nothing_while_it_is_off()
-> anyhow::Result<()> {
    if !has_statement_statistics()? {
        eprintln!("skipped: the statements of a check: this PostgreSQL has no pg_stat_statements");
        return Ok(());
    }
    let mut engine = Counting::start().await?;
    engine.register(CHAIN).await?;
    engine
        .worker()
        .execute(sqlx::raw_sql(
            "create role tenant; grant tasker_client, tasker_worker to tenant;
             select tasker.grant_namespace('tenant', 'default', p) from unnest('{create,work}'::text[]) p",
        ))
        .await?;
    let mut counts = Vec::new();
    for check in ["off", "on"] {
        let set = format!("reset role; set tasker.check_namespaces = {check}; set role tenant");
        engine.worker().execute(sqlx::raw_sql(&set)).await?;
        // The first round prepares what each session prepares once.
        for is_counted in [false, true] {
            engine.forget_statements().await?;
            engine.create("chain", 1).await?;
            let held = engine.claim(1).await?;
            assert_eq!(engine.finish(&held, 1).await?.len(), 1);
            if is_counted {
                let looked_up = "select coalesce(sum(calls), 0)::bigint from pg_stat_statements where query like '%namespace_grants%'";
                engine.worker().execute("reset role").await?;
                let looked_up: i64 = sqlx::query_scalar(looked_up)
                    .fetch_one(engine.worker())
                    .await?;
                counts.push(looked_up);
            }
        }
    }
    eprintln!("look-ups of grants in three calls, off and on: {counts:?}");
    assert_eq!(counts, [0, 3]);
    Ok(())
}
