//! What every server process of this workspace needs, once: [`options`] from flags, variables and a file, [`logs`],
//! a [`listener`] that outlives accept errors, and a graceful stop ([`shutdown`]).
//!
//! A `main` reads its options, starts the logs, binds, serves and waits:
//! [`run`] of: `options::parse` -> `logs::init` -> `Listener::bind` -> `Listener::serve` until `shutdown::on_signal`.
//!
//! Nothing here knows what is served: no Thrift, no HTTP, no store.

use std::{future::Future, process::ExitCode, time::Duration};

pub mod listener;
pub mod logs;
pub mod options;
pub mod shutdown;

/// How long the end waits for threads that wait for the disk.
const BLOCKED_GRACE: Duration = Duration::from_secs(1);

/// Runs a program's `main` on a runtime of all cores, with all the file descriptors that it may have: each connection
/// takes one. An error ends it with one sentence on standard error.
pub fn run<E: Into<anyhow::Error>>(main: impl Future<Output = Result<(), E>>) -> ExitCode {
    let _ = rlimit::increase_nofile_limit(u64::MAX); // what cannot be raised is what there is
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(anyhow::Error::from);
    let ran = runtime.and_then(|runtime| {
        let ran = runtime.block_on(main).map_err(Into::into);
        runtime.shutdown_timeout(BLOCKED_GRACE);
        ran
    });
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}
