//! The options of the RPC server; `im serve` takes those of [`ServiceOptions`] too.

use std::{num::NonZeroUsize, time::Duration};

use humantime::parse_duration;
use server_process::{logs::LogOptions, options::ConfigFile};

use crate::{service::Limits, store::StoreUrl};

/// The Thrift service IMService (Send, Pull) over Redis or an embedded store.
#[derive(Debug, clap::Parser)]
#[command(version)]
pub struct Options {
    /// Where to listen; port 0 takes any free one
    #[arg(long, env = "IM_RPC_ADDR", value_name = "HOST:PORT", default_value = "0.0.0.0:8888")]
    pub rpc_addr: String,
    /// The store and its limits.
    #[command(flatten)]
    pub service: ServiceOptions,
    /// The logs.
    #[command(flatten)]
    pub log: LogOptions,
    #[command(flatten)]
    _config: ConfigFile,
}

/// Where messages are stored and what is accepted.
#[derive(Debug, Clone, clap::Args)]
pub struct ServiceOptions {
    /// Where messages are: `embedded:PATH`, `redis://[user:pass@]host:port[/db]` or `rediss://…` (TLS)
    #[arg(long, env = "IM_STORE", value_name = "URL", default_value = "embedded:./data", hide_env_values = true)]
    pub store: StoreUrl,

    /// The longest text, in bytes
    #[arg(long, env = "IM_TEXT_BYTES_MAX", value_name = "BYTES", default_value = "65536")]
    pub text_bytes_max: NonZeroUsize,

    /// The most messages in a page; a greater Limit is capped to it
    #[arg(long, env = "IM_PAGE_MESSAGES_MAX", value_name = "N", default_value = "1000")]
    pub page_messages_max: NonZeroUsize,

    /// The most bytes in a page of more than one message
    #[arg(long, env = "IM_PAGE_BYTES_MAX", value_name = "BYTES", default_value = "1048576")]
    pub page_bytes_max: NonZeroUsize,

    /// How long the store may take for a call: below the second that callers wait
    #[arg(long, env = "IM_STORE_TIMEOUT", value_name = "TIME", default_value = "800ms", value_parser = parse_duration)]
    pub store_timeout: Duration,
}

impl ServiceOptions {
    /// The limits among them.
    pub fn limits(&self) -> Limits {
        Limits {
            text_bytes_max: self.text_bytes_max.get(),
            page_messages_max: self.page_messages_max.get(),
            page_bytes_max: self.page_bytes_max.get(),
            store_timeout: self.store_timeout,
        }
    }
}
