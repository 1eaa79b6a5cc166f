//! Which RPC server gets a call: by their shares at random, and those that could not be connected to last.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::time::timeout;
use volo::{
    context::Endpoint,
    discovery::{Change, DummyDiscover},
    loadbalance::{LoadBalance, error::LoadBalanceError},
    net::{
        Address,
        conn::{OwnedReadHalf, OwnedWriteHalf},
        dial::{DefaultMakeTransport, MakeTransport},
    },
};

use crate::discovery::{Server, Servers};

/// How long a server that could not be connected to is asked last.
const AVOID_TIME: Duration = Duration::from_secs(1);

/// How long a call waits for the first list of servers.
const FIRST_LIST_TIMEOUT: Duration = Duration::from_millis(300);

/// The servers that could not be connected to, and until when they are avoided.
#[derive(Debug, Clone, Default)]
struct Avoided(Arc<Mutex<HashMap<SocketAddr, Instant>>>);

impl Avoided {
    fn note(&self, addr: &Address, connected: bool) {
        let Address::Ip(addr) = addr else { return };
        let mut avoided = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if connected {
            avoided.remove(addr);
        } else {
            avoided.retain(|_, until| *until > Instant::now());
            avoided.insert(*addr, Instant::now() + AVOID_TIME);
        }
    }

    fn contains(&self, addr: &SocketAddr) -> bool {
        let avoided = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        avoided.get(addr).is_some_and(|until| *until > Instant::now())
    }
}

/// Chooses servers.
#[derive(Debug, Clone)]
pub struct Balance {
    servers: Servers,
    avoided: Avoided,
}

/// Connects to servers and tells [`Balance`] what came of it.
#[derive(Debug, Clone)]
pub struct Dial {
    inner: DefaultMakeTransport,
    avoided: Avoided,
}

/// No server was found yet.
#[derive(Debug, thiserror::Error)]
#[error("no RPC server was found yet")]
struct NoneFound;

/// A chooser among `servers`, and how they are connected to.
pub fn over(servers: Servers) -> (Balance, Dial) {
    let avoided = Avoided::default();
    (Balance { servers, avoided: avoided.clone() }, Dial { inner: DefaultMakeTransport::new(), avoided })
}

impl LoadBalance<DummyDiscover> for Balance {
    type InstanceIter = std::vec::IntoIter<Address>;

    async fn get_picker<'a>(
        &'a self,
        _: &'a Endpoint,
        _: &'a DummyDiscover,
    ) -> Result<Self::InstanceIter, LoadBalanceError> {
        let mut servers = self.servers.clone();
        let known = timeout(FIRST_LIST_TIMEOUT, servers.wait_for(Option::is_some)).await;
        let Ok(Ok(known)) = known else { return Err(LoadBalanceError::Discover(Box::new(NoneFound))) };
        Ok(self.order(known.as_deref().unwrap_or_default()).into_iter())
    }

    fn rebalance(&self, _: Change<()>) {} // the list is watched itself
}

impl Balance {
    /// All servers, in the order in which they are to be tried.
    fn order(&self, servers: &[Server]) -> Vec<Address> {
        let start = pick(servers, fastrand::u64(..));
        let order = servers[start..].iter().chain(&servers[..start]).map(|server| server.addr);
        let (avoided, living): (Vec<_>, Vec<_>) = order.partition(|addr| self.avoided.contains(addr));
        living.into_iter().chain(avoided).map(Address::Ip).collect()
    }
}

/// The index of a server: each is met by as many numbers as its share has of all.
fn pick(servers: &[Server], number: u64) -> usize {
    let all: u64 = servers.iter().map(|server| u64::from(server.weight)).sum();
    let mut left = number.checked_rem(all).unwrap_or(0);
    let met = servers.iter().position(|server| {
        let weight = u64::from(server.weight);
        let is_met = left < weight;
        left = left.saturating_sub(weight);
        is_met
    });
    met.unwrap_or(0)
}

impl MakeTransport for Dial {
    type ReadHalf = OwnedReadHalf;
    type WriteHalf = OwnedWriteHalf;

    async fn make_transport(&self, addr: Address) -> io::Result<(OwnedReadHalf, OwnedWriteHalf)> {
        let dialled = self.inner.make_transport(addr.clone()).await;
        self.avoided.note(&addr, dialled.is_ok());
        // Whatever the reason, this connection never carried a call: the next server may have it.
        dialled.map_err(|e| io::Error::new(io::ErrorKind::ConnectionRefused, e))
    }

    fn set_connect_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_connect_timeout(timeout);
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_read_timeout(timeout);
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_write_timeout(timeout);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;

    fn servers(weights: &[u32]) -> Vec<Server> {
        let server =
            |(i, weight): (usize, &u32)| Server { addr: ([127, 0, 0, 1], i as u16 + 1).into(), weight: *weight };
        weights.iter().enumerate().map(server).collect()
    }

    #[test]
    fn each_server_is_met_as_often_as_its_share_says() {
        let servers = servers(&[10, 0, 30, 60]);
        let mut met = [0; 4];
        (0..1_000).for_each(|number| met[pick(&servers, number)] += 1);
        assert_eq!(met, [100, 0, 300, 600]);
    }

    #[test]
    fn a_server_that_could_not_be_connected_to_is_tried_last_until_it_could() {
        let servers = servers(&[10, 10, 10]);
        let (balance, dial) = over(watch::channel(Some(servers.clone())).1);
        let dead = Address::Ip(servers[1].addr);
        dial.avoided.note(&dead, false);
        for _ in 0..50 {
            let order = balance.order(&servers);
            assert_eq!((order.len(), order.last()), (3, Some(&dead)));
        }
        dial.avoided.note(&dead, true);
        assert!((0..200).any(|_| balance.order(&servers)[0] == dead));
    }
}
