//! The clocks that a compiled template sets its tasks, as rows.

use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{name, pg_extern};
use tasker_rules::template::{Lifecycle, StalenessAction};

use crate::compiled;

/// The clocks of a lifecycle: how the template names each limit, and the limit in seconds.
fn clocks(lifecycle: &Lifecycle) -> impl Iterator<Item = (&'static str, i32)> {
    [
        ("max_duration_seconds", lifecycle.max_duration_seconds),
        (
            "max_waiting_for_dependencies_seconds",
            lifecycle.max_waiting_for_dependencies_seconds,
        ),
        (
            "max_waiting_for_retry_seconds",
            lifecycle.max_waiting_for_retry_seconds,
        ),
        (
            "max_steps_in_process_seconds",
            lifecycle.max_steps_in_process_seconds,
        ),
    ]
    .into_iter()
    .filter_map(|(name, seconds)| Some((name, i32::try_from(seconds?).unwrap_or(i32::MAX))))
}

/// The limits that a template sets its tasks, and what is done about one that is over it.
#[pg_extern(stable, parallel_unsafe)]
fn _clock_limits(
    template_id: i32,
) -> Result<
    TableIterator<
        'static,
        (
            name!(clock, &'static str),
            name!(limit_seconds, i32),
            name!(staleness_action, &'static str),
        ),
    >,
    ErrorReport,
> {
    let kept = compiled::template(template_id)?;
    let lifecycle = &kept.template.lifecycle;
    let action = lifecycle.staleness_action.as_str();
    let rows: Vec<_> = clocks(lifecycle)
        .map(|(name, seconds)| (name, seconds, action))
        .collect();
    Ok(TableIterator::new(rows))
}

/// Whether a template sets its tasks a limit that something is done about.
#[pg_extern(stable, parallel_unsafe)]
fn _has_clocks(template_id: i32) -> Result<bool, ErrorReport> {
    let kept = compiled::template(template_id)?;
    let lifecycle = &kept.template.lifecycle;
    Ok(lifecycle.staleness_action != StalenessAction::None && clocks(lifecycle).next().is_some())
}
