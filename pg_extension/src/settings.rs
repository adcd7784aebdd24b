//! The settings: each with its unit, its default and the reason for it.

use std::ffi::{CStr, CString, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pgrx::{
    GucContext, GucFlags, GucRegistry, GucSetting, PgLogLevel, PostgresGucEnum, pg_extern, pg_sys,
};
use tasker_rules::reach::Reach;
use tasker_rules::traceparent::Traceparent;

/// `tasker.max_payload_bytes`: the longest context, result, error or checkpoint, as JSON text. 1 MiB: what is larger belongs in storage of its own, and every
/// dependent step would read it again.
static MAX_PAYLOAD_BYTES: GucSetting<i32> = GucSetting::<i32>::new(1024 * 1024);

/// `tasker.max_payload_depth`: the deepest nesting of such a payload. 120: JSON readers of many languages stop at 128, and a worker reads a payload inside
/// a few levels of ours.
static MAX_PAYLOAD_DEPTH: GucSetting<i32> = GucSetting::<i32>::new(120);

/// `tasker.max_template_steps`: the most steps in a template. 10,000: it registers within a second, and a backend keeps it in a few megabytes.
static MAX_TEMPLATE_STEPS: GucSetting<i32> = GucSetting::<i32>::new(10_000);

/// `tasker.max_batch`: the most tasks, outcomes or claims in one call. 10,000: a transaction of about a second.
static MAX_BATCH: GucSetting<i32> = GucSetting::<i32>::new(10_000);

/// `tasker.max_instances`: the most instances of one step in a task. 1,000,000: what the numbers of a task's steps leave room for; steps that share a task share that room.
static MAX_INSTANCES: GucSetting<i32> = GucSetting::<i32>::new(1_000_000);

/// `tasker.max_depth`: how deep tasks that start tasks may be nested. 1,000: beyond it, one that starts itself is a mistake.
static MAX_DEPTH: GucSetting<i32> = GucSetting::<i32>::new(1000);

/// `tasker.partition_days`: how many days of tasks share a partition. 7: with a month kept that is five partitions and the next; for years, set more days, so that sixteen are not
/// exceeded.
static PARTITION_DAYS: GucSetting<i32> = GucSetting::<i32>::new(7);

/// When outcomes are turned into what follows from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
enum Evaluation {
    #[name = c"inline"]
    Inline,
    #[name = c"deferred"]
    Deferred,
}

/// `tasker.evaluation`: `inline`, in the call that reports an outcome, or `deferred`, by maintenance. Inline: a step costs one commit. A template's `lifecycle.evaluation` defers its
/// own tasks in either case.
static EVALUATION: GucSetting<Evaluation> = GucSetting::<Evaluation>::new(Evaluation::Inline);

/// `tasker.retention_days`: how many days finished tasks are kept, where neither their template nor their namespace says otherwise; 0 keeps everything. 30: what went wrong last month
/// can still be looked at, and a disk doesn't fill up by itself.
static RETENTION_DAYS: GucSetting<i32> = GucSetting::<i32>::new(30);

/// `tasker.statistics_days`: how many days statistics are kept, whatever is kept of the tasks; 0 keeps them for ever. 400: this month can be compared with the same one last year.
static STATISTICS_DAYS: GucSetting<i32> = GucSetting::<i32>::new(400);

/// `tasker.domain_event_days`: how many days domain events are kept, delivered or not; 0 keeps them for ever. 30: as long as the tasks that published them.
static DOMAIN_EVENT_DAYS: GucSetting<i32> = GucSetting::<i32>::new(30);

/// `tasker.export_function`: the function that is given what leaves before it does. Empty: nobody asks for it.
static EXPORT_FUNCTION: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));

/// `tasker.notify`: whether a call that leaves work for others wakes idle workers. On: work begins at once. Off, for a session that creates one task after another beside many of its
/// kind: transactions that notify commit one after the other, in the whole cluster; idle workers then find its work when they ask next.
static NOTIFY: GucSetting<bool> = GucSetting::<bool>::new(true);

