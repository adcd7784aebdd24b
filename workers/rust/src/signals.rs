//! SIGTERM and SIGINT ask the worker to leave in good order; a second one ends it at once.

use tasker_worker_runtime::CancellationToken;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit code of a program that a second signal ended.
const ENDED_BY_SIGNAL: i32 = 130;

/// Cancels `shutdown` at the first signal. From this call on signals don't end the process by
/// themselves.
pub(crate) fn cancel_on_signal(shutdown: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        either(&mut terminate, &mut interrupt).await;
        tracing::info!("a signal asks the worker to stop; a second one ends it at once");
        shutdown.cancel();
        either(&mut terminate, &mut interrupt).await;
        tracing::warn!("a second signal ends the worker; its steps are left to their leases");
        std::process::exit(ENDED_BY_SIGNAL);
    });
    Ok(())
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
