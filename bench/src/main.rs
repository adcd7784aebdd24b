//! The benchmark: what Tasker costs, beside what the machine can do in the same run.
//!
//! | module | holds |
//! |---|---|
//! | `options` | the command line, and how much is measured |
//! | `shapes` | the graphs |
//! | `stage` | the PostgreSQL, the server and the worker that are measured |
//! | `meter`, `machine` | what the database and the operating system count |
//! | `limits` | what the machine, PGMQ and RabbitMQ can do without Tasker |
//! | `latency`, `sustained`, `half_load` | what the worker process does: one task at a time, as much as it can, tasks that arrive at half of that |
//! | `arrivals` | tasks created at fixed times |
//! | `creation`, `drain`, `one_task`, `one_map` | what the engine does: create, work off a backlog, work off one very large task, or a map over very much |
//! | `flat` | whether the drain stays as fast with full tables, without statistics, under a held snapshot |
//! | `report` | the table, the file, the charts, the targets |
#![allow(clippy::print_stdout, reason = "the table goes to stdout")]
#![allow(
    clippy::cast_precision_loss,
    reason = "no count here comes near the 52 bits of a float"
)]

mod arrivals;
mod creation;
mod distribution;
mod drain;
mod flat;
mod half_load;
mod latency;
mod limits;
mod machine;
mod meter;
mod one_map;
mod one_task;
mod options;
mod report;
mod shapes;
mod stage;
mod sustained;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use clap::Parser;

use crate::drain::Drain;
use crate::half_load::HalfLoad;
use crate::latency::Lone;
use crate::limits::{CLIENTS, Limits, commits};
use crate::machine::{Memory, Others};
use crate::meter::Meter;
use crate::options::{Extent, Options};
use crate::report::{Figures, Machine, Report, charts, reading, table, targets};
use crate::shapes::Shape;
use crate::stage::{Program, Stage, project};
use crate::sustained::Sustained;

/// With which the fan-out is held against independent steps.
const FAN_OUT_CONNECTIONS: u32 = 2;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let began = Instant::now();
    let others_before = Others::look().await?;
    say("starting PostgreSQL");
    let stage = Stage::start(options.pg_bin.clone()).await?;
    if options.limits {
        let outcome = limits_alone(&stage, options.extent()).await;
        stage.stop()?;
        print!("{}", table::render_limits(&outcome?));
        return Ok(());
    }
    if options.maps {
        let outcome = one_map::sizes(&stage, options.extent()).await;
        stage.stop()?;
        print!("{}", table::render_maps(&outcome?));
        return Ok(());
    }
    if options.snapshot {
        let outcome = flat::held_snapshot(&stage, options.extent()).await;
        stage.stop()?;
        print!("{}", table::render_flat(&[outcome?]));
        return Ok(());
    }
    let outcome = measure(&stage, &options).await;
    stage.stop()?;
    let (postgresql, limits, figures) = outcome?;
    let others_after = Others::look().await?;
    let report = Report {
        date: chrono::Local::now().to_rfc3339(),
        quick: options.quick,
        machine: Machine {
            revision: stage::revision().await,
            cores: std::thread::available_parallelism()?.get(),
            postgresql,
            others_before,
            others_after,
            run_seconds: began.elapsed().as_secs_f64(),
        },
        targets: targets::judge(&figures, &limits),
        reading: reading::read(&figures, &limits, [others_before, others_after]),
        limits,
        figures,
    };
    println!("{}", table::render(&report));
    for path in write(&report)? {
        println!("{}", path.display());
    }
    Ok(())
}

fn say(what: &str) {
    eprintln!("bench: {what}");
}

async fn measure(stage: &Stage, options: &Options) -> anyhow::Result<(String, Limits, Figures)> {
    let extent = options.extent();
    say("the machine's limits");
    let before = commits::runs(stage, extent).await?;
    let mut meter = Meter::connect(stage).await?;
    let postgresql = meter.version().await?;
    let figures = figures(stage, &mut meter, options, extent).await?;
    meter.close().await?;
    say("the machine's limits once more");
    let limits = Limits::complete(stage, extent, before).await?;
    Ok((postgresql, limits, figures))
}

async fn limits_alone(stage: &Stage, extent: Extent) -> anyhow::Result<Limits> {
    say("the machine's limits");
    let before = commits::runs(stage, extent).await?;
    Limits::complete(stage, extent, before).await
}

