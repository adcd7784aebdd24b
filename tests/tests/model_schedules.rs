//! Schedules as chance has them, with the clock moved by leaps, pauses, backfills and several at maintenance: the tasks there are, are those that a simple model says, none twice, none lost.
//!
//! A run that fails prints its seed; `TASKER_MODEL_SEED=1 cargo test -p tasker-tests --test model_schedules` runs it again, and `TASKER_MODEL_OPERATIONS` sets how long a run is.

use anyhow::{Context, ensure};
use sqlx::PgConnection;
use tasker_client::Definition;
use tasker_tests::TestDatabase;
use tasker_tests::model::cron::{Expression, Minutes, Shown};
use tasker_tests::model::schedules::{CatchUp, Schedule};
use tasker_tests::model::{Chance, Millis, operations, seeds};

const DEFAULT_OPERATIONS: u64 = 60;
const SCHEDULES: usize = 6;
const SESSIONS: usize = 3;
const TEMPLATE: &str = "{name: one, version: 1.0.0, steps: [{name: a, handler: {callable: t.a}}]}";
const MINUTE: Millis = 60_000;
const HOUR: Millis = 60 * MINUTE;
const DAY: Millis = 24 * HOUR;
/// How long a run may be, and what is looked at before and after it.
const DAYS: i64 = 12;
const DAYS_BEFORE: i64 = 6;
const DAYS_AFTER: i64 = 20;

/// Days around which clocks change somewhere.
const STARTS: [&str; 6] = [
    "2030-03-08",
    "2030-03-29",
    "2030-04-04",
    "2030-09-05",
    "2030-10-25",
    "2030-11-01",
];
const ZONES: [&str; 10] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "America/Santiago",
    "Antarctica/Troll",
    "Africa/Casablanca",
    "Atlantic/Azores",
    "Pacific/Auckland",
];
const MINUTES: [&str; 9] = [
    "*/20", "*/15", "0", "30", "7", "59", "0,45", "10-50/20", "1-3",
];
const HOURS: [&str; 9] = ["*", "*/6", "2", "1-3", "0", "3", "23", "0-23/5", "*"];
const DAYS_OF_MONTH: [&str; 7] = ["*", "*", "*", "29-31", "1", "*/2", "13"];
const MONTHS: [&str; 6] = ["*", "*", "*", "3", "sep-nov", "1-6"];
const DAYS_OF_WEEK: [&str; 7] = ["*", "*", "*", "sun", "7", "mon-fri", "6-7"];
const NICKNAMES: [&str; 4] = ["@hourly", "@daily", "@weekly", "@monthly"];

struct Run {
    chance: Chance,
    sessions: Vec<PgConnection>,
    start: Millis,
    now: Millis,
    schedules: Vec<Schedule>,
    trail: Vec<String>,
}

