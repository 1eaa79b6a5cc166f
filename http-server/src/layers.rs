//! What goes around every request, outermost first: a panic becomes a 500, an error takes the form that the caller
//! accepts, the body is read whole, within its limits.

use std::{convert::Infallible, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http::{
    HeaderMap, StatusCode,
    header::{ACCEPT, CONTENT_LENGTH, EXPECT},
};
use http_body_util::{BodyExt, Limited};
use motore::service::Service;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tracing::error;
use volo_http::{body::Body, context::ServerContext, request::Request, response::Response, server::IntoResponse};

use crate::error::ApiError;

/// How many bytes of a refused body are still read, and for how long: a client that is answered while it sends
/// would lose the answer if the connection were cut at once.
const DRAIN: (usize, Duration) = (16 << 20, Duration::from_secs(2));

/// What a body may hold without asking for a share of [`BodyLimits::all_bytes_max`].
const BODY_BYTES_FREE: usize = 16 << 10;

/// The layers around a router whose handlers see whole bodies.
pub fn around<S>(router: S, body: BodyLimits) -> CatchPanic<RenderErrors<ReadBody<S>>> {
    let bodies = Arc::new(Semaphore::new((body.all_bytes_max >> 10).min(Semaphore::MAX_PERMITS)));
    CatchPanic(RenderErrors(ReadBody { inner: router, limits: body, bodies }))
}

/// What requests' bodies may take.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// The largest body, in bytes.
    pub bytes_max: usize,
    /// All bodies of requests under way together, in bytes.
    pub all_bytes_max: usize,
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
/// declared; 408 when it is too slow; 503 when all bodies together are too large.
#[derive(Clone)]
pub struct ReadBody<S> {
    inner: S,
    limits: BodyLimits,
    /// A permit is a KiB.
    bodies: Arc<Semaphore>,
}

impl<S> Service<ServerContext, Request> for ReadBody<S>
where
    S: Service<ServerContext, Request<Bytes>, Response = Response, Error = Infallible> + Send + Sync,
{
    type Response = Response;
    type Error = Infallible;

    async fn call(&self, cx: &mut ServerContext, request: Request) -> Result<Response, Infallible> {
        let (parts, body) = request.into_parts();
        match self.read(&parts.headers, body).await {
            Ok((body, _share)) => self.inner.call(cx, Request::from_parts(parts, body)).await,
            Err(error) => Ok(error.into_response()),
        }
    }
}

impl<S> ReadBody<S> {
    /// The body, and its share of the memory for all of them.
    async fn read(
        &self,
        headers: &HeaderMap,
        mut body: Body,
    ) -> Result<(Bytes, Option<OwnedSemaphorePermit>), ApiError> {
        let declared = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        if declared.is_some_and(|bytes| bytes > self.limits.bytes_max as u64) {
            // Who waits for "100 Continue" sends nothing after this answer.
            if !headers.contains_key(EXPECT) {
                tokio::spawn(drain(body));
            }
            return Err(self.limits.too_large());
        }
        match timeout(self.limits.timeout, self.collect(&mut body)).await {
            Ok(Err(error)) => {
                tokio::spawn(drain(body));
                Err(error)
            }
            Ok(whole) => whole,
            Err(_) => {
                let sentence = format!("the request's body took longer than {:?}", self.limits.timeout);
                Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, sentence))
            }
        }
    }

    async fn collect(&self, body: &mut Body) -> Result<(Bytes, Option<OwnedSemaphorePermit>), ApiError> {
        let (mut whole, mut share) = (BytesMut::new(), None);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(ApiError::unreadable)?.into_data() else { continue }; // trailers
            let bytes = whole.len() + data.len();
            if bytes > self.limits.bytes_max {
                return Err(self.limits.too_large());
            }
            self.grow(&mut share, bytes)?;
            whole.extend_from_slice(&data);
        }
        Ok((whole.freeze(), share))
    }

    /// Makes `share` large enough for so many bytes.
    fn grow(&self, share: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> Result<(), ApiError> {
        let held = share.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let wanted = bytes.saturating_sub(BODY_BYTES_FREE).div_ceil(1 << 10);
        let more = u32::try_from(wanted.saturating_sub(held)).unwrap_or(u32::MAX);
        if more == 0 {
            return Ok(());
        }
        let more = self.bodies.clone().try_acquire_many_owned(more).map_err(|_| {
            let sentence = format!("requests of {} bytes are under way: try again", self.limits.all_bytes_max);
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, sentence)
        })?;
        match share {
            Some(share) => share.merge(more),
            None => *share = Some(more),
        }
        Ok(())
    }
}

impl BodyLimits {
    fn too_large(&self) -> ApiError {
        let sentence = format!("the request's body is over {} bytes", self.bytes_max);
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, sentence)
    }
}

async fn drain(body: Body) {
    let mut rest = Limited::new(body, DRAIN.0);
    let _ = timeout(DRAIN.1, async { while let Some(Ok(_)) = rest.frame().await {} }).await;
}
