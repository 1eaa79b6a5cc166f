//! The options of the RPC server; `im serve` takes those of [`ServiceOptions`] too.

use std::{num::NonZeroUsize, time::Duration};

use etcd_registry::{options::RegistryOptions, registration::Advertise};
use humantime::parse_duration;
use server_process::{listener::Connections, logs::LogOptions, options::ConfigFile};

use crate::{connection, service::Limits, store::StoreUrl, wire};

/// The Thrift service IMService (Send, Pull) over Redis or an embedded store.
#[derive(Debug, clap::Parser)]
#[command(version)]
pub struct Options {
    /// Where to listen; port 0 takes any free one
    #[arg(long, env = "IM_RPC_ADDR", value_name = "HOST:PORT", default_value = "0.0.0.0:8888")]
    pub rpc_addr: String,
    /// What connections may ask of the port.
    #[command(flatten)]
    pub port: PortOptions,
    /// The store and its limits.
    #[command(flatten)]
    pub service: ServiceOptions,
    /// The logs.
    #[command(flatten)]
    pub log: LogOptions,
    #[command(flatten)]
    _config: ConfigFile,
}

/// What connections may ask of the RPC port, and how others find it; `im serve` takes these too.
#[derive(Debug, Clone, clap::Args)]
pub struct PortOptions {
    /// The longest message with its framing, in bytes
    #[arg(long, env = "IM_RPC_MESSAGE_BYTES_MAX", value_name = "BYTES", default_value = "8388608")]
    pub rpc_message_bytes_max: NonZeroUsize,

    /// The most fields and container items in a message
    #[arg(long, env = "IM_RPC_ELEMENTS_MAX", value_name = "N", default_value = "65536")]
    pub rpc_elements_max: NonZeroUsize,

    /// The deepest nesting in a message, at most 64
    #[arg(long, env = "IM_RPC_DEPTH_MAX", value_name = "N", default_value = "64", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub rpc_depth_max: u8,

    /// From connecting to the first byte
    #[arg(long, env = "IM_RPC_FIRST_BYTE_TIMEOUT", value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    pub rpc_first_byte_timeout: Duration,

    /// From a message's first byte to its last, and for a client to take its replies
    #[arg(long, env = "IM_RPC_MESSAGE_TIMEOUT", value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub rpc_message_timeout: Duration,

    /// How long a connection may be open between two calls
    #[arg(long, env = "IM_RPC_IDLE_TIMEOUT", value_name = "TIME", default_value = "10m", value_parser = parse_duration)]
    pub rpc_idle_timeout: Duration,

    /// The most open connections; more wait until one closes
    #[arg(long, env = "IM_RPC_CONNECTIONS_MAX", value_name = "N", default_value = "10000")]
    pub rpc_connections_max: NonZeroUsize,

    /// The most open connections from one address; more are closed at once
    #[arg(long, env = "IM_RPC_CONNECTIONS_PER_ADDRESS_MAX", value_name = "N", default_value = "8000")]
    pub rpc_connections_per_address_max: NonZeroUsize,

    /// The most calls in flight over all connections; more are refused at once
    #[arg(long, env = "IM_RPC_CALLS_MAX", value_name = "N", default_value = "4096")]
    pub rpc_calls_max: NonZeroUsize,

    /// The most bytes over all connections of messages and answers on their way
    #[arg(long, env = "IM_RPC_BUFFER_BYTES_MAX", value_name = "BYTES", default_value = "268435456")]
    pub rpc_buffer_bytes_max: NonZeroUsize,

    /// The registry.
    #[command(flatten)]
    pub registry: RegistryOptions,

    /// The address that is registered, `host:port`; without it the listening one, or the outbound interface's
    #[arg(long, env = "IM_ADVERTISE", value_name = "HOST:PORT", default_value = "", hide_default_value = true)]
    pub advertise: Advertise,
}

impl PortOptions {
    /// The limits of a connection.
    pub fn connection(&self) -> connection::Limits {
        connection::Limits {
            message: wire::Limits {
                message_bytes_max: self.rpc_message_bytes_max.get(),
                elements_max: self.rpc_elements_max.get(),
                depth_max: self.rpc_depth_max.into(),
            },
            first_byte_timeout: self.rpc_first_byte_timeout,
            message_timeout: self.rpc_message_timeout,
            idle_timeout: self.rpc_idle_timeout,
            calls_max: self.rpc_calls_max.get(),
            buffer_bytes_max: self.rpc_buffer_bytes_max.get(),
        }
    }

    /// How many connections there may be.
    pub fn connections(&self) -> Connections {
        Connections { max: self.rpc_connections_max.get(), per_address_max: self.rpc_connections_per_address_max.get() }
    }
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
