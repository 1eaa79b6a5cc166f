//! The RPC port: each connection is served by Volo's ping-pong transport, in the form that the client speaks.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
};

use server_process::{
    listener::{BindError, Listener},
    shutdown::CancellationToken,
};
use tokio::{net::TcpStream, sync::Notify};
use volo::net::{Address, conn::Conn};
use volo_gen::rpc::{ImService, ImServiceRequestRecv, ImServiceResponseSend, ImServiceServer};
use volo_thrift::{
    codec::{DefaultMakeCodec, MakeCodec},
    tracing::DefaultProvider,
    transport::pingpong,
};

/// The bound RPC server.
///
/// Volo's own `Server::run` is not used: it would share a port that is taken, end when the process runs out of file
/// descriptors, and handle signals by itself.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
}

impl Server {
    /// Binds `addr`, "host:port".
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn bind(addr: &str) -> Result<Self, BindError> {
        Ok(Self { listener: Listener::bind("--rpc-addr", addr).await? })
    }

    /// The address that is listened on.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Serves until `stop`, then finishes the calls in flight.
    pub async fn serve<S>(self, service: S, stop: CancellationToken)
    where
        S: ImService + Clone + Send + Sync + 'static,
    {
        let service = ImServiceServer::from_handler(service);
        let stopping = Stopping::on(stop.clone());
        self.listener.serve(stop, |stream, peer| connection(stream, peer, service.clone(), stopping.clone())).await;
    }
}

/// The stop in the form that Volo's transport takes: a flag for calls in flight, a wake-up for idle connections.
#[derive(Clone)]
struct Stopping {
    flag: Arc<AtomicBool>,
    wake: Arc<Notify>,
    token: CancellationToken,
}

impl Stopping {
    fn on(token: CancellationToken) -> Self {
        let stopping = Self { flag: Arc::default(), wake: Arc::default(), token };
        let on_stop = stopping.clone();
        tokio::spawn(async move {
            on_stop.token.cancelled().await;
            on_stop.flag.store(true, std::sync::atomic::Ordering::Relaxed);
            on_stop.wake.notify_waiters();
        });
        stopping
    }
}

async fn connection<S>(stream: TcpStream, peer: SocketAddr, service: ImServiceServer<S>, stopping: Stopping)
where
    S: ImService + Send + Sync + 'static,
{
    let woken = stopping.wake.notified();
    if stopping.token.is_cancelled() {
        return; // accepted just before the stop, and too late for the wake-up
    }
    let (read, write) = Conn::from(stream).stream.into_split();
    let (encoder, decoder) = DefaultMakeCodec::default().make_codec(read, write);
    pingpong::serve::<_, ImServiceRequestRecv, ImServiceResponseSend, _, _, _>(
        encoder,
        decoder,
        woken,
        stopping.flag,
        &service,
        Arc::from([]),
        Some(Address::Ip(peer)),
        DefaultProvider,
    )
    .await;
}
