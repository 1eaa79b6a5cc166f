//! The graceful stop: SIGTERM or SIGINT asks for it, what is in flight gets [`GRACE`] to finish.

use std::{io, time::Duration};

use tokio::signal::unix::{SignalKind, signal};
pub use tokio_util::sync::CancellationToken;

/// How long a stopping server waits for what is in flight. Container runtimes kill 10 s after SIGTERM as a rule.
pub const GRACE: Duration = Duration::from_secs(10);

/// A token that is cancelled when the process gets SIGTERM or SIGINT.
///
/// # Errors
/// The system refuses to install a signal handler.
pub fn on_signal() -> io::Result<CancellationToken> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = term.recv() => "SIGTERM",
            _ = int.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "stopping: finishing what is in flight");
        stopping.cancel();
    });
    Ok(stop)
}
