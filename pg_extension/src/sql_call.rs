//! Calling the SQL function of a step as the role that registered its template.
//!
//! Whatever the function does ends with it: the role can't be changed back, settings are put back, no trigger and no cursor is left for later, and a timer ends it. Not here: when it
//! is called, and what becomes of its result (`sql/687_sql_steps.sql`).

use std::cell::Cell;
use std::ffi::{CStr, c_int};

use pgrx::pg_sys::{self, Oid, TimestampTz};
use pgrx::{AnyElement, PgLogLevel, pg_extern};

use crate::{settings, values};

unsafe extern "C-unwind" {
    fn enable_timeout_after(id: c_int, delay_ms: c_int);
    fn enable_timeout_at(id: c_int, finish_time: TimestampTz);
    fn disable_timeout(id: c_int, keep_indicator: bool);
    fn get_timeout_active(id: c_int) -> bool;
    fn get_timeout_finish_time(id: c_int) -> TimestampTz;
}

/// PostgreSQL's number for the timer that `statement_timeout` sets, the same in 15 to 18 (`utils/timeout.h`).
const STATEMENT_TIMEOUT: c_int = 3;

thread_local! {
    static ROLE: Cell<Option<Oid>> = const { Cell::new(None) };
    static RAN_OUT: Cell<bool> = const { Cell::new(false) };
}

/// The role as which a step's function is being run. It stands for the caller: the session's own user is maintenance.
pub(crate) fn role() -> Option<Oid> {
    ROLE.get()
}

/// The timer of a call. An earlier one of the session's own stays in force.
struct Timer {
    session_ends: Option<TimestampTz>,
    ends: TimestampTz,
}

impl Timer {
    fn start(timeout_ms: i64) -> Self {
        let delay = c_int::try_from(timeout_ms.max(1)).unwrap_or(c_int::MAX);
        // SAFETY: this backend's own timers, which every process with a database has registered.
        unsafe {
            let session_ends = get_timeout_active(STATEMENT_TIMEOUT)
                .then(|| get_timeout_finish_time(STATEMENT_TIMEOUT));
            let ends = pg_sys::GetCurrentTimestamp().saturating_add(i64::from(delay) * 1000);
            if session_ends.is_none_or(|at| ends < at) {
                enable_timeout_after(STATEMENT_TIMEOUT, delay);
            }
            Self { session_ends, ends }
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe {
            RAN_OUT.set(pg_sys::GetCurrentTimestamp() >= self.ends);
            disable_timeout(STATEMENT_TIMEOUT, false);
            if let Some(at) = self.session_ends {
                enable_timeout_at(STATEMENT_TIMEOUT, at);
            }
        }
    }
}

/// While it lives, this backend is another role, which it can't leave. Dropping it puts user and settings back, also when an error unwinds.
struct Confined {
    user: Oid,
    context: c_int,
    settings_level: c_int,
}

impl Confined {
    fn to(role: Oid) -> Self {
        let (mut user, mut context): (Oid, c_int) = (pg_sys::InvalidOid, 0);
        ROLE.set(Some(role));
        // SAFETY: plain variables of this process. Restricted: neither temporary tables nor deferred triggers nor cursors outlive the call; changed locally: neither `set role` nor `reset role`
        // works.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&raw mut user, &raw mut context);
            let confined =
                pg_sys::SECURITY_RESTRICTED_OPERATION | pg_sys::SECURITY_LOCAL_USERID_CHANGE;
            pg_sys::SetUserIdAndSecContext(role, context | confined as c_int);
            Self {
                user,
                context,
                settings_level: pg_sys::NewGUCNestLevel(),
            }
        }
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        ROLE.set(None);
        // SAFETY: puts back what `to` changed. An error's own clean-up puts the settings back, those of this level among them.
        unsafe {
            if !std::thread::panicking() {
                pg_sys::AtEOXact_GUC(false, self.settings_level);
            }
            pg_sys::SetUserIdAndSecContext(self.user, self.context);
        }
    }
}

/// Sets a setting until the call ends.
fn set(name: &CStr, value: &CStr) {
    // SAFETY: both texts live through the call.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            PgLogLevel::ERROR as i32,
            false,
        );
    }
}

/// Calls a step's function as a role, for so many milliseconds at most. That is done by `caller`, a function of ours, without asking whether the role may call that one: it catches errors, whose
/// codes would not outlive an error that passes through here.
#[pg_extern(
    sql = r#"CREATE FUNCTION "_call_confined"("caller" regprocedure, "role" oid, "timeout_ms" bigint, "schema" text, "function" text, "context" jsonb,
  "inputs" jsonb, "dependency_results" jsonb) RETURNS jsonb
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';"#
)]
#[allow(clippy::too_many_arguments, reason = "what the function is given")]
fn _call_confined(
    caller: Oid,
    role: Oid,
    timeout_ms: i64,
    schema: AnyElement,
    function: AnyElement,
    context: AnyElement,
    inputs: AnyElement,
    dependency_results: AnyElement,
) -> Option<AnyElement> {
    RAN_OUT.set(false);
    let confined = Confined::to(role);
    set(c"row_security", c"on");
    // The timer bounds it.
    set(c"lock_timeout", c"0");
    settings::act_for(c"");
    let timer = Timer::start(timeout_ms);
    // SAFETY: a function of five parameters that gives a jsonb and never null.
    let result = unsafe {
        pg_sys::OidFunctionCall5Coll(
            caller,
            pg_sys::InvalidOid,
            schema.datum(),
            function.datum(),
            context.datum(),
            inputs.datum(),
            dependency_results.datum(),
        )
    };
    drop(timer);
    // A timer that ran out only now ends this attempt, and nothing later.
    pgrx::check_for_interrupts!();
    drop(confined);
    values::answer(Some(result))
}

/// Whether the last call in this session was ended by its timer, or ended so late.
#[pg_extern(volatile, parallel_unsafe)]
fn _sql_step_ran_out() -> bool {
    RAN_OUT.get()
}

/// Whether a step's function is being run in this session.
#[pg_extern(volatile, parallel_unsafe)]
fn _is_in_sql_step() -> bool {
    ROLE.get().is_some()
}

/// When this session's process began; with its number it is told from all others.
#[pg_extern(volatile, parallel_unsafe)]
fn _session_began_at() -> Option<pgrx::datum::TimestampWithTimeZone> {
    // SAFETY: a plain variable of this process.
    unsafe { pg_sys::MyStartTimestamp }.try_into().ok()
}
