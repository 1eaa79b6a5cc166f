//! Which path and method leads where, and the handlers: parse, call, answer.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Uri, header::ALLOW, request::Parts};
use serde_json::json;
use volo_gen::rpc::{ImService, Message, PullRequest, SendRequest};
use volo_http::{
    body::Body,
    context::ServerContext,
    response::Response,
    server::{
        IntoResponse,
        extract::FromRequest,
        route::{MethodRouter, Router, get, post},
    },
};
use volo_thrift::ServerError;

use crate::{
    answer::{self, Format},
    error::ApiError,
    params::{Params, Route},
};

const PING: &str = "/ping";
const SEND: &str = "/api/send";
const PULL: &str = "/api/pull";

/// The routes over a service: in this process or behind an RPC client.
pub fn router<S>(service: S) -> Router<Bytes, Infallible>
where
    S: ImService + Clone + Send + Sync + 'static,
{
    let (for_send, for_pull) = (service.clone(), service);
    let send = move |call: Call| send(for_send.clone(), call);
    let pull = move |call: Call| pull(for_pull.clone(), call);
    Router::new()
        .route(PING, with_method_answers(get(ping).head(ping), "GET, HEAD, OPTIONS"))
        .route(SEND, with_method_answers(post(send), "POST, OPTIONS"))
        .route(PULL, with_method_answers(get(pull.clone()).head(pull), "GET, HEAD, OPTIONS"))
        .fallback(not_found)
}

async fn ping() -> Result<Response, ApiError> {
    answer::json(&json!({"message": "pong"})).map_err(internal)
}

async fn send<S: ImService>(service: S, call: Call) -> Result<Response, ApiError> {
    let params = call.params(Route::Send).await?;
    let message = Message {
        chat: Some(params.chat()),
        text: Some(params.text.unwrap_or_default()),
        sender: Some(params.sender.unwrap_or_default()),
        send_time: Some(0),
    };
    let answer = service.send(SendRequest { message }).await.map_err(exception)?;
    match answer.code {
        0 => Ok(answer::sent(call.format)),
        code => Err(ApiError::from_code(code, &answer.msg)),
    }
}

async fn pull<S: ImService>(service: S, call: Call) -> Result<Response, ApiError> {
    let params = call.params(Route::Pull).await?;
    let request = PullRequest {
        chat: params.chat(),
        cursor: params.cursor.unwrap_or_default(),
        limit: params.limit.unwrap_or_default(),
        reverse: Some(params.reverse.unwrap_or_default()),
    };
    let answer = service.pull(request).await.map_err(exception)?;
    match answer.code {
        0 => answer::page(call.format, answer).map_err(internal),
        code => Err(ApiError::from_code(code, &answer.msg)),
    }
}

/// A request as the handlers take it.
struct Call {
    parts: Parts,
    body: Bytes,
    format: Format,
}

impl Call {
    async fn params(&self, route: Route) -> Result<Params, ApiError> {
        Params::read(route, &self.parts.uri, &self.parts.headers, self.body.clone()).await
    }
}

impl FromRequest<Bytes> for Call {
    type Rejection = Infallible;

    async fn from_request(_: &mut ServerContext, parts: Parts, body: Bytes) -> Result<Self, Infallible> {
        Ok(Self { format: Format::accepted(&parts.headers), parts, body })
    }
}

/// The RPC server raised an exception: our own does not for anything that a caller may send.
fn exception(e: ServerError) -> ApiError {
    let sentence = match &e {
        ServerError::Application(e) => e.message().to_string(),
        ServerError::Biz(_) => e.to_string(),
    };
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, sentence)
}

fn internal(e: impl std::fmt::Display) -> ApiError {
    tracing::error!(error = %e, "an answer could not be encoded");
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
}

/// Adds what every path answers: OPTIONS, and 405 with Allow for the methods that it does not have.
fn with_method_answers(
    router: MethodRouter<Bytes, Infallible>,
    allow: &'static str,
) -> MethodRouter<Bytes, Infallible> {
    let options = move || async move {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        response
    };
    router.options(options).fallback(move || async move { ApiError::method_not_allowed(allow) })
}

/// A path with a slash too many is sent to the one without, as the Go reference does.
async fn not_found(uri: Uri, method: Method) -> Response {
    let known = uri.path().strip_suffix('/').filter(|path| [PING, SEND, PULL].contains(path));
    let Some(path) = known else {
        return ApiError::new(StatusCode::NOT_FOUND, "404 page not found").into_response();
    };
    let location = uri.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let mut response = Response::new(Body::empty());
    *response.status_mut() =
        if method == Method::GET { StatusCode::MOVED_PERMANENTLY } else { StatusCode::TEMPORARY_REDIRECT };
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(http::header::LOCATION, location);
    }
    response
}
