//! What reading statistics costs: the same whatever the amount of history, counted in blocks touched.

use serde_json::Value;
use tasker_tests::figures::{Figures, drain};

const CHAIN: &str = "{name: chain, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}, {name: b, handler: {callable: t.b}, dependencies: [a]}]}";
const FAN: &str = "{name: fan, namespace: shop, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}, {name: b, handler: {callable: t.b}}]}";

/// The blocks that a query touches when the catalogues have been read and the plans made.
async fn blocks(figures: &mut Figures, sql: &str) -> anyhow::Result<i64> {
    let mut touched = 0;
    for _ in 0..3 {
        let plan: Value =
            sqlx::query_scalar(&format!("explain (analyze, buffers, format json) {sql}"))
                .fetch_one(&mut figures.session)
                .await?;
        let blocks = |name: &str| plan[0]["Plan"][name].as_i64().unwrap_or_default();
        touched = blocks("Shared Hit Blocks") + blocks("Shared Read Blocks");
    }
    Ok(touched)
}

#[tokio::test]
async fn reading_touches_as_many_blocks_with_twenty_times_the_history() -> anyhow::Result<()> {
    const READ: [&str; 5] = [
        "select * from tasker.statistics()",
        "select * from tasker.slowest_steps()",
        "select * from tasker.slowest_tasks()",
        "select * from tasker.queue_stats()",
        "select * from tasker.health()",
    ];
    let mut figures = Figures::new(&[CHAIN, FAN]).await?;
    let mut seen = Vec::new();
    for tasks in [50, 950] {
        figures.run(&format!("select tasker.create_task('chain'), tasker.create_task('fan', 'shop') from generate_series(1, {tasks})")).await?;
        drain(&mut figures.session).await?;
        figures.folded().await?;
        figures.run("vacuum (analyze)").await?;
        let mut of_each = Vec::new();
        for sql in READ {
            of_each.push(blocks(&mut figures, sql).await?);
        }
        seen.push(of_each);
    }
    eprintln!("{seen:?}");
    for (index, sql) in READ.iter().enumerate() {
        let (few, many) = (seen[0][index], seen[1][index]);
        assert!(many <= few + 10, "{sql} touches {few} blocks, then {many}");
    }
    Ok(())
}