/// `tasker.databases`: the databases whose maintenance the background workers do, comma-separated, each as it is written in `pg_database`. Empty: a server has databases that are
/// none of ours, and each one named holds a connection.
static DATABASES: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));

/// `tasker.maintenance_interval`: the pause in milliseconds between two rounds of a background worker that found all done. 1000: a retry or a `run_at` is at most a second late. Up
/// to 20,000, a third of the age at which `health()` takes maintenance for stopped.
static MAINTENANCE_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(1000);

/// `tasker.sql_runners`: how many background workers run SQL functions of steps in each database that has such templates, side by side. 2: a slow function doesn't keep all others waiting,
/// and few of `max_worker_processes` (8) are taken.
static SQL_RUNNERS: GucSetting<i32> = GucSetting::<i32>::new(2);

/// `tasker.sql_timeout`: how many seconds a step's SQL function may run, where the step has no `timeout_seconds`. 60: it holds its locks, and keeps the database from cleaning up,
/// for as long.
static SQL_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(60);

/// `tasker.check_namespaces`: whether a caller needs a grant for each namespace it acts in. Off: the five roles alone say who may do what, and nothing is looked up.
static CHECK_NAMESPACES: GucSetting<bool> = GucSetting::<bool>::new(false);

/// `tasker.acting_for`: the role whose grants count in the caller's place. No session can set it: the library does, for maintenance that goes on with what a role has left to it.
static ACTING_FOR: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));

/// `tasker.only_namespaces`: the namespaces that the session is limited to, beyond what its role may do; empty is no limit. `tasker.served_caller`: for whom it acts. The library sets both
/// for a server that serves callers with its own role: a connection that names them, or resets all settings, doesn't change them.
static ONLY_NAMESPACES: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static SERVED_CALLER: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));

/// `tasker.traceparent`: the span, as W3C writes it, that the tasks created from now on belong to. Empty: none. One that can't be read is none as well: a trace is no reason to refuse work.
static TRACEPARENT: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));

/// Whether the configuration's value of `tasker.check_namespaces` has been taken.
static CHECK_ACCEPTED: AtomicBool = AtomicBool::new(false);

/// What these are called.
const CHECK_NAMESPACES_NAME: &CStr = c"tasker.check_namespaces";
const ACTING_FOR_NAME: &CStr = c"tasker.acting_for";
const ONLY_NAMESPACES_NAME: &CStr = c"tasker.only_namespaces";
const SERVED_CALLER_NAME: &CStr = c"tasker.served_caller";

