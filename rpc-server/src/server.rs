//! The RPC port.

use std::net::SocketAddr;

use etcd_registry::registration::Registration;
use server_process::{
    listener::{BindError, Listener},
    shutdown::CancellationToken,
};
use volo_gen::rpc::ImService;

use crate::{
    connection::{self, Shares},
    options::PortOptions,
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
    pub async fn bind(addr: &str, options: &PortOptions) -> Result<Self, BindError> {
        Ok(Self { listener: Listener::bind("--rpc-addr", addr, options.connections()).await? })
    }

    /// The address that is listened on.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Registers where a registry is given, and serves until `stop`; then takes the server out of the registry, and
    /// only then closes the port, so that nobody is sent to a closed one, and finishes the calls in flight.
    pub async fn serve<S>(self, service: S, options: &PortOptions, stop: CancellationToken)
    where
        S: ImService + Clone + Send + Sync + 'static,
    {
        let registration = Registration::start(&options.registry, options.advertise.clone(), self.local_addr());
        let (shares, close) = (Shares::new(options.connection()), CancellationToken::new());
        let connection = |stream, _peer| {
            let (service, shares, close) = (service.clone(), shares.clone(), close.clone());
            async move { connection::serve(stream, &service, shares, close).await }
        };
        let stopping = async {
            stop.cancelled().await;
            if let Some(registration) = registration {
                registration.deregister().await;
            }
            close.cancel();
        };
        tokio::join!(self.listener.serve(close.clone(), connection), stopping);
    }
}
