//! What every server process of this workspace needs, once: [`options`] from flags, variables and a file, [`logs`],
//! a [`listener`] that outlives accept errors, and a graceful stop ([`shutdown`]).
//!
//! A `main` reads its options, starts the logs, binds, serves and waits:
//! `options::parse` -> `logs::init` -> `Listener::bind` -> `Listener::serve` until `shutdown::signal`.
//!
//! Nothing here knows what is served: no Thrift, no HTTP, no store.

pub mod listener;
pub mod logs;
pub mod options;
pub mod shutdown;