/// Tells PostgreSQL of the settings. They bound what a caller may do, so only a superuser, or the configuration, sets them.
#[allow(clippy::too_many_lines, reason = "a list")]
pub(crate) fn define() {
    GucRegistry::define_int_guc(
        c"tasker.max_payload_bytes",
        c"Longest context, result, error or checkpoint, in bytes of JSON text.",
        c"Longer ones are refused with TK022.",
        &MAX_PAYLOAD_BYTES,
        1024,
        256 * 1024 * 1024,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"tasker.max_payload_depth",
        c"Deepest nesting of a context, result, error or checkpoint.",
        c"Deeper ones are refused with TK022.",
        &MAX_PAYLOAD_DEPTH,
        1,
        1000,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"tasker.max_template_steps",
        c"Most steps in a template.",
        c"Templates with more are refused with TK022.",
        &MAX_TEMPLATE_STEPS,
        1,
        1_048_575,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"tasker.max_batch",
        c"Most tasks, outcomes or claims in one call.",
        c"Larger calls are refused with TK022.",
        &MAX_BATCH,
        1,
        1_000_000,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"tasker.max_instances",
        c"Most instances of one step in a task.",
        c"A batch or a map of more fails with TK022.",
        &MAX_INSTANCES,
        1,
        1_048_575,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"tasker.max_depth",
        c"How deep tasks that start tasks may be nested.",
        c"A step that would start a deeper one fails with TK022.",
        &MAX_DEPTH,
        1,
        1_000_000,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"tasker.partition_days",
        c"Days of tasks that share a partition.",
        c"For partitions made from now on.",
        &PARTITION_DAYS,
        1,
        3660,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"tasker.evaluation",
        c"When outcomes are turned into what follows from them.",
        c"inline: in the call that reports them; deferred: by maintenance, in batches.",
        &EVALUATION,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"tasker.notify",
        c"Whether work that becomes ready wakes idle workers.",
        c"off: they find it when they ask next, and transactions of this session don't wait for each other's commits to notify.",
        &NOTIFY,
        // It bounds nobody: who turns it off lets their own work wait.
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"tasker.traceparent",
        c"Span that new tasks belong to, as W3C writes it in traceparent.",
        c"For one transaction: set local. Empty, or not one: none.",
        &TRACEPARENT,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"tasker.retention_days",
        c"Days for which finished tasks are kept.",
        c"0 keeps everything. Namespaces and templates may keep their own for longer.",
        &RETENTION_DAYS,
        0,
        36_500,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"tasker.export_function",
        c"Function that is given the rows that leave, table by table.",
        c"By schema and name; its parameters are (regclass, timestamptz, timestamptz). It runs with the rights of the extension's owner.",
        &EXPORT_FUNCTION,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"tasker.statistics_days",
        c"Days for which statistics are kept.",
        c"0 keeps them for ever.",
        &STATISTICS_DAYS,
        0,
        36_500,
        GucContext::Suset,
        GucFlags::default(),
    );
    define_domain_events();
    define_maintenance();
    define_grants();
}

fn define_domain_events() {
    GucRegistry::define_int_guc(
        c"tasker.domain_event_days",
        c"Days for which domain events are kept, delivered or not.",
        c"0 keeps them for ever.",
        &DOMAIN_EVENT_DAYS,
        0,
        36_500,
        GucContext::Suset,
        GucFlags::default(),
    );
}

fn define_maintenance() {
    GucRegistry::define_string_guc(
        c"tasker.databases",
        c"Databases whose maintenance is done by background workers, comma-separated.",
        c"Only where shared_preload_libraries names tasker.",
        &DATABASES,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"tasker.maintenance_interval",
        c"Pause between two rounds of maintenance by a background worker.",
        c"A round that found more to do is followed by the next at once.",
        &MAINTENANCE_INTERVAL,
        10,
        20_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"tasker.sql_runners",
        c"Background workers for SQL functions of steps in each database that has such templates.",
        c"0 leaves them to tasker-server, or to whoever calls tasker.run_sql_step().",
        &SQL_RUNNERS,
        0,
        64,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"tasker.sql_timeout",
        c"How long a SQL function of a step may run that has no timeout_seconds.",
        c"Longer ones are ended, and the attempt has failed.",
        &SQL_TIMEOUT,
        1,
        86_400,
        GucContext::Suset,
        GucFlags::UNIT_S,
    );
}

fn define_grants() {
    define_check_of_namespaces();
    define_own(
        ACTING_FOR_NAME,
        c"Role whose grants of namespaces count while maintenance does what it has asked for.",
        &ACTING_FOR,
    );
    define_own(
        ONLY_NAMESPACES_NAME,
        c"Namespaces that the session is limited to while it serves a caller.",
        &ONLY_NAMESPACES,
    );
    define_own(
        SERVED_CALLER_NAME,
        c"Caller for whom the session acts.",
        &SERVED_CALLER,
    );
}

/// Defines a setting that only the library sets.
fn define_own(
    name: &'static CStr,
    description: &'static CStr,
    setting: &'static GucSetting<Option<CString>>,
) {
    GucRegistry::define_string_guc(
        name,
        description,
        c"Set by the engine only.",
        setting,
        GucContext::Internal,
        GucFlags::NO_SHOW_ALL | GucFlags::NO_RESET_ALL | GucFlags::DISALLOW_IN_FILE,
    );
}