fn expression(chance: &mut Chance) -> String {
    if chance.once_in(8) {
        return NICKNAMES[chance.below(NICKNAMES.len())].to_owned();
    }
    let mut field = |all: &[&'static str]| all[chance.below(all.len())];
    [
        field(&MINUTES),
        field(&HOURS),
        field(&DAYS_OF_MONTH),
        field(&MONTHS),
        field(&DAYS_OF_WEEK),
    ]
    .join(" ")
}

impl Run {
    async fn new(database: &TestDatabase, seed: u64) -> anyhow::Result<Self> {
        let client = database.client();
        client
            .register_template(Definition::Yaml(TEMPLATE), None)
            .await?;
        let mut chance = Chance::new(seed);
        let mut sessions = Vec::new();
        for _ in 0..SESSIONS {
            sessions.push(database.session().await?);
        }
        let start: Millis =
            sqlx::query_scalar("select extract(epoch from $1::timestamptz)::bigint * 1000")
                .bind(format!("{} 00:00+00", STARTS[chance.below(STARTS.len())]))
                .fetch_one(&mut sessions[0])
                .await?;
        let mut run = Self {
            chance,
            sessions,
            start,
            now: start,
            schedules: Vec::new(),
            trail: Vec::new(),
        };
        run.pass(0).await?;
        for _ in 0..SCHEDULES {
            run.create().await?;
        }
        Ok(run)
    }

    async fn pass(&mut self, milliseconds: Millis) -> anyhow::Result<()> {
        self.now += milliseconds;
        self.trail
            .push(format!("{} ms have passed", self.now - self.start));
        for session in &mut self.sessions {
            sqlx::query(
                "select tasker._set_now(timestamptz 'epoch' + $1 * interval '1 millisecond')",
            )
            .bind(self.now)
            .execute(session)
            .await?;
        }
        Ok(())
    }

    fn session(&mut self) -> &mut PgConnection {
        &mut self.sessions[self.chance.below(SESSIONS)]
    }

    /// What the clock of a zone shows, minute by minute.
    async fn minutes(&mut self, zone: &str) -> anyhow::Result<Vec<Shown>> {
        let shown: Vec<(Minutes, Minutes)> = sqlx::query_as(
            "select (extract(epoch from m) / 60)::bigint, floor(extract(epoch from m at time zone $1) / 60)::bigint
             from generate_series(timestamptz 'epoch' + $2 * interval '1 millisecond', timestamptz 'epoch' + $3 * interval '1 millisecond', interval '1 minute') m",
        )
        .bind(zone)
        .bind(self.start - DAYS_BEFORE * DAY)
        .bind(self.start + (DAYS + DAYS_AFTER) * DAY)
        .fetch_all(self.session())
        .await?;
        let shown = shown.into_iter();
        Ok(shown
            .map(|(moment, clock)| Shown { moment, clock })
            .collect())
    }

    async fn create(&mut self) -> anyhow::Result<()> {
        let zone = ZONES[self.chance.below(ZONES.len())];
        let cron = expression(&mut self.chance);
        let all = [CatchUp::None, CatchUp::One, CatchUp::All];
        let catch_up = all[self.chance.below(all.len())];
        let name = format!("s{}", self.schedules.len());
        let moments = Expression::read(&cron).moments(&self.minutes(zone).await?);
        self.trail.push(format!(
            "{name} is {cron} in {zone}, catching up {}",
            catch_up.as_str()
        ));
        sqlx::query("select tasker.create_schedule($1, $2, 'one', timezone => $3, catch_up => $4)")
            .bind(&name)
            .bind(&cron)
            .bind(zone)
            .bind(catch_up.as_str())
            .execute(self.session())
            .await?;
        self.schedules
            .push(Schedule::new(name, catch_up, &moments, self.now));
        Ok(())
    }

    async fn turn(&mut self) -> anyhow::Result<()> {
        match self.chance.below(10) {
            0..=2 => {
                let leap = [1_000, 50_000, 10 * MINUTE, HOUR, 5 * HOUR, DAY][self.chance.below(6)];
                let more = self.chance.below(leap as usize) as Millis;
                if self.now + leap + more < self.start + DAYS * DAY {
                    self.pass(leap + more).await?;
                }
                Ok(())
            }
            3 => self.run_once().await,
            4..=6 => self.run_all().await,
            7 => self.pause_or_resume().await,
            _ => self.backfill().await,
        }
    }

    /// One session sees to each schedule once.
    async fn run_once(&mut self) -> anyhow::Result<()> {
        self.trail.push("one looks once".to_owned());
        let now = self.now;
        let mut expected = 0;
        for schedule in &mut self.schedules {
            if schedule.is_due(now) {
                schedule.run(now);
                expected += 1;
            }
        }
        let processed: Option<i64> =
            sqlx::query_scalar("select processed from tasker.run_maintenance_job('run_schedules')")
                .fetch_optional(self.session())
                .await?;
        ensure!(
            processed == Some(expected),
            "{processed:?} schedules were due, and in the model {expected}"
        );
        Ok(())
    }

    /// Several are at it at the same time, until nothing is due.
    async fn run_all(&mut self) -> anyhow::Result<()> {
        self.trail.push("all are at maintenance".to_owned());
        let now = self.now;
        for schedule in &mut self.schedules {
            while schedule.is_due(now) {
                schedule.run(now);
            }
        }
        let mut each = self.sessions.iter_mut();
        let (Some(first), Some(second), Some(third)) = (each.next(), each.next(), each.next())
        else {
            return Ok(());
        };
        let (first, second, third) = tokio::join!(see_to(first), see_to(second), see_to(third));
        first.and(second).and(third)?;
        // What one held when the others came by.
        see_to(self.session()).await
    }

    async fn pause_or_resume(&mut self) -> anyhow::Result<()> {
        let index = self.chance.below(SCHEDULES);
        let pauses = self.chance.once_in(2);
        let schedule = &mut self.schedules[index];
        let changes = schedule.is_paused != pauses;
        schedule.is_paused = pauses;
        let name = schedule.name.clone();
        let call = if pauses { "pause" } else { "resume" };
        self.trail.push(format!("{call} {name}"));
        let has_changed: bool = sqlx::query_scalar(&format!("select tasker.{call}_schedule($1)"))
            .bind(name)
            .fetch_one(self.session())
            .await?;
        ensure!(
            has_changed == changes,
            "{has_changed}, and in the model {changes}"
        );
        Ok(())
    }

    async fn backfill(&mut self) -> anyhow::Result<()> {
        let index = self.chance.below(SCHEDULES);
        let days = [1, 3][self.chance.below(2)] * DAY;
        let from = self.now - self.chance.below(5 * DAY as usize) as Millis;
        let to = from + self.chance.below(days as usize) as Millis + 1;
        let now = self.now;
        let schedule = &mut self.schedules[index];
        let expected = schedule.backfill(from, to, now);
        let name = schedule.name.clone();
        self.trail
            .push(format!("{expected} of {name} from {from} to {to}"));
        let count: i32 = sqlx::query_scalar(
            "select tasker.backfill_schedule($1, timestamptz 'epoch' + $2 * interval '1 millisecond', timestamptz 'epoch' + $3 * interval '1 millisecond')",
        )
        .bind(name)
        .bind(from)
        .bind(to)
        .fetch_one(self.session())
        .await?;
        ensure!(
            count as usize == expected,
            "{count} were created, and in the model {expected}"
        );
        Ok(())
    }

    async fn compare(&mut self) -> anyhow::Result<()> {
        let created: Vec<(String, Millis)> = sqlx::query_as(
            "select substr(t.tags[1], 10), (extract(epoch from t.run_at) * 1000)::bigint from tasker.tasks t order by 1, 2",
        )
        .fetch_all(self.session())
        .await?;
        let schedules: Vec<(String, Millis, Option<Millis>, bool)> = sqlx::query_as(
            "select name, (extract(epoch from next_at) * 1000)::bigint, (extract(epoch from last_at) * 1000)::bigint, paused_at is not null
             from tasker.list_schedules() order by name",
        )
        .fetch_all(self.session())
        .await?;
        let mut expected = Vec::new();
        for schedule in &self.schedules {
            let created = schedule.created.iter();
            expected.extend(created.map(|&at| (schedule.name.clone(), at)));
        }
        expected.sort_unstable();
        let differs = created.iter().zip(&expected).find(|(a, b)| a != b);
        ensure!(
            created == expected,
            "there are {} tasks, and in the model {}; the first that differ are {differs:?}",
            created.len(),
            expected.len()
        );
        for ((name, next, last, is_paused), schedule) in schedules.iter().zip(&self.schedules) {
            // A time that is beyond what the model looks at is no difference.
            let next = if schedule.next == Millis::MAX {
                Millis::MAX
            } else {
                *next
            };
            ensure!(
                (name, next, *last, *is_paused)
                    == (
                        &schedule.name,
                        schedule.next,
                        schedule.created.iter().max().copied(),
                        schedule.is_paused
                    ),
                "{name} is due at {next}, last at {last:?}, paused {is_paused}, and in the model {schedule:?}"
            );
        }
        Ok(())
    }
}

/// Runs what is due until nothing is, without the lock that lets one session at maintenance.
async fn see_to(session: &mut PgConnection) -> anyhow::Result<()> {
    loop {
        let processed: i64 =
            sqlx::query_scalar("select processed from tasker._run_schedules(3, tasker._now())")
                .fetch_one(&mut *session)
                .await?;
        if processed == 0 {
            return Ok(());
        }
    }
}

#[tokio::test]
async fn the_schedules_create_what_the_model_says() -> anyhow::Result<()> {
    let operations = operations(DEFAULT_OPERATIONS);
    for seed in seeds() {
        let database = TestDatabase::new().await?;
        let mut run = Run::new(&database, seed).await?;
        for operation in 0..operations {
            let done = async {
                run.turn().await?;
                run.compare().await
            }
            .await;
            done.with_context(|| {
                format!(
                    "TASKER_MODEL_SEED={seed}, operation {operation}; so far:\n{}",
                    run.trail.join("\n")
                )
            })?;
        }
    }
    Ok(())
}
