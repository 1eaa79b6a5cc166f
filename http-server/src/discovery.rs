//! The RPC servers' addresses: names are resolved again and again, so that a server that moved is found.

use std::{collections::HashSet, io, net::SocketAddr, sync::Arc, time::Duration};

use async_broadcast::{InactiveReceiver, Receiver, Sender};
use tokio::{net::lookup_host, time::sleep};
use tracing::warn;
use volo::{
    context::Endpoint,
    discovery::{Change, Discover, Instance, diff_address},
    loadbalance::error::LoadBalanceError,
    net::Address,
};

use crate::options::Target;

/// How often names are resolved: a container that was replaced is found within it.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(5);

/// Resolves the names of `--rpc-target`.
#[derive(Clone)]
pub struct DnsDiscover {
    targets: Arc<[Target]>,
    changes: InactiveReceiver<Change<()>>,
}

impl DnsDiscover {
    /// Starts watching the names.
    pub fn new(targets: Vec<Target>) -> Self {
        let targets: Arc<[Target]> = targets.into();
        let (mut set, changes) = async_broadcast::broadcast(1);
        set.set_overflow(true); // only the newest list counts
        let discover = Self { targets, changes: changes.deactivate() };
        if discover.targets.iter().any(|t| t.host_port.parse::<SocketAddr>().is_err()) {
            tokio::spawn(watch(discover.targets.clone(), set));
        }
        discover
    }
}

impl Discover for DnsDiscover {
    type Key = ();
    type Error = LoadBalanceError;

    async fn discover<'s>(&'s self, _: &'s Endpoint) -> Result<Vec<Arc<Instance>>, LoadBalanceError> {
        resolve(&self.targets).await.map_err(|e| LoadBalanceError::Discover(Box::new(e)))
    }

    fn key(&self, _: &Endpoint) {}

    fn watch(&self, _: Option<&[()]>) -> Option<Receiver<Change<()>>> {
        Some(self.changes.activate_cloned())
    }
}

async fn watch(targets: Arc<[Target]>, set: Sender<Change<()>>) {
    let mut known = Vec::new();
    while !set.is_closed() {
        sleep(RESOLVE_INTERVAL).await;
        // A name server that is away leaves the last known addresses.
        let Ok(found) = resolve(&targets).await else { continue };
        let (change, changed) = diff_address((), known, found.clone());
        known = found;
        if changed {
            let _ = set.broadcast_direct(change).await;
        }
    }
}

/// All addresses of all names; those that do not resolve are left out as long as one does.
async fn resolve(targets: &[Target]) -> io::Result<Vec<Arc<Instance>>> {
    let mut found = HashSet::new();
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
        _ => Ok(found
            .into_iter()
            .map(|addr| Arc::new(Instance { address: Address::Ip(addr), weight: 10, tags: Default::default() }))
            .collect()),
    }
}
