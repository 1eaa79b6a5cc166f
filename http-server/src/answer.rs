//! What a caller gets: the messages of `idl_http.proto`, as JSON or protobuf. As in the Go reference, fields that
//! are empty, 0 or false are left out of the JSON.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use pilota::{FastStr, LinkedBytes, pb::Message as _};
use serde::Serialize;
use volo_gen::{http as pb, rpc};
use volo_http::{body::Body, response::Response};

use crate::{layers::accepts, params::PROTOBUF};

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Unless protobuf is asked for.
    Json,
    /// When `Accept` names it.
    Protobuf,
}

impl Format {
    /// The form that a request's headers ask for.
    pub fn accepted(headers: &HeaderMap) -> Self {
        if accepts(headers, &PROTOBUF) { Self::Protobuf } else { Self::Json }
    }
}

/// The answer to a Send that was stored: nothing, which is also the protobuf form of `SendResponse`.
pub fn sent(format: Format) -> Response {
    let mut response = Response::new(Body::empty());
    if format == Format::Protobuf {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROTOBUF[0]));
    }
    response
}

/// The answer to a Pull.
///
/// # Errors
/// The messages cannot be encoded, which takes a bug.
pub fn page(format: Format, page: rpc::PullResponse) -> Result<Response, Box<dyn std::error::Error>> {
    match format {
        Format::Json => Ok(json(&PageJson::from(page))?),
        Format::Protobuf => {
            let mut bytes = LinkedBytes::new();
            protobuf(page).encode(&mut bytes)?;
            Ok(respond(PROTOBUF[0], bytes.concat().freeze()))
        }
    }
}

/// A JSON answer.
///
/// # Errors
/// The value has no JSON form.
pub fn json(value: &impl Serialize) -> serde_json::Result<Response> {
    Ok(respond("application/json; charset=utf-8", serde_json::to_vec(value)?.into()))
}

fn respond(content_type: &'static str, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[derive(Serialize)]
struct PageJson {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    messages: Vec<MessageJson>,
    #[serde(skip_serializing_if = "is_default")]
    has_more: bool,
    #[serde(skip_serializing_if = "is_default")]
    next_cursor: i64,
}

#[derive(Serialize)]
struct MessageJson {
    #[serde(skip_serializing_if = "FastStr::is_empty")]
    chat: FastStr,
    #[serde(skip_serializing_if = "FastStr::is_empty")]
    text: FastStr,
    #[serde(skip_serializing_if = "FastStr::is_empty")]
    sender: FastStr,
    #[serde(skip_serializing_if = "is_default")]
    send_time: i64,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl From<rpc::PullResponse> for PageJson {
    fn from(page: rpc::PullResponse) -> Self {
        Self {
            messages: page.messages.unwrap_or_default().into_iter().map(MessageJson::from).collect(),
            has_more: page.has_more.unwrap_or_default(),
            next_cursor: page.next_cursor.unwrap_or_default(),
        }
    }
}

impl From<rpc::Message> for MessageJson {
    fn from(m: rpc::Message) -> Self {
        Self {
            chat: m.chat.unwrap_or_default(),
            text: m.text.unwrap_or_default(),
            sender: m.sender.unwrap_or_default(),
            send_time: m.send_time.unwrap_or_default(),
        }
    }
}

fn protobuf(page: rpc::PullResponse) -> pb::PullResponse {
    pb::PullResponse {
        messages: page
            .messages
            .unwrap_or_default()
            .into_iter()
            .map(|m| pb::Message {
                chat: m.chat.unwrap_or_default(),
                text: m.text.unwrap_or_default(),
                sender: m.sender.unwrap_or_default(),
                send_time: m.send_time.unwrap_or_default(),
            })
            .collect(),
        has_more: page.has_more.unwrap_or_default(),
        next_cursor: page.next_cursor.unwrap_or_default(),
    }
}
