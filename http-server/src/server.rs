//! The HTTP port: hyper's HTTP/1 connections over this workspace's listener, with volo-http's router behind them.
//!
//! volo-http's own `Server::run` is not used: it has no deadline for a request's head, shares a port that is
//! taken, spins when the process runs out of file descriptors, and handles signals by itself.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use motore::service::Service;
use server_process::{
    listener::{BindError, Connections, Listener},
    shutdown::CancellationToken,
};
use tokio::net::TcpStream;
use tokio_io_timeout::TimeoutStream;
use tracing::debug;
use volo::net::Address;
use volo_gen::rpc::ImService;
use volo_http::{body::Body, context::ServerContext, request::Request, response::Response};

use crate::{
    layers::{self, BodyLimits},
    routes,
};

/// How long a client may take none of an answer's bytes.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a connection may take.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Of each request.
    pub body: BodyLimits,
    /// How long a connection may be idle or take for a request's head.
    pub header_timeout: Duration,
}

/// The bound HTTP server.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    limits: ConnectionLimits,
}

impl Server {
    /// Binds `addr`, "host:port".
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn bind(addr: &str, limits: ConnectionLimits) -> Result<Self, BindError> {
        Ok(Self { listener: Listener::bind("--http-addr", addr, Connections::default()).await?, limits })
    }

    /// The address that is listened on.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Serves until `stop`, then finishes the requests in flight.
    pub async fn serve<S>(self, service: S, stop: CancellationToken)
    where
        S: ImService + Clone + Send + Sync + 'static,
    {
        let front = std::sync::Arc::new(layers::around(routes::router(service), self.limits.body));
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(self.limits.header_timeout);
        let stopping = stop.clone();
        self.listener
            .serve(stop, |stream, peer| connection(http.clone(), stream, peer, front.clone(), stopping.clone()))
            .await;
    }
}

async fn connection<S>(http: http1::Builder, stream: TcpStream, peer: SocketAddr, front: S, stop: CancellationToken)
where
    S: Service<ServerContext, Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
{
    let answer = service_fn(|request: hyper::Request<Incoming>| {
        let front = front.clone();
        async move {
            let mut cx = ServerContext::new(Address::Ip(peer));
            front.call(&mut cx, request.map(Body::from_incoming)).await
        }
    });
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(Box::pin(stream)), answer));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = ended {
        debug!(%peer, error = %e, "a connection failed");
    }
}
