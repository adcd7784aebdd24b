//! Signals, sent by the system call: a small machine has no program for it.

use anyhow::Context;
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

/// Sends a signal to a process.
pub fn signal(process: u32, signal: Signal) -> anyhow::Result<()> {
    let pid = i32::try_from(process)
        .ok()
        .and_then(Pid::from_raw)
        .with_context(|| format!("{process} is no process"))?;
    kill_process(pid, signal).with_context(|| format!("can't send {signal:?} to {process}"))
}
