//! What goes around every request, outermost first: a panic becomes a 500, an error takes the form that the caller
//! accepts, the body is read whole, within its limits.

use std::{convert::Infallible, panic::AssertUnwindSafe, time::Duration};

use bytes::Bytes;
use futures::FutureExt;
use http::{
    HeaderMap, StatusCode,
    header::{ACCEPT, CONTENT_LENGTH, EXPECT},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use motore::service::Service;
use tokio::time::timeout;
use tracing::error;
use volo_http::{body::Body, context::ServerContext, request::Request, response::Response, server::IntoResponse};

use crate::error::ApiError;

/// How many bytes of a refused body are still read, and for how long: a client that is answered while it sends
/// would lose the answer if the connection were cut at once.
const DRAIN: (usize, Duration) = (16 << 20, Duration::from_secs(2));

/// The layers around a router whose handlers see whole bodies.
pub fn around<S>(router: S, body: BodyLimits) -> CatchPanic<RenderErrors<ReadBody<S>>> {
    CatchPanic(RenderErrors(ReadBody { inner: router, limits: body }))
}

/// What a request's body may take.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// The largest body, in bytes.
    pub bytes_max: usize,
    /// How long it may take to arrive.
    pub timeout: Duration,
}

/// Turns a panic into a 500 that tells nothing; the log has it.
#[derive(Clone)]
pub struct CatchPanic<S>(S);

impl<S> Service<ServerContext, Request> for CatchPanic<S>
where
    S: Service<ServerContext, Request, Response = Response, Error = Infallible> + Send + Sync,
{
    type Response = Response;
    type Error = Infallible;

    async fn call(&self, cx: &mut ServerContext, request: Request) -> Result<Response, Infallible> {
        AssertUnwindSafe(self.0.call(cx, request)).catch_unwind().await.unwrap_or_else(|_| {
            error!("a handler panicked");
            Ok(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error").into_response())
        })
    }
}

/// Renders errors as problem details for callers that accept them.
#[derive(Clone)]
pub struct RenderErrors<S>(S);

impl<S> Service<ServerContext, Request> for RenderErrors<S>
where
    S: Service<ServerContext, Request, Response = Response, Error = Infallible> + Send + Sync,
{
    type Response = Response;
    type Error = Infallible;

    async fn call(&self, cx: &mut ServerContext, request: Request) -> Result<Response, Infallible> {
        let as_problem = accepts(request.headers(), &["application/problem+json"]);
        let mut response = self.0.call(cx, request).await?;
        match response.extensions_mut().remove::<ApiError>() {
            Some(error) if as_problem => Ok(error.into_problem()),
            _ => Ok(response),
        }
    }
}

/// Whether the Accept header names one of these media types.
pub fn accepts(headers: &HeaderMap, types: &[&str]) -> bool {
    let named = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
    named
        .map(|range| range.split(';').next().unwrap_or_default().trim())
        .any(|t| types.iter().any(|wanted| t.eq_ignore_ascii_case(wanted)))
}

/// Reads the body before the handler runs: 413 when it is too large, before any of it is read where its length is
/// declared; 408 when it is too slow.
#[derive(Clone)]
pub struct ReadBody<S> {
    inner: S,
    limits: BodyLimits,
}

impl<S> Service<ServerContext, Request> for ReadBody<S>
where
    S: Service<ServerContext, Request<Bytes>, Response = Response, Error = Infallible> + Send + Sync,
{
    type Response = Response;
    type Error = Infallible;

    async fn call(&self, cx: &mut ServerContext, request: Request) -> Result<Response, Infallible> {
        let (parts, body) = request.into_parts();
        match self.limits.read(&parts.headers, body).await {
            Ok(body) => self.inner.call(cx, Request::from_parts(parts, body)).await,
            Err(error) => Ok(error.into_response()),
        }
    }
}

impl BodyLimits {
    async fn read(&self, headers: &HeaderMap, mut body: Body) -> Result<Bytes, ApiError> {
        let declared = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        if declared.is_some_and(|bytes| bytes > self.bytes_max as u64) {
            // Who waits for "100 Continue" sends nothing after this answer.
            if !headers.contains_key(EXPECT) {
                tokio::spawn(drain(body));
            }
            return Err(self.too_large());
        }
        let whole = Limited::new(&mut body, self.bytes_max).collect();
        match timeout(self.timeout, whole).await {
            Ok(Ok(whole)) => Ok(whole.to_bytes()),
            Ok(Err(e)) if e.is::<LengthLimitError>() => {
                tokio::spawn(drain(body));
                Err(self.too_large())
            }
            Ok(Err(e)) => Err(ApiError::unreadable(e)),
            Err(_) => {
                let sentence = format!("the request's body took longer than {:?}", self.timeout);
                Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, sentence))
            }
        }
    }

    fn too_large(&self) -> ApiError {
        let sentence = format!("the request's body is over {} bytes", self.bytes_max);
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, sentence)
    }
}

async fn drain(body: Body) {
    let mut rest = Limited::new(body, DRAIN.0);
    let _ = timeout(DRAIN.1, async { while let Some(Ok(_)) = rest.frame().await {} }).await;
}