/// Defines `tasker.check_namespaces`. Where the library isn't preloaded, a client's connection may have named the setting before: that took the place of what the configuration says,
/// and PostgreSQL finds only now that the client may not say it. What the configuration said is lost by then, so the check is on.
fn define_check_of_namespaces() {
    // SAFETY: the names are constants, and the hook can't panic.
    unsafe {
        let name = CHECK_NAMESPACES_NAME.as_ptr();
        let was_given = !pg_sys::GetConfigOption(name, true, false).is_null()
            && !pg_sys::GetConfigOptionResetString(name).is_null();
        GucRegistry::define_bool_guc_with_hooks(
            CHECK_NAMESPACES_NAME,
            c"Whether a caller needs a grant for each namespace it acts in.",
            c"Grants are made with tasker.grant_namespace.",
            &CHECK_NAMESPACES,
            GucContext::Suset,
            GucFlags::default(),
            Some(note_accepted),
            None,
            None,
        );
        if was_given && !CHECK_ACCEPTED.load(Ordering::Relaxed) {
            set(
                CHECK_NAMESPACES_NAME,
                c"on",
                pg_sys::GucSource::PGC_S_OVERRIDE,
                pg_sys::GucAction::GUC_ACTION_SET,
            );
        }
    }
}

/// Called when a value is about to be taken; one that its giver may not give is refused before.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn note_accepted(
    _value: *mut bool,
    _extra: *mut *mut c_void,
    source: pg_sys::GucSource::Type,
) -> bool {
    let is_lasting =
        source > pg_sys::GucSource::PGC_S_DEFAULT && source < pg_sys::GucSource::PGC_S_INTERACTIVE;
    CHECK_ACCEPTED.fetch_or(is_lasting, Ordering::Relaxed);
    true
}

/// Sets a setting of ours with the engine's own right to.
fn set(
    name: &CStr,
    value: &CStr,
    source: pg_sys::GucSource::Type,
    action: pg_sys::GucAction::Type,
) {
    // SAFETY: both texts live through the call.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_INTERNAL,
            source,
            action,
            true,
            PgLogLevel::ERROR as i32,
            false,
        );
    }
}

