//! The RPC servers that there are: from names that are resolved again and again, or from etcd.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    time::Duration,
};

use etcd_registry::{DEFAULT_WEIGHT, Instance, etcd::Etcd, instances, options::RegistryOptions};
use tokio::{
    net::lookup_host,
    sync::watch,
    time::{sleep, timeout},
};
use tracing::warn;

use crate::options::Target;

/// How often names are resolved: a container that was replaced is found within it.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(5);

/// The pause while no name resolves.
const RETRY_PAUSE: Duration = Duration::from_millis(300);

/// An RPC server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Where it is.
    pub addr: SocketAddr,
    /// Its share of the calls.
    pub weight: u32,
}

/// The servers that there are now; `None` while none was ever found.
pub type Servers = watch::Receiver<Option<Vec<Server>>>;

/// The servers at `targets`, each with the same share.
pub fn at(targets: Vec<Target>) -> Servers {
    let (mut resolver, servers) = Resolver::new();
    let shares: Vec<_> = targets.into_iter().map(|target| (target.host_port, DEFAULT_WEIGHT)).collect();
    tokio::spawn(async move {
        while !resolver.servers.is_closed() {
            sleep(resolver.publish(&shares).await).await;
        }
    });
    servers
}

/// The servers that are registered in etcd, with the shares that they ask for.
pub fn registered(registry: &RegistryOptions) -> Servers {
    let mut instances = instances::follow(Etcd::new(&registry.etcd.0), &registry.service_name);
    let (mut resolver, servers) = Resolver::new();
    tokio::spawn(async move {
        while !resolver.servers.is_closed() {
            let list = instances.borrow_and_update().clone();
            let pause = match list {
                Some(list) => resolver.publish(&list.into_iter().map(share).collect::<Vec<_>>()).await,
                None => RESOLVE_INTERVAL,
            };
            if let Ok(Err(_)) = timeout(pause, instances.changed()).await {
                return;
            }
        }
    });
    servers
}

fn share(Instance { address, weight, .. }: Instance) -> (String, u32) {
    (address, if weight == 0 { DEFAULT_WEIGHT } else { weight })
}

/// Publishes the addresses of servers that are known by "host:port".
struct Resolver {
    servers: watch::Sender<Option<Vec<Server>>>,
    /// What each name meant last, for when it does not resolve any more; empty when it never did.
    last: HashMap<String, Vec<SocketAddr>>,
}

impl Resolver {
    fn new() -> (Self, Servers) {
        let (set, servers) = watch::channel(None);
        (Self { servers: set, last: HashMap::new() }, servers)
    }

    /// Publishes all addresses of all names; returns the time until it is to be done again.
    async fn publish(&mut self, shares: &[(String, u32)]) -> Duration {
        let mut last = HashMap::new();
        let mut servers = BTreeMap::new();
        for (name, weight) in shares {
            let addrs = self.addresses(name).await;
            servers.extend(addrs.iter().map(|addr| (*addr, *weight)));
            last.insert(name.clone(), addrs);
        }
        self.last = last;
        if servers.is_empty() && !shares.is_empty() {
            return RETRY_PAUSE;
        }
        let servers = servers.into_iter().map(|(addr, weight)| Server { addr, weight }).collect();
        self.servers.send_replace(Some(servers));
        RESOLVE_INTERVAL
    }

    async fn addresses(&self, name: &str) -> Vec<SocketAddr> {
        match lookup_host(name).await {
            Ok(addrs) => addrs.collect(),
            Err(e) => {
                warn!(server = name, error = %e, "an RPC server's name does not resolve");
                self.last.get(name).cloned().unwrap_or_default()
            }
        }
    }
}
