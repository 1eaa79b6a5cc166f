//! The options of who registers or looks up.

use std::str::FromStr;

/// Where the registry is and what is looked for in it.
#[derive(Debug, Clone, clap::Args)]
pub struct RegistryOptions {
    /// The etcd endpoints: `host:port[,host:port]`; none means no registry
    #[arg(long, env = "IM_ETCD", value_name = "ADDRS", default_value = "", hide_default_value = true)]
    pub etcd: Endpoints,

    /// The RPC server's name in the registry
    #[arg(long, env = "IM_SERVICE_NAME", value_name = "NAME", default_value = "demo.rpc.server")]
    pub service_name: String,
}

/// Base addresses of etcd, "http://host:port".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoints(pub Vec<String>);

impl FromStr for Endpoints {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        let endpoints = value.split(',').map(str::trim).filter(|e| !e.is_empty()).map(|endpoint| {
            let host_port = endpoint.strip_prefix("http://").unwrap_or(endpoint).trim_end_matches('/');
            match host_port.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) {
                Some((host, Ok(1..))) if !host.is_empty() && !host.contains('/') => Ok(format!("http://{host_port}")),
                _ => Err(format!("{endpoint}: takes host:port[,host:port], as in etcd:2379")),
            }
        });
        endpoints.collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_host_and_port_with_or_without_http() {
        let read = |text: &str| text.parse::<Endpoints>().map(|e| e.0);
        assert_eq!(read(""), Ok(vec![]));
        assert_eq!(read("etcd:2379, http://b:1/"), Ok(vec!["http://etcd:2379".into(), "http://b:1".into()]));
        for wrong in ["etcd", "etcd:", "etcd:0", ":2379", "https://etcd:2379", "etcd:2379/path"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
