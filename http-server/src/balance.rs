//! Which RPC server gets a call: by their shares at random, and those that did not answer last.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use motore::{layer::Layer, service::Service};
use tokio::time::timeout;
use volo::{
    context::{Context, Endpoint},
    discovery::{Change, DummyDiscover},
    loadbalance::{LoadBalance, error::LoadBalanceError},
    net::{
        Address,
        conn::{OwnedReadHalf, OwnedWriteHalf},
        dial::{DefaultMakeTransport, MakeTransport},
    },
};
use volo_thrift::{ClientError, context::ClientContext};

use crate::discovery::{Server, Servers};

/// How long a server is asked last that could not be connected to: finding out again is quick.
const AVOID_UNREACHABLE: Duration = Duration::from_secs(1);

/// How long a server is asked last that let a call time out: each caller who finds out again has waited for nothing.
const AVOID_SILENT: Duration = Duration::from_secs(5);

/// How long a call waits for the first list of servers.
const FIRST_LIST_TIMEOUT: Duration = Duration::from_millis(300);

/// The servers that did not answer, and until when they are avoided.
#[derive(Debug, Clone, Default)]
struct Avoided(Arc<Mutex<HashMap<SocketAddr, Instant>>>);

impl Avoided {
    fn avoid(&self, addr: SocketAddr, time: Duration) {
        let mut avoided = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        avoided.retain(|_, until| *until > Instant::now());
        avoided.insert(addr, Instant::now() + time);
    }

    fn welcome(&self, addr: SocketAddr) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&addr);
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

/// Goes around each attempt at a server, and tells [`Balance`] what came of it.
#[derive(Debug, Clone)]
pub struct Observer {
    avoided: Avoided,
    timeout: Duration,
}

/// No server was found yet.
#[derive(Debug, thiserror::Error)]
#[error("no RPC server was found yet")]
struct NoneFound;

/// A chooser among `servers`, and who observes the calls, which take `timeout` at most.
pub fn over(servers: Servers, timeout: Duration) -> (Balance, Observer) {
    let avoided = Avoided::default();
    (Balance { servers, avoided: avoided.clone() }, Observer { avoided, timeout })
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
        let (avoided, mut living): (Vec<_>, Vec<_>) = servers.iter().partition(|s| self.avoided.contains(&s.addr));
        let first = pick(&living, fastrand::u64(..));
        living.rotate_left(first);
        living.into_iter().chain(avoided).map(|server| Address::Ip(server.addr)).collect()
    }
}

/// The index of a server, 0 for none: each is met by as many numbers as its share has of all.
fn pick(servers: &[&Server], number: u64) -> usize {
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

/// See [`Observer`].
#[derive(Debug, Clone)]
pub struct Observed<S> {
    inner: S,
    observer: Observer,
}

impl<S> Layer<S> for Observer {
    type Service = Observed<S>;

    fn layer(self, inner: S) -> Observed<S> {
        Observed { inner, observer: self }
    }
}

impl<S, Req> Service<ClientContext, Req> for Observed<S>
where
    S: Service<ClientContext, Req, Error = ClientError> + Send + Sync,
    Req: Send,
{
    type Response = S::Response;
    type Error = ClientError;

    async fn call(&self, cx: &mut ClientContext, req: Req) -> Result<S::Response, ClientError> {
        let Some(Address::Ip(addr)) = cx.rpc_info().callee().address else { return self.inner.call(cx, req).await };
        let mut attempt = Attempt { observer: &self.observer, addr, begun: Instant::now(), answered: None };
        let answer = self.inner.call(cx, req).await;
        attempt.answered = Some(!matches!(answer, Err(ClientError::Transport(_))));
        answer
    }
}

/// A call on its way to a server.
struct Attempt<'o> {
    observer: &'o Observer,
    addr: SocketAddr,
    begun: Instant,
    answered: Option<bool>,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        match self.answered {
            Some(true) => self.observer.avoided.welcome(self.addr),
            Some(false) => self.observer.avoided.avoid(self.addr, AVOID_UNREACHABLE),
            // Nobody waits any more: for want of time, of which another server may have had its part.
            None if self.begun.elapsed() >= self.observer.timeout / 2 => {
                self.observer.avoided.avoid(self.addr, AVOID_SILENT);
            }
            None => {} // the caller went away
        }
    }
}

/// Connects to servers.
#[derive(Debug, Clone, Default)]
pub struct Dial(DefaultMakeTransport);

impl MakeTransport for Dial {
    type ReadHalf = OwnedReadHalf;
    type WriteHalf = OwnedWriteHalf;

    async fn make_transport(&self, addr: Address) -> io::Result<(OwnedReadHalf, OwnedWriteHalf)> {
        // Whatever the reason, this connection never carried a call: the next server may have it.
        self.0.make_transport(addr).await.map_err(|e| io::Error::new(io::ErrorKind::ConnectionRefused, e))
    }

    fn set_connect_timeout(&mut self, timeout: Option<Duration>) {
        self.0.set_connect_timeout(timeout);
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.0.set_read_timeout(timeout);
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.0.set_write_timeout(timeout);
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
        (0..1_000).for_each(|number| met[pick(&servers.iter().collect::<Vec<_>>(), number)] += 1);
        assert_eq!(met, [100, 0, 300, 600]);
    }

    #[test]
    fn a_server_that_does_not_answer_is_tried_last_and_the_others_take_its_calls_by_their_shares() {
        let servers = servers(&[10, 10, 10]);
        let (balance, observer) = over(watch::channel(Some(servers.clone())).1, Duration::from_secs(1));
        let silent = Address::Ip(servers[1].addr);
        observer.avoided.avoid(servers[1].addr, AVOID_SILENT);
        let mut first = HashMap::new();
        for _ in 0..1_000 {
            let order = balance.order(&servers);
            assert_eq!((order.len(), order.last()), (3, Some(&silent)));
            *first.entry(order[0].to_string()).or_insert(0) += 1;
        }
        assert!(first.values().all(|count| (400..600).contains(count)), "{first:?}");
        observer.avoided.welcome(servers[1].addr);
        assert!((0..200).any(|_| balance.order(&servers)[0] == silent));
    }
}