/// The databases that the setting names, each once.
pub(crate) fn databases() -> Vec<String> {
    let text = DATABASES.get().unwrap_or_default();
    let mut names: Vec<String> = text
        .to_string_lossy()
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The pause between two rounds of maintenance.
pub(crate) fn maintenance_interval() -> Duration {
    Duration::from_millis(u64::try_from(MAINTENANCE_INTERVAL.get()).unwrap_or(1000))
}

/// How many background workers run SQL functions in a database.
pub(crate) fn sql_runners() -> usize {
    usize::try_from(SQL_RUNNERS.get()).unwrap_or(0)
}

/// How long a step's SQL function may run, where the step doesn't say.
pub(crate) fn sql_timeout_seconds() -> i64 {
    i64::from(SQL_TIMEOUT.get())
}

/// Whether a caller needs a grant for each namespace it acts in.
pub(crate) fn checks_namespaces() -> bool {
    CHECK_NAMESPACES.get()
}

/// The role whose grants count in the caller's place, if there is one.
pub(crate) fn acting_for() -> Option<CString> {
    ACTING_FOR.get().filter(|name| !name.is_empty())
}

/// Lets another role's grants count, or with an empty name the caller's again, until the transaction ends or the part of it that this is called in is rolled back.
pub(crate) fn act_for(role: &CStr) {
    set(
        ACTING_FOR_NAME,
        role,
        pg_sys::GucSource::PGC_S_SESSION,
        pg_sys::GucAction::GUC_ACTION_LOCAL,
    );
}

/// The namespaces that the session is limited to. What it does on behalf of another role, maintenance's work, isn't the caller's.
pub(crate) fn reach() -> Reach {
    match ONLY_NAMESPACES.get() {
        Some(names) if !names.is_empty() && acting_for().is_none() => {
            Reach::from_setting(&names.to_string_lossy())
        }
        _ => Reach::of(None),
    }
}

/// Whether anything is asked before a caller acts in a namespace: its role's grants, or the session's limit.
pub(crate) fn asks_for_namespaces() -> bool {
    checks_namespaces() || reach().is_limited()
}

/// For whom the session acts, if for anybody but its role.
pub(crate) fn served_caller() -> Option<CString> {
    SERVED_CALLER.get().filter(|name| !name.is_empty())
}

/// Lets the session act for a caller within some namespaces, or with empty texts for its role alone, until it is told otherwise.
pub(crate) fn serve(caller: &CStr, namespaces: &CStr) {
    for (name, value) in [
        (SERVED_CALLER_NAME, caller),
        (ONLY_NAMESPACES_NAME, namespaces),
    ] {
        set(
            name,
            value,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SET,
        );
    }
}

/// The span that new tasks belong to.
pub(crate) fn traceparent() -> Option<Traceparent> {
    TRACEPARENT.get()?.to_str().ok()?.parse().ok()
}

/// Whether all outcomes rest until maintenance evaluates them.
pub(crate) fn defers_evaluation() -> bool {
    EVALUATION.get() == Evaluation::Deferred
}

/// Whether a call that leaves work for others wakes idle workers.
pub(crate) fn wakes_workers() -> bool {
    NOTIFY.get()
}

/// How long a payload may be, in bytes of JSON text.
pub(crate) fn max_payload_bytes() -> usize {
    MAX_PAYLOAD_BYTES.get().max(0) as usize
}

/// How deeply a payload may be nested.
pub(crate) fn max_payload_depth() -> usize {
    MAX_PAYLOAD_DEPTH.get().max(0) as usize
}

/// How many instances a step may have in a task.
pub(crate) fn max_instances() -> u32 {
    MAX_INSTANCES.get().max(1).unsigned_abs()
}

/// How large a template may be.
pub(crate) fn limits() -> tasker_rules::template::Limits {
    tasker_rules::template::Limits {
        max_steps: MAX_TEMPLATE_STEPS.get().max(1) as usize,
    }
}

/// The setting `tasker.max_depth`.
#[pg_extern(stable, parallel_safe)]
fn _max_depth() -> i32 {
    MAX_DEPTH.get().max(1)
}

/// The setting `tasker.max_batch`.
#[pg_extern(stable, parallel_safe)]
fn _max_batch() -> i32 {
    MAX_BATCH.get()
}

/// The setting `tasker.partition_days`.
#[pg_extern(stable, parallel_safe)]
fn _partition_days() -> i32 {
    PARTITION_DAYS.get()
}

/// The setting `tasker.retention_days`.
#[pg_extern(stable, parallel_safe)]
fn _retention_days() -> i32 {
    RETENTION_DAYS.get()
}

/// The setting `tasker.statistics_days`.
#[pg_extern(stable, parallel_safe)]
fn _statistics_days() -> i32 {
    STATISTICS_DAYS.get()
}

/// The setting `tasker.domain_event_days`.
#[pg_extern(stable, parallel_safe)]
fn _domain_event_days() -> i32 {
    DOMAIN_EVENT_DAYS.get()
}

/// The setting `tasker.export_function`; null when it is empty.
#[pg_extern(stable, parallel_safe)]
fn _export_function() -> Option<String> {
    let name = EXPORT_FUNCTION.get()?.into_string().ok()?;
    (!name.is_empty()).then_some(name)
}

/// The setting `tasker.sql_timeout`, in seconds.
#[pg_extern(stable, parallel_safe)]
fn _sql_timeout() -> i32 {
    SQL_TIMEOUT.get()
}

/// The setting `tasker.sql_runners`.
#[pg_extern(stable, parallel_safe)]
fn _sql_runners() -> i32 {
    SQL_RUNNERS.get()
}
