//! The RPC client as an [`ImService`]: the front and the command-line client call it as they would call the service
//! itself.

use std::{cell::RefCell, future::Future, io, time::Duration};

use metainfo::{METAINFO, MetaInfo};
use tokio::time::timeout;
use tracing::warn;
use volo_gen::rpc::{
    ImService, ImServiceClient, ImServiceClientBuilder, PullRequest, PullResponse, SendRequest, SendResponse,
};
use volo_thrift::{ClientError, ServerError};

use crate::{discovery::DnsDiscover, options::RpcOptions};

/// The name of the RPC server, as the Go services know it.
const SERVICE_NAME: &str = "demo.rpc.server";

/// How often a call is tried that no server accepted. Only a refused connection is: it never carried the call.
const ATTEMPTS_MAX: usize = 3;

/// A client of the RPC servers; clones share their connections. Calls go out as TTHeader over framed Binary.
#[derive(Clone)]
pub struct RpcClient {
    client: ImServiceClient,
    timeout: Duration,
}

/// No answer: what the caller is told.
struct Failure {
    code: i32,
    msg: &'static str,
}

impl RpcClient {
    /// A client of the servers that the options name. Connects when it is called.
    pub fn new(options: RpcOptions) -> Self {
        let client = ImServiceClientBuilder::new(SERVICE_NAME)
            .discover(DnsDiscover::new(options.rpc_target))
            .connect_timeout(Some(options.rpc_timeout))
            .rpc_timeout(None) // Volo's would look like the server's own error
            .retry_count(0) // Volo would repeat a Send whose answer was lost
            .build();
        Self { client, timeout: options.rpc_timeout }
    }

    /// One call within its time. The outer error is what the caller is told, the inner one the server's.
    async fn call<T, Fut>(&self, attempt: impl Fn(ImServiceClient) -> Fut) -> Result<Result<T, ServerError>, Failure>
    where
        Fut: Future<Output = Result<T, ClientError>>,
    {
        let attempts = async {
            for _ in 1..ATTEMPTS_MAX {
                match attempt(self.client.clone()).await {
                    Err(e) if never_arrived(&e) => {}
                    result => return result,
                }
            }
            attempt(self.client.clone()).await
        };
        let in_scope = METAINFO.scope(RefCell::new(MetaInfo::default()), attempts);
        match timeout(self.timeout, in_scope).await {
            Ok(Ok(answer)) => Ok(Ok(answer)),
            Ok(Err(ClientError::Transport(e))) => {
                warn!(error = %e, "the RPC server cannot be reached");
                Err(Failure { code: 503, msg: "the messaging service cannot be reached: try again" })
            }
            Ok(Err(ClientError::Application(e))) if e.message().starts_with("load balance") => {
                warn!(error = %e, "no RPC server is known");
                Err(Failure { code: 503, msg: "no messaging service is known: try again" })
            }
            Ok(Err(e)) => Ok(Err(e.into())),
            Err(_) => Err(Failure { code: 504, msg: "the messaging service did not answer in time" }),
        }
    }
}

impl ImService for RpcClient {
    async fn send(&self, req: SendRequest) -> Result<SendResponse, ServerError> {
        let attempt = |client: ImServiceClient| {
            let req = req.clone();
            async move { client.send(req).await }
        };
        self.call(attempt).await.unwrap_or_else(|Failure { code, msg }| Ok(SendResponse { code, msg: msg.into() }))
    }

    async fn pull(&self, req: PullRequest) -> Result<PullResponse, ServerError> {
        let attempt = |client: ImServiceClient| {
            let req = req.clone();
            async move { client.pull(req).await }
        };
        self.call(attempt).await.unwrap_or_else(|Failure { code, msg }| {
            Ok(PullResponse { code, msg: msg.into(), messages: None, has_more: None, next_cursor: None })
        })
    }
}

fn never_arrived(e: &ClientError) -> bool {
    matches!(e, ClientError::Transport(e) if e.io_error().kind() == io::ErrorKind::ConnectionRefused)
}
