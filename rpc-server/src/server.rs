//! The RPC port.

use std::net::SocketAddr;

use server_process::{
    listener::{BindError, Connections, Listener},
    shutdown::CancellationToken,
};
use volo_gen::rpc::ImService;

use crate::connection::{self, Limits, Shares};

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
    pub async fn bind(addr: &str, connections: Connections) -> Result<Self, BindError> {
        Ok(Self { listener: Listener::bind("--rpc-addr", addr, connections).await? })
    }

    /// The address that is listened on.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Serves until `stop`, then finishes the calls in flight.
    pub async fn serve<S>(self, service: S, limits: Limits, stop: CancellationToken)
    where
        S: ImService + Clone + Send + Sync + 'static,
    {
        let shares = Shares::new(limits);
        let connection = |stream, _peer| {
            let (service, shares, stop) = (service.clone(), shares.clone(), stop.clone());
            async move { connection::serve(stream, &service, shares, stop).await }
        };
        self.listener.serve(stop.clone(), connection).await;
    }
}
