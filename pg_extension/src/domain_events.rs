//! The rules of domain events, asked by SQL. They live in `tasker_rules`.

use pgrx::pg_extern;
use tasker_rules::domain_event::{self, EventPattern};

use crate::keys;

/// Whether a text is a pattern of events.
#[pg_extern(immutable, parallel_safe)]
fn _is_event_pattern(pattern: &str) -> bool {
    pattern.parse::<EventPattern>().is_ok()
}

/// Whether events of a name are meant by a pattern; by what is none, never.
#[pg_extern(immutable, parallel_safe)]
fn _event_matches(pattern: &str, name: &str) -> bool {
    pattern
        .parse::<EventPattern>()
        .is_ok_and(|pattern| pattern.matches(name))
}

/// The delay in milliseconds before an event is handed out again after so many failed deliveries; null when it isn't any more.
#[pg_extern(volatile, parallel_unsafe)]
fn _redelivery_delay_ms(deliveries: i32) -> Option<i64> {
    let deliveries = u32::try_from(deliveries).unwrap_or(0);
    let sample = keys::random_unit().mul_add(2.0, -1.0);
    let delay = domain_event::redelivery_delay_ms(deliveries, sample)?;
    i64::try_from(delay).ok()
}