async fn figures(
    stage: &Stage,
    meter: &mut Meter,
    options: &Options,
    extent: Extent,
) -> anyhow::Result<Figures> {
    let worker = stage.start_worker()?;
    say("an idle worker");
    // Autovacuum's own transactions would count too.
    meter.switch_autovacuum(false).await?;
    let idle_worker_transactions_per_second = latency::idle(meter, extent).await?;
    meter.switch_autovacuum(true).await?;
    let (server, server_url) = stage.start_server().await?;
    let latency = lone_tasks(stage, meter, options, extent).await?;
    let (sustained, half_load) = under_load(stage, meter, &worker, extent).await?;
    say("creating one by one");
    let creation = creation::one_by_one(stage, &server_url, extent).await?;
    let worker_memory = Memory::of(worker.process()?)?;
    let server_memory = Memory::of(server.process()?)?;
    // What is counted below is the drains' alone.
    worker.end().await?;
    server.end().await?;
    meter.switch_autovacuum(false).await?;
    let drains = drains(stage, meter, extent).await?;
    say("draining independent steps, then fan-outs");
    let (steps, with) = (extent.backlog_steps, FAN_OUT_CONNECTIONS);
    let independent = drain::drain(stage, meter, Shape::Noop, steps, with).await?;
    let fan_out = drain::drain(stage, meter, Shape::FanOut, steps, with).await?;
    meter.switch_autovacuum(true).await?;
    say("one task of many steps");
    let one_task = one_task::sizes(stage, extent).await?;
    say("a map over many elements");
    let one_map = one_map::sizes(stage, extent).await?;
    Ok(Figures {
        latency,
        sustained,
        half_load,
        creation,
        idle_worker_transactions_per_second,
        worker_memory,
        server_memory,
        drains,
        independent,
        fan_out,
        one_task,
        one_map,
        flat: flat::conditions(stage, extent).await?,
    })
}

async fn lone_tasks(
    stage: &Stage,
    meter: &mut Meter,
    options: &Options,
    extent: Extent,
) -> anyhow::Result<Vec<Lone>> {
    let mut latencies = Vec::new();
    for shape in options.shapes() {
        say(&format!("one task at a time: {}", shape.name()));
        latencies.push(latency::lone(stage, meter, shape, extent).await?);
    }
    Ok(latencies)
}

/// What the worker sustains of each shape, and the latency at half of it.
async fn under_load(
    stage: &Stage,
    meter: &mut Meter,
    worker: &Program,
    extent: Extent,
) -> anyhow::Result<(Vec<Sustained>, Vec<HalfLoad>)> {
    let (mut most, mut half) = (Vec::new(), Vec::new());
    for shape in extent.half_load_shapes {
        say(&format!("what the worker sustains of {}", shape.name()));
        let tasks = extent.sustained_tasks;
        let sustained = sustained::sustained(stage, meter, worker, *shape, tasks).await?;
        say(&format!("half of it: {}", shape.name()));
        let long = extent.half_load;
        half.push(half_load::half_load(stage, meter, *shape, &sustained, long).await?);
        most.push(sustained);
    }
    Ok((most, half))
}

/// Backlogs of linear 4, with each number of connections.
async fn drains(stage: &Stage, meter: &mut Meter, extent: Extent) -> anyhow::Result<Vec<Drain>> {
    let mut drains = Vec::new();
    for connections in CLIENTS {
        say(&format!("draining linear 4 with {connections} connections"));
        let steps = extent.backlog_steps;
        drains.push(drain::drain(stage, meter, Shape::Linear, steps, connections).await?);
    }
    Ok(drains)
}

/// Writes the file and the charts; a quick run never takes the place of a full one of the same day.
fn write(report: &Report) -> anyhow::Result<Vec<PathBuf>> {
    let folder = project().join("bench/results");
    std::fs::create_dir_all(&folder)?;
    let day = report.date.get(..10).unwrap_or(&report.date);
    let name = format!("{day}{}", if report.quick { "-quick" } else { "" });
    let files = [
        (
            format!("{name}.json"),
            serde_json::to_string_pretty(report)? + "\n",
        ),
        (format!("{name}-latency.svg"), charts::latency(report)),
        (format!("{name}-throughput.svg"), charts::throughput(report)),
        (format!("{name}-flat.svg"), charts::flat(report)),
    ];
    let mut paths = Vec::new();
    for (file, text) in files {
        let path = folder.join(file);
        std::fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))?;
        paths.push(path);
    }
    Ok(paths)
}
