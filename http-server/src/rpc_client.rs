//! The RPC client as an [`ImService`]: the front and the command-line client call it as they would call the service
//! itself.

use std::{borrow::Cow, cell::RefCell, future::Future, io, time::Duration};

use metainfo::{METAINFO, MetaInfo};
use motore::{layer::Layer, service::Service};
use pilota::FastStr;
use tokio::time::timeout;
use tracing::warn;
use volo_gen::rpc::{
    ImService, ImServiceClient, ImServiceClientBuilder, Message, PullRequest, PullResponse, SendRequest, SendResponse,
};
use volo_thrift::{ApplicationException, ApplicationExceptionKind, ClientError, ServerError, context::ClientContext};

use crate::{balance, options::RpcOptions};

/// How long a connection may take to come about, so that there is time left for another server.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);

/// How many more servers are tried when one refuses the connection.
const OTHER_SERVERS_MAX: usize = 15;

/// How the message of an error begins that stands for a connection that was lost with the call on it.
const LOST: &str = "connection lost: ";

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
        let (balance, observer) = balance::over(options.servers(), options.rpc_timeout);
        let client = ImServiceClientBuilder::new(options.registry.service_name)
            .load_balance(balance)
            .make_transport(balance::Dial::default())
            .connect_timeout(Some(CONNECT_TIMEOUT.min(options.rpc_timeout)))
            .rpc_timeout(None) // Volo's would look like the server's own error
            .retry_count(OTHER_SERVERS_MAX)
            .layer_inner(NoSecondDelivery)
            .layer_inner(observer)
            .build();
        Self { client, timeout: options.rpc_timeout }
    }

    /// One call within its time. The outer error is what the caller is told, the inner one the server's.
    async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<Result<T, ServerError>, Failure> {
        let in_scope = METAINFO.scope(RefCell::new(MetaInfo::default()), call);
        match timeout(self.timeout, in_scope).await {
            Ok(Ok(answer)) => Ok(Ok(answer)),
            Ok(Err(ClientError::Application(e))) if e.message().starts_with(LOST) => {
                warn!(error = %e, "the RPC server went away with a call");
                Err(Failure {
                    code: 503,
                    msg: "the messaging service was lost: the message may or may not have been stored",
                })
            }
            Ok(Err(ClientError::Application(e))) if e.message().starts_with("load balance") => {
                warn!(error = %e, "no RPC server can be reached");
                Err(Failure { code: 503, msg: "the messaging service cannot be reached: try again" })
            }
            Ok(Err(e)) => Ok(Err(e.into())),
            Err(_) => Err(Failure { code: 504, msg: "the messaging service did not answer in time" }),
        }
    }
}

impl ImService for RpcClient {
    async fn send(&self, req: SendRequest) -> Result<SendResponse, ServerError> {
        let answer = self.call(self.client.send(req)).await;
        let answer = answer.map(|answer| answer.map(|a| SendResponse { code: a.code, msg: as_text(a.msg) }));
        answer.unwrap_or_else(|Failure { code, msg }| Ok(SendResponse { code, msg: msg.into() }))
    }

    async fn pull(&self, req: PullRequest) -> Result<PullResponse, ServerError> {
        let answer = self.call(self.client.pull(req)).await;
        let answer = answer.map(|answer| answer.map(page_as_text));
        answer.unwrap_or_else(|Failure { code, msg }| {
            Ok(PullResponse { code, msg: msg.into(), messages: None, has_more: None, next_cursor: None })
        })
    }
}

/// The library's decoder does not check that strings are text, and Go services keep what is none.
fn as_text(text: FastStr) -> FastStr {
    match String::from_utf8_lossy(text.as_bytes()) {
        Cow::Borrowed(_) => text,
        Cow::Owned(mended) => mended.into(),
    }
}

fn page_as_text(page: PullResponse) -> PullResponse {
    let message_as_text = |m: Message| Message {
        chat: m.chat.map(as_text),
        text: m.text.map(as_text),
        sender: m.sender.map(as_text),
        send_time: m.send_time,
    };
    let messages = page.messages.map(|messages| messages.into_iter().map(message_as_text).collect());
    PullResponse { msg: as_text(page.msg), messages, ..page }
}

/// Volo tries the next server after any failed connection, also one that was lost with the call on it, and a Send
/// could be stored twice. This layer leaves it only the errors of connections that never carried the call.
#[derive(Clone)]
struct NoSecondDelivery;

#[derive(Clone)]
struct OnceDelivered<S>(S);

impl<S> Layer<S> for NoSecondDelivery {
    type Service = OnceDelivered<S>;

    fn layer(self, inner: S) -> OnceDelivered<S> {
        OnceDelivered(inner)
    }
}

impl<S, Req> Service<ClientContext, Req> for OnceDelivered<S>
where
    S: Service<ClientContext, Req, Error = ClientError> + Send + Sync,
    Req: Send,
{
    type Response = S::Response;
    type Error = ClientError;

    async fn call(&self, cx: &mut ClientContext, req: Req) -> Result<S::Response, ClientError> {
        self.0.call(cx, req).await.map_err(|e| match e {
            ClientError::Transport(e) if e.io_error().kind() != io::ErrorKind::ConnectionRefused => {
                ApplicationException::new(ApplicationExceptionKind::INTERNAL_ERROR, format!("{LOST}{e}")).into()
            }
            e => e,
        })
    }
}
