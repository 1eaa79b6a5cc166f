//! The servers of a service, as the registry has them and as they change.

use std::{collections::BTreeMap, time::Duration};

use tokio::{sync::watch, time::sleep};
use tracing::{info, warn};

use crate::{
    Instance,
    etcd::{Etcd, EtcdError, Event},
    prefix,
};

/// The pauses before the registry is asked again grow from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Follows the servers of `service`. The list is `None` until etcd was reached; while etcd is away, the last known one
/// stays. Ends when nobody looks any more.
pub fn follow(etcd: Etcd, service: &str) -> watch::Receiver<Option<Vec<Instance>>> {
    let (set, instances) = watch::channel(None);
    let prefix = prefix(service);
    tokio::spawn(async move {
        let mut pause = PAUSES.0;
        let mut away = false;
        while !set.is_closed() {
            let reached = &mut false;
            let ended = tokio::select! {
                ended = list_and_watch(&etcd, &prefix, &set, reached) => ended,
                () = set.closed() => return,
            };
            if *reached {
                (pause, away) = (PAUSES.0, false);
            }
            if let Err(e) = ended
                && !std::mem::replace(&mut away, true)
            {
                warn!(error = %e, "etcd cannot be followed: going on with the servers last known");
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    });
    instances
}

/// Reads the list, then every change of it, until etcd is lost.
async fn list_and_watch(
    etcd: &Etcd,
    prefix: &str,
    set: &watch::Sender<Option<Vec<Instance>>>,
    reached: &mut bool,
) -> Result<(), EtcdError> {
    let listing = etcd.list(prefix).await?;
    let mut servers: BTreeMap<_, _> =
        listing.entries.into_iter().filter_map(|(key, value)| Some((key, read(&value)?))).collect();
    let mut watch = etcd.watch(prefix, listing.revision).await?;
    *reached = true;
    // An etcd that comes back without its data has the servers again in a moment; none is worse than the old ones.
    if !servers.is_empty() || set.borrow().is_none() {
        publish(set, &servers);
    }
    loop {
        let events = watch.next().await?;
        if events.is_empty() {
            continue;
        }
        for event in events {
            match event {
                Event::Put(key, value) => {
                    if let Some(instance) = read(&value) {
                        servers.insert(key, instance);
                    }
                }
                Event::Deleted(key) => drop(servers.remove(&key)),
            }
        }
        publish(set, &servers);
    }
}

fn publish(set: &watch::Sender<Option<Vec<Instance>>>, servers: &BTreeMap<String, Instance>) {
    let list: Vec<_> = servers.values().cloned().collect();
    set.send_if_modified(|known| {
        let changed = known.as_ref() != Some(&list);
        if changed {
            info!(servers = ?list.iter().map(|i| &i.address).collect::<Vec<_>>(), "the registry's servers");
            *known = Some(list);
        }
        changed
    });
}

/// A server's value; `None`, with a warning, for what is none.
fn read(value: &[u8]) -> Option<Instance> {
    serde_json::from_slice(value)
        .inspect_err(|e| warn!(error = %e, "passed over an entry of the registry that is no server"))
        .ok()
}
