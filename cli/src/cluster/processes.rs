//! Looking at processes, and killing a server with all of its own.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(10);

/// Sends SIGKILL to a process and its children and waits until they have ended; false when one hasn't after ten seconds.
pub(crate) fn kill_with_children(process: u32) -> bool {
    let mut all = children_of(process);
    // The parent first, so that it starts no new child in place of a killed one.
    all.insert(0, process);
    for each in &all {
        send(*each, Signal::KILL);
    }
    let deadline = Instant::now() + PATIENCE;
    // The system's first process collects what has ended; until then PostgreSQL takes such a number for a live server.
    while all.iter().any(|each| state_and_parent(*each).is_some()) {
        if Instant::now() > deadline {
            return !all.iter().any(|each| is_alive(*each));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// Sends a signal to a process that may have ended by itself.
pub(crate) fn send(process: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Whether the process runs; one that has ended and wasn't collected yet (state Z) doesn't.
pub(crate) fn is_alive(process: u32) -> bool {
    state_and_parent(process).is_some_and(|(state, _)| state != 'Z')
}

/// The name of a process's program, at most 15 bytes of it.
pub(crate) fn name_of(process: u32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

fn children_of(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .filter(|process| state_and_parent(*process).is_some_and(|(_, of)| of == parent))
        .collect()
}

/// From `/proc/<process>/stat`: `pid (name) state parent …`, where the name may hold anything.
fn state_and_parent(process: u32) -> Option<(char, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
