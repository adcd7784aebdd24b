//! Plans that don't depend on statistics.
//!
//! A queue's tables are fresh, truncated or bulk-loaded more often than they are analysed. While a value of [`Pinned`] lives, the planner sees one way only: an index look-up
//! for each key given.

use pgrx::pg_sys;

/// The planner's settings as they were. Dropping it puts them back, also when an error unwinds.
///
/// The variables behind the settings are written themselves: a function's `set` clauses do the same by way of the whole machinery of settings, at each call.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a setting of its own"
)]
pub(crate) struct Pinned {
    seqscan: bool,
    bitmapscan: bool,
    hashjoin: bool,
    mergejoin: bool,
    material: bool,
    jit: bool,
}

impl Pinned {
    /// Pins the planner until the value is dropped.
    pub(crate) fn new() -> Self {
        // SAFETY: plain variables of this backend, which has one thread.
        unsafe {
            let before = Self {
                seqscan: pg_sys::enable_seqscan,
                bitmapscan: pg_sys::enable_bitmapscan,
                hashjoin: pg_sys::enable_hashjoin,
                mergejoin: pg_sys::enable_mergejoin,
                material: pg_sys::enable_material,
                jit: pg_sys::jit_enabled,
            };
            pg_sys::enable_seqscan = false;
            pg_sys::enable_bitmapscan = false;
            pg_sys::enable_hashjoin = false;
            pg_sys::enable_mergejoin = false;
            pg_sys::enable_material = false;
            pg_sys::jit_enabled = false;
            before
        }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe {
            pg_sys::enable_seqscan = self.seqscan;
            pg_sys::enable_bitmapscan = self.bitmapscan;
            pg_sys::enable_hashjoin = self.hashjoin;
            pg_sys::enable_mergejoin = self.mergejoin;
            pg_sys::enable_material = self.material;
            pg_sys::jit_enabled = self.jit;
        }
    }
}
