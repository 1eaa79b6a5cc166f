//! The RPC servers that there are: from names that are resolved again and again, or from etcd.

use std::{collections::BTreeSet, future::Future, io, net::SocketAddr, time::Duration};

use etcd_registry::{DEFAULT_WEIGHT, Instance, etcd::Etcd, instances, options::RegistryOptions};
use tokio::{net::lookup_host, sync::watch, time::sleep};
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
    let known: Option<BTreeSet<SocketAddr>> = targets.iter().map(|t| t.host_port.parse().ok()).collect();
    let is_final = known.is_some();
    let (set, servers) = watch::channel(known.map(with_equal_shares));
    if !is_final {
        tokio::spawn(until_closed(set.clone(), async move {
            loop {
                // A name server that is away leaves the last known addresses.
                let pause = match resolve(&targets).await {
                    Ok(found) => {
                        set.send_replace(Some(with_equal_shares(found)));
                        RESOLVE_INTERVAL
                    }
                    Err(_) => RETRY_PAUSE,
                };
                sleep(pause).await;
            }
        }));
    }
    servers
}

/// The servers that are registered in etcd, with the shares that they ask for.
pub fn registered(registry: &RegistryOptions) -> Servers {
    let mut instances = instances::follow(Etcd::new(&registry.etcd.0), &registry.service_name);
    let (set, servers) = watch::channel(None);
    tokio::spawn(until_closed(set.clone(), async move {
        while instances.changed().await.is_ok() {
            let list = instances.borrow_and_update().clone().unwrap_or_default();
            set.send_replace(Some(addresses_of(list).await));
        }
    }));
    servers
}

async fn until_closed<T>(set: watch::Sender<T>, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = set.closed() => {}
    }
}

fn with_equal_shares(addrs: BTreeSet<SocketAddr>) -> Vec<Server> {
    addrs.into_iter().map(|addr| Server { addr, weight: DEFAULT_WEIGHT }).collect()
}

/// All addresses of all names; those that do not resolve are left out as long as one does.
async fn resolve(targets: &[Target]) -> io::Result<BTreeSet<SocketAddr>> {
    let mut found = BTreeSet::new();
    let mut failed = None;
    for Target { host_port } in targets {
        match lookup_host(host_port).await {
            Ok(addrs) => found.extend(addrs),
            Err(e) => {
                warn!(target = %host_port, error = %e, "an RPC server's name does not resolve");
                failed = Some(e);
            }
        }
    }
    match failed {
        Some(e) if found.is_empty() => Err(e),
        _ => Ok(found),
    }
}

/// The registry's entries as addresses; what does not resolve is left out.
async fn addresses_of(instances: Vec<Instance>) -> Vec<Server> {
    let mut servers = Vec::new();
    for Instance { address, weight, .. } in instances {
        let weight = if weight == 0 { DEFAULT_WEIGHT } else { weight };
        match lookup_host(&address).await {
            Ok(addrs) => servers.extend(addrs.take(1).map(|addr| Server { addr, weight })),
            Err(e) => warn!(address, error = %e, "an RPC server's registered address does not resolve"),
        }
    }
    servers
}
