//! What a caller is told when a request fails: a status and a sentence, as text or as RFC 9457 problem details.

use http::{
    HeaderValue, StatusCode,
    header::{ALLOW, CONTENT_TYPE, RETRY_AFTER},
};
use volo_http::{body::Body, response::Response, server::IntoResponse};

/// When to try again after a 503 or 504, in seconds: a store that restarts is back in about this time.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// The longest sentence about a request that cannot be read, in characters.
const SENTENCE_CHARS_MAX: usize = 300;

/// A failed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    sentence: String,
    allow: Option<&'static str>,
}

impl ApiError {
    /// An error of this status, told by this sentence.
    pub fn new(status: StatusCode, sentence: impl Into<String>) -> Self {
        Self { status, sentence: sentence.into(), allow: None }
    }

    /// The request's parameters cannot be read. The text begins as the Go reference's does.
    pub fn unreadable(why: impl std::fmt::Display) -> Self {
        let mut sentence = format!("Failed to parse request body: {why}");
        // It may repeat what was sent, which may be megabytes.
        if let Some((end, _)) = sentence.char_indices().nth(SENTENCE_CHARS_MAX) {
            sentence.truncate(end);
            sentence.push('…');
        }
        Self::new(StatusCode::BAD_REQUEST, sentence)
    }

    /// The path is there, but not for this method.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        let sentence = format!("405 method not allowed, use {allow}");
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, sentence) }
    }

    /// A Code other than 0 in the service's answer: 4xx, 503 and 504 are HTTP's own, any other is the service's
    /// failure.
    pub fn from_code(code: i32, msg: &str) -> Self {
        let status = match code {
            400..=499 | 503 | 504 => u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok()),
            _ => None,
        };
        Self::new(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), msg)
    }

    /// The error as RFC 9457 describes.
    pub fn into_problem(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or_default();
        let problem = serde_json::json!({
            "type": "about:blank", "title": title, "status": self.status.as_u16(), "detail": self.sentence,
        });
        self.respond("application/problem+json", problem.to_string())
    }

    fn respond(&self, content_type: &'static str, body: String) -> Response {
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT) {
            headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        response
    }
}

impl IntoResponse for ApiError {
    /// As text; the error goes along in the response's extensions, for the layer that knows what the caller accepts.
    fn into_response(self) -> Response {
        let mut response = self.respond("text/plain; charset=utf-8", self.sentence.clone());
        response.extensions_mut().insert(self);
        response
    }
}
