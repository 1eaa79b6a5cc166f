//! etcd as Kitex's `registry-etcd` uses it (contract, section 4): a server's [`registration`] and a client's list of
//! [`instances`], both over [`etcd`]'s JSON gateway.
//!
//! Key: `kitex/registry-etcd/<service>/<address>`; value: an [`Instance`] as JSON; under a lease that is kept alive.
//!
//! Nothing here knows what the service does.

pub mod etcd;
pub mod instances;
pub mod options;
pub mod registration;

use serde::{Deserialize, Serialize};

/// A server as the registry knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// "tcp".
    pub network: String,
    /// "host:port".
    pub address: String,
    /// Its share of the calls among all; Kitex reads 0 as 10.
    #[serde(default)]
    pub weight: u32,
    /// Kitex's tags; not used here.
    #[serde(default)]
    pub tags: Option<serde_json::Value>,
}

/// The weight of a server that says none.
pub const DEFAULT_WEIGHT: u32 = 10;

/// The prefix of all servers of a service. The slash at its end keeps `demo.rpc.server2` out of `demo.rpc.server`.
fn prefix(service: &str) -> String {
    format!("kitex/registry-etcd/{service}/")
}
