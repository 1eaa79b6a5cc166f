//! A TCP listener for any protocol: it refuses a port that is taken, outlives accept errors, bounds the open
//! connections, and on a stop waits for them.

use std::{
    collections::HashMap,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use tokio::{
    net::{TcpListener, TcpStream, lookup_host},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, warn};

use crate::shutdown::GRACE;

/// How many connections a server holds open.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    /// In all; more wait in the system's backlog until one closes.
    pub max: usize,
    /// From one address; more are closed at once, so that one caller cannot take all.
    pub per_address_max: usize,
}

impl Default for Connections {
    fn default() -> Self {
        Self { max: 10_000, per_address_max: 8_000 }
    }
}

/// The pause after an accept error such as "too many open files": the system needs a moment, not a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{option} {addr}: cannot listen there: {cause}; give a free host:port, or port 0 for any free one")]
pub struct BindError {
    option: &'static str,
    addr: String,
    cause: io::Error,
}

/// A bound port.
#[derive(Debug)]
pub struct Listener {
    inner: TcpListener,
    local_addr: SocketAddr,
    connections: Connections,
}

impl Listener {
    /// Binds `addr` ("host:port"), which `option` named. Port 0 takes any free one.
    ///
    /// # Errors
    /// The address does not resolve, is not this machine's, or another process listens there: unlike with
    /// SO_REUSEPORT, two servers never share a port by mistake.
    pub async fn bind(option: &'static str, addr: &str, connections: Connections) -> Result<Self, BindError> {
        let bind = async {
            let addrs: Vec<_> = lookup_host(addr).await?.collect();
            let inner = TcpListener::bind(addrs.as_slice()).await?;
            let local_addr = inner.local_addr()?;
            Ok(Self { inner, local_addr, connections })
        };
        bind.await.map_err(|cause| BindError { option, addr: addr.to_owned(), cause })
    }

    /// The address that is listened on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Accepts until `stop`, each connection in a task of its own, then waits up to [`GRACE`] for the open ones.
    ///
    /// `connection` learns of the stop by the token that it captures; a panic in it ends that connection alone.
    pub async fn serve<F, Fut>(self, stop: CancellationToken, connection: F)
    where
        F: Fn(TcpStream, SocketAddr) -> Fut,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let (open, panics) = (TaskTracker::new(), Arc::new(AtomicU64::new(0)));
        let slots = Arc::new(Semaphore::new(self.connections.max.min(Semaphore::MAX_PERMITS)));
        let by_address = ByAddress::new(self.connections.per_address_max);
        while let Some((stream, peer, slot)) = self.next(&slots, &stop).await {
            let Some(place) = by_address.take(peer.ip()) else {
                warn!(%peer, "closed at once: its address has {} connections", self.connections.per_address_max);
                continue;
            };
            let served = AssertUnwindSafe(connection(stream, peer)).catch_unwind();
            let panics = panics.clone();
            open.spawn(async move {
                if served.await.is_err() {
                    let so_far = panics.fetch_add(1, Ordering::Relaxed) + 1;
                    error!(%peer, panics = so_far, "a connection ended by a panic");
                }
                drop((place, slot));
            });
        }
        drop(self.inner); // new connections are refused from here on
        open.close();
        if timeout(GRACE, open.wait()).await.is_err() {
            warn!(connections = open.len(), "still busy after {GRACE:?}: closed");
        }
    }

    async fn next(
        &self,
        slots: &Arc<Semaphore>,
        stop: &CancellationToken,
    ) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        loop {
            let accept = async {
                let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
                let (stream, peer) = self.inner.accept().await?;
                let _ = stream.set_nodelay(true); // replies are small and waited for; it fails for who is gone again
                Ok::<_, io::Error>((stream, peer, slot))
            };
            tokio::select! {
                () = stop.cancelled() => return None,
                accepted = accept => match accepted {
                    Ok(connection) => return Some(connection),
                    Err(e) => {
                        error!(error = %e, "a connection could not be accepted");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }
}

/// The open connections of each address.
#[derive(Clone)]
struct ByAddress {
    max: usize,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A connection's place among those of its address, given back when dropped.
struct Place {
    by_address: ByAddress,
    address: IpAddr,
}

impl ByAddress {
    fn new(max: usize) -> Self {
        Self { max, open: Arc::default() }
    }

    fn take(&self, address: IpAddr) -> Option<Place> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_default();
        (*count < self.max).then(|| {
            *count += 1;
            Place { by_address: self.clone(), address }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.by_address.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_an_error_that_names_the_option_and_the_address() {
        let first = Listener::bind("--rpc-addr", "127.0.0.1:0", Connections::default()).await.expect("a free port");
        let addr = first.local_addr().to_string();
        let e = Listener::bind("--rpc-addr", &addr, Connections::default()).await.expect_err("taken").to_string();
        assert!(e.contains("--rpc-addr") && e.contains(&addr), "{e}");
    }

    #[tokio::test]
    async fn a_panic_in_one_connection_leaves_the_others_served() {
        let listener = Listener::bind("--rpc-addr", "127.0.0.1:0", Connections::default()).await.expect("a free port");
        let (addr, stop) = (listener.local_addr(), CancellationToken::new());
        let serving = tokio::spawn(listener.serve(stop.clone(), |mut stream, _| async move {
            let byte = stream.read_u8().await.expect("a byte");
            assert_ne!(byte, b'!', "this connection is to panic");
            stream.write_u8(byte).await.expect("written");
        }));
        let mut bad = TcpStream::connect(addr).await.expect("connected");
        bad.write_u8(b'!').await.expect("written");
        assert!(bad.read_u8().await.is_err());
        let mut good = TcpStream::connect(addr).await.expect("connected");
        good.write_u8(b'a').await.expect("written");
        assert_eq!(good.read_u8().await.expect("echoed"), b'a');
        stop.cancel();
        serving.await.expect("ended");
    }

    #[tokio::test]
    async fn an_address_with_all_its_connections_open_gets_no_more_until_one_closes() {
        let connections = Connections { max: 10, per_address_max: 1 };
        let listener = Listener::bind("--rpc-addr", "127.0.0.1:0", connections).await.expect("a free port");
        let (addr, stop) = (listener.local_addr(), CancellationToken::new());
        let serving = tokio::spawn(listener.serve(stop.clone(), |mut stream, _| async move {
            while let Ok(byte) = stream.read_u8().await {
                stream.write_u8(byte).await.expect("written");
            }
        }));
        let mut first = TcpStream::connect(addr).await.expect("connected");
        first.write_u8(b'a').await.expect("written");
        assert_eq!(first.read_u8().await.expect("echoed"), b'a');
        let mut second = TcpStream::connect(addr).await.expect("connected");
        assert!(second.read_u8().await.is_err(), "closed at once");
        drop(first);
        let echoed = async {
            loop {
                let mut third = TcpStream::connect(addr).await.expect("connected");
                let _ = third.write_u8(b'b').await;
                if third.read_u8().await.is_ok_and(|byte| byte == b'b') {
                    return;
                }
            }
        };
        timeout(Duration::from_secs(5), echoed).await.expect("served again");
        stop.cancel();
        serving.await.expect("ended");
    }
}
