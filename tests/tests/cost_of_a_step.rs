//! What a step costs, counted by the database and not timed: the counts are the same on every machine, so a change that makes a step dearer fails here.

use tasker_tests::counting::{Counting, Spent};

/// The most that a step may cost, on the average over some work with its creation: what was measured and some 10 % more. Lower them when a change makes a step cheaper.
const BOUNDS: [Bound; 3] = [
    Bound {
        work: Work::Backlog,
        transactions: 0.0231,
        statements: 0.252,
        wal_bytes: 1941.0,
        tuples_written: 8.525,
    },
    Bound {
        work: Work::SingleSteps,
        transactions: 0.0231,
        statements: 0.383,
        wal_bytes: 3267.0,
        tuples_written: 14.3,
    },
    Bound {
        work: Work::LoneChain,
        transactions: 1.65,
        statements: 16.8,
        wal_bytes: 1885.0,
        tuples_written: 8.525,
    },
];

struct Bound {
    work: Work,
    transactions: f64,
    statements: f64,
    wal_bytes: f64,
    tuples_written: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Chains of four steps, created in one call and drained over one session in batches of 50.
    Backlog,
    /// The same with tasks of one step.
    SingleSteps,
    /// One chain of four steps at a time, each created and drained before the next.
    LoneChain,
}

const TEMPLATES: [&str; 2] = [
    "{name: chain, version: 1.0.0, steps: [{name: a, handler: {callable: t}}, {name: b, handler: {callable: t}, dependencies: [a]}, \
     {name: c, handler: {callable: t}, dependencies: [b]}, {name: d, handler: {callable: t}, dependencies: [c]}]}",
    "{name: single, version: 1.0.0, steps: [{name: a, handler: {callable: t}}]}",
];
const BATCH: usize = 50;

impl Work {
    /// Does so many tasks of it, and gives the number of steps done.
    async fn run(self, engine: &mut Counting, tasks: usize) -> anyhow::Result<usize> {
        match self {
            Self::Backlog => {
                engine.create("chain", tasks).await?;
                engine.drain(BATCH).await
            }
            Self::SingleSteps => {
                engine.create("single", tasks).await?;
                engine.drain(BATCH).await
            }
            Self::LoneChain => {
                let mut steps = 0;
                for _ in 0..tasks {
                    engine.create("chain", 1).await?;
                    steps += engine.drain(1).await?;
                }
                Ok(steps)
            }
        }
    }

    fn tasks(self) -> usize {
        match self {
            Self::Backlog => 500,
            Self::SingleSteps => 2000,
            Self::LoneChain => 50,
        }
    }

    fn steps_a_task(self) -> usize {
        match self {
            Self::Backlog | Self::LoneChain => 4,
            Self::SingleSteps => 1,
        }
    }
}

async fn measured(work: Work) -> anyhow::Result<Spent> {
    let mut engine = Counting::start().await?;
    for template in TEMPLATES {
        engine.register(template).await?;
    }
    // A busy worker has read its templates and made its plans, which each session does once.
    work.run(&mut engine, 100).await?;
    engine
        .spend(async |engine| {
            let steps = work.run(engine, work.tasks()).await?;
            assert_eq!(steps, work.tasks() * work.steps_a_task());
            Ok(())
        })
        .await
}

/// Measures the work and holds it against its bounds.
async fn costs_no_more_than_its_bounds(work: Work) -> anyhow::Result<()> {
    let spent = measured(work).await?;
    let steps = f64::from(i32::try_from(work.tasks() * work.steps_a_task())?);
    let mut dearer = Vec::new();
    for bound in BOUNDS.iter().filter(|bound| bound.work == work) {
        let counts = [
            ("transactions", Some(spent.transactions), bound.transactions),
            ("statements", spent.statements, bound.statements),
            ("bytes of WAL", Some(spent.wal_bytes), bound.wal_bytes),
            (
                "tuples written",
                Some(spent.tuples_written),
                bound.tuples_written,
            ),
        ];
        for (what, count, most) in counts {
            let Some(count) = count else {
                eprintln!("skipped: {what} of {work:?}: this PostgreSQL has no pg_stat_statements");
                continue;
            };
            assert!(count > 0, "{work:?} took no {what}: nothing was counted");
            let each = f64::from(i32::try_from(count)?) / steps;
            eprintln!("{work:?}: {each:.3} {what} a step, at most {most}");
            if each > most {
                dearer.push(format!("{each:.3} {what} a step, more than {most}"));
            }
        }
    }
    assert!(dearer.is_empty(), "{work:?} costs {}", dearer.join("; "));
    Ok(())
}

#[tokio::test]
async fn a_step_of_a_backlog_of_chains_costs_no_more_than_its_bounds() -> anyhow::Result<()> {
    costs_no_more_than_its_bounds(Work::Backlog).await
}

#[tokio::test]
async fn a_task_of_a_single_step_costs_no_more_than_its_bounds() -> anyhow::Result<()> {
    costs_no_more_than_its_bounds(Work::SingleSteps).await
}

#[tokio::test]
async fn a_step_of_a_lone_chain_costs_no_more_than_its_bounds() -> anyhow::Result<()> {
    costs_no_more_than_its_bounds(Work::LoneChain).await
}
