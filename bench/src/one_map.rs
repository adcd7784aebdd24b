//! One map over very many elements, drained over one connection. What an element costs may not depend on how many there are.

use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;
use serde_json::json;
use tasker_client::{ClaimRequest, Client, FinishRequest, NewTask, Outcome, VerdictKind};

use crate::drain;
use crate::meter::Meter;
use crate::options::Extent;
use crate::shapes::{MAP, UNSERVED, map};
use crate::stage::Stage;

const DATABASE: &str = "one_map";
/// A small map is over so soon that several are run, one after the other: about so many elements in all.
const ELEMENTS_IN_ALL: usize = 30_000;
const TASKS_MOST: usize = 10;
const LEASE: Duration = Duration::from_mins(1);

/// Maps of one size.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct OneMap {
    /// Of each map.
    pub(crate) elements: usize,
    /// How many were run, one after the other.
    pub(crate) tasks: usize,
    /// The calls that finished the steps which returned the arrays, and so made the instances, together.
    pub(crate) make_seconds: f64,
    /// From the start of each one's first step to its end, that call among it, together.
    pub(crate) seconds: f64,
    pub(crate) microseconds_per_element: f64,
}

/// Measures each size, in a database of its own.
pub(crate) async fn sizes(stage: &Stage, extent: Extent) -> anyhow::Result<Vec<OneMap>> {
    let stage = stage.beside(DATABASE, &[map()]).await?;
    let mut meter = Meter::connect(&stage).await?;
    let client = stage.client("tasker-bench one map", 1).await?;
    run(&client, &mut meter, 10).await?;
    let mut measured = Vec::new();
    for elements in extent.one_map_elements {
        measured.push(size(&client, &mut meter, *elements).await?);
    }
    client.close().await;
    meter.close().await?;
    stage.drop_database()?;
    Ok(measured)
}

async fn size(client: &Client, meter: &mut Meter, elements: usize) -> anyhow::Result<OneMap> {
    meter.checkpoint().await?;
    let tasks = (ELEMENTS_IN_ALL / elements).clamp(1, TASKS_MOST);
    let (mut make_seconds, mut seconds) = (0.0, 0.0);
    for _ in 0..tasks {
        let (making, whole) = run(client, meter, elements).await?;
        make_seconds += making;
        seconds += whole;
    }
    Ok(OneMap {
        elements,
        tasks,
        make_seconds,
        seconds,
        microseconds_per_element: seconds * 1e6 / (tasks * elements) as f64,
    })
}

/// Runs one; gives how long the call took that made its instances, and the whole.
async fn run(client: &Client, meter: &mut Meter, elements: usize) -> anyhow::Result<(f64, f64)> {
    let task = NewTask {
        template_name: MAP.to_owned(),
        namespace: UNSERVED.to_owned(),
        ..NewTask::default()
    };
    let key = client.create_task(&task).await?;
    let claim = ClaimRequest {
        worker_id: "bench-1".to_owned(),
        namespaces: vec![UNSERVED.to_owned()],
        max_steps: 1,
        lease: LEASE,
        handlers: None,
    };
    let claimed = client.claim_steps(&claim).await?;
    let first = claimed.first().context("the first step isn't ready")?;
    let items: Vec<usize> = (0..elements).collect();
    let request = FinishRequest {
        worker_id: claim.worker_id,
        outcomes: vec![Outcome::complete(
            first.step_uuid,
            first.attempt,
            json!({"items": items}),
        )],
        claim_next: 0,
        lease: LEASE,
        namespaces: None,
        handlers: None,
        request_id: None,
    };
    let began = Instant::now();
    let finished = client.finish_steps(&request).await?;
    let making = began.elapsed().as_secs_f64();
    let is_taken = finished
        .verdicts
        .iter()
        .all(|verdict| verdict.verdict == VerdictKind::Accepted && verdict.code.is_none());
    ensure!(is_taken, "the array was refused: {:?}", finished.verdicts);
    // The map's own step is the engine's; the one behind it is worked off too.
    drain::work_off(client, "bench-1", &AtomicUsize::new(0), elements + 1).await?;
    Ok((making, meter.span_seconds(key, key).await?))
}
