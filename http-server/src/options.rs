//! The options of the HTTP front; `im serve` takes those of [`FrontOptions`] too.

use std::{num::NonZeroUsize, str::FromStr, time::Duration};

use etcd_registry::options::RegistryOptions;
use humantime::parse_duration;
use server_process::{logs::LogOptions, options::ConfigFile};

use crate::{
    discovery::{self, Servers},
    layers::BodyLimits,
    server::ConnectionLimits,
};

/// The JSON HTTP front of IMService.
#[derive(Debug, clap::Parser)]
#[command(version)]
pub struct Options {
    /// Where to listen; port 0 takes any free one
    #[arg(long, env = "IM_HTTP_ADDR", value_name = "HOST:PORT", default_value = "0.0.0.0:8080")]
    pub http_addr: String,
    /// The RPC servers.
    #[command(flatten)]
    pub rpc: RpcOptions,
    /// The limits.
    #[command(flatten)]
    pub front: FrontOptions,
    /// The logs.
    #[command(flatten)]
    pub log: LogOptions,
    #[command(flatten)]
    _config: ConfigFile,
}

/// What the front accepts and how long it waits.
#[derive(Debug, Clone, clap::Args)]
pub struct FrontOptions {
    /// The largest request body, in bytes
    #[arg(long, env = "IM_BODY_BYTES_MAX", value_name = "BYTES", default_value = "4194304")]
    pub body_bytes_max: NonZeroUsize,

    /// The most bytes of all request bodies under way; more are refused with 503
    #[arg(long, env = "IM_ALL_BODIES_BYTES_MAX", value_name = "BYTES", default_value = "268435456")]
    pub all_bodies_bytes_max: NonZeroUsize,

    /// How long a request's body may take to arrive
    #[arg(long, env = "IM_BODY_TIMEOUT", value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub body_timeout: Duration,

    /// How long a connection may be idle or take for a request's head
    #[arg(long, env = "IM_HEADER_TIMEOUT", value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub header_timeout: Duration,
}

impl FrontOptions {
    /// The limits that they set.
    pub fn limits(&self) -> ConnectionLimits {
        ConnectionLimits {
            body: BodyLimits {
                bytes_max: self.body_bytes_max.get(),
                all_bytes_max: self.all_bodies_bytes_max.get(),
                timeout: self.body_timeout,
            },
            header_timeout: self.header_timeout,
        }
    }
}

/// Where the RPC server is; the command-line client takes them too.
#[derive(Debug, Clone, clap::Args)]
pub struct RpcOptions {
    /// The RPC servers: `host:port[,host:port]`; empty to find them in etcd, or without it [default: 127.0.0.1:8888]
    #[arg(long, env = "IM_RPC_TARGET", value_name = "ADDRS", default_value = "", hide_default_value = true)]
    pub rpc_target: Targets,

    /// How long an RPC call may take
    #[arg(long, env = "IM_RPC_TIMEOUT", value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub rpc_timeout: Duration,

    /// The registry.
    #[command(flatten)]
    pub registry: RegistryOptions,
}

impl RpcOptions {
    /// The servers that they name.
    pub fn servers(&self) -> Servers {
        let targets = &self.rpc_target.0;
        if targets.is_empty() && !self.registry.etcd.0.is_empty() {
            return discovery::registered(&self.registry);
        }
        let local = || vec![Target { host_port: "127.0.0.1:8888".to_owned() }];
        discovery::at(if targets.is_empty() { local() } else { targets.clone() })
    }
}

/// Several of them, with commas between; or none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Targets(pub Vec<Target>);

impl FromStr for Targets {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        let targets = value.split(',').map(str::trim).filter(|target| !target.is_empty());
        targets.map(Target::from_str).collect::<Result<_, _>>().map(Self)
    }
}

/// "host:port"; the host is a name or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// As given.
    pub host_port: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        let port = value.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
        match port {
            Some(Ok(port)) if port > 0 => Ok(Self { host_port: value.to_owned() }),
            _ => Err("takes host:port, as in rpc-server:8888".to_owned()),
        }
    }
}
