//! What a caller asks for, from wherever it was put: the URL's query, a form, a JSON object or a protobuf message.
//! A later source in this list wins, field by field.
//!
//! The body's form is told by its content type, except that what begins as JSON is JSON: `curl -d` calls everything
//! a form, Postman's "raw" calls it text, some callers say nothing.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use http::{HeaderMap, Uri, header::CONTENT_TYPE};
use mime::Mime;
use percent_encoding::percent_decode;
use pilota::{FastStr, pb::Message as _};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use volo_gen::http as pb;

use crate::error::ApiError;

/// A request's parameters. `None` is absent; no route needs them all.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Params {
    /// "<member1>:<member2>".
    pub chat: Option<FastStr>,
    /// The message.
    pub text: Option<FastStr>,
    /// One of the members.
    pub sender: Option<FastStr>,
    /// The other member, of callers that name no chat.
    pub receiver: Option<FastStr>,
    /// A send_time.
    pub cursor: Option<i64>,
    /// Messages in a page.
    pub limit: Option<i32>,
    /// Newest first.
    pub reverse: Option<bool>,
}

/// Which message of `idl_http.proto` a route's protobuf body is. Fields that it does not have are ignored in every
/// other form too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// `SendRequest`.
    Send,
    /// `PullRequest`.
    Pull,
}

impl Params {
    /// Reads a request's parameters.
    ///
    /// # Errors
    /// 400 when one cannot be read; the sentence says which and why.
    pub async fn read(route: Route, uri: &Uri, headers: &HeaderMap, body: Bytes) -> Result<Self, ApiError> {
        let mut params = Self::default();
        params.read_urlencoded(route, uri.query().unwrap_or_default().as_bytes())?;
        params.read_body(route, headers, body).await?;
        Ok(params)
    }

    /// The chat: as given, or "<sender>:<receiver>" of callers that name a receiver.
    pub fn chat(&self) -> FastStr {
        match (&self.chat, &self.receiver) {
            (None, Some(receiver)) => format!("{}:{receiver}", self.sender.clone().unwrap_or_default()).into(),
            (chat, _) => chat.clone().unwrap_or_default(),
        }
    }

    async fn read_body(&mut self, route: Route, headers: &HeaderMap, body: Bytes) -> Result<(), ApiError> {
        let content_type = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()?.parse::<Mime>().ok());
        let essence = content_type.as_ref().map(Mime::essence_str).unwrap_or_default();
        if is_protobuf(essence) {
            return self.read_protobuf(route, body);
        }
        let begins = body.trim_ascii_start().first();
        match (essence, begins) {
            (_, None) => Ok(()),
            ("multipart/form-data", _) => self.read_multipart(route, content_type, body).await,
            ("application/x-www-form-urlencoded", Some(byte)) if !matches!(byte, b'{' | b'[') => {
                self.read_urlencoded(route, body.trim_ascii())
            }
            _ => self.read_json(route, &body),
        }
    }

    fn read_json(&mut self, route: Route, body: &[u8]) -> Result<(), ApiError> {
        let mut json = serde_json::Deserializer::from_slice(body);
        JsonObject { params: self, route }
            .deserialize(&mut json)
            .and_then(|()| json.end())
            .map_err(ApiError::unreadable)
    }

    fn read_urlencoded(&mut self, route: Route, encoded: &[u8]) -> Result<(), ApiError> {
        for pair in encoded.split(|b| *b == b'&').filter(|pair| !pair.is_empty()) {
            let (name, value) = match pair.iter().position(|b| *b == b'=') {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &b""[..]),
            };
            let Ok(name) = decode(name) else { continue }; // no name of ours
            if let Some(field) = Field::named(&name).filter(|f| f.is_of(route)) {
                let value = decode(value).map_err(|_| ApiError::unreadable(format!("{name} is not UTF-8")))?;
                self.set_from_text(field, value.into_owned())?;
            }
        }
        Ok(())
    }

    async fn read_multipart(&mut self, route: Route, content_type: Option<Mime>, body: Bytes) -> Result<(), ApiError> {
        let boundary = content_type.as_ref().and_then(|t| t.get_param(mime::BOUNDARY));
        let boundary = boundary.ok_or_else(|| ApiError::unreadable("multipart/form-data without a boundary"))?;
        let body = futures::stream::iter([Ok::<_, std::convert::Infallible>(body)]);
        let mut parts = multer::Multipart::new(body, boundary.as_str());
        while let Some(part) = parts.next_field().await.map_err(ApiError::unreadable)? {
            let Some(field) = part.name().and_then(Field::named).filter(|f| f.is_of(route)) else { continue };
            let value = part.bytes().await.map_err(ApiError::unreadable)?;
            let value = String::from_utf8(value.into())
                .map_err(|_| ApiError::unreadable(format!("{} is not UTF-8", field.name())))?;
            self.set_from_text(field, value)?;
        }
        Ok(())
    }

    /// A field's default value is what protobuf sends for an absent one.
    fn read_protobuf(&mut self, route: Route, body: Bytes) -> Result<(), ApiError> {
        let texts = match route {
            Route::Send => {
                let m = pb::SendRequest::decode(body).map_err(ApiError::unreadable)?;
                [(Field::Chat, m.chat), (Field::Text, m.text), (Field::Sender, m.sender)].to_vec()
            }
            Route::Pull => {
                let m = pb::PullRequest::decode(body).map_err(ApiError::unreadable)?;
                self.cursor = Some(m.cursor).filter(|n| *n != 0).or(self.cursor);
                self.limit = Some(m.limit).filter(|n| *n != 0).or(self.limit);
                self.reverse = Some(m.reverse).filter(|b| *b).or(self.reverse);
                vec![(Field::Chat, m.chat)]
            }
        };
        for (field, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            // The decoder does not check that strings are text.
            str::from_utf8(text.as_bytes())
                .map_err(|_| ApiError::unreadable(format!("{} is not UTF-8", field.name())))?;
            *self.text_field(field) = Some(text);
        }
        Ok(())
    }

    fn text_field(&mut self, field: Field) -> &mut Option<FastStr> {
        match field {
            Field::Text => &mut self.text,
            Field::Sender => &mut self.sender,
            Field::Receiver => &mut self.receiver,
            _ => &mut self.chat,
        }
    }

    /// Numbers and booleans that are empty in a URL or form are absent.
    fn set_from_text(&mut self, field: Field, value: String) -> Result<(), ApiError> {
        fn number<T: std::str::FromStr<Err: fmt::Display>>(name: &str, value: &str) -> Result<Option<T>, ApiError> {
            let parsed = Some(value).filter(|v| !v.is_empty()).map(str::parse).transpose();
            parsed.map_err(|e| ApiError::unreadable(format!("{name}: {value:?}: {e}")))
        }
        match field {
            Field::Cursor => self.cursor = number(field.name(), &value)?.or(self.cursor),
            Field::Limit => self.limit = number(field.name(), &value)?.or(self.limit),
            Field::Reverse => {
                self.reverse = match value.to_ascii_lowercase().as_str() {
                    "" => self.reverse,
                    "1" | "t" | "true" => Some(true),
                    "0" | "f" | "false" => Some(false),
                    _ => return Err(ApiError::unreadable(format!("reverse: {value:?}: true or false is expected"))),
                }
            }
            _ => *self.text_field(field) = Some(value.into()),
        }
        Ok(())
    }
}

/// Whether a media type means protobuf.
pub fn is_protobuf(essence: &str) -> bool {
    PROTOBUF.contains(&essence)
}

/// The media types of protobuf, the first of them this API's own.
pub const PROTOBUF: [&str; 2] = ["application/x-protobuf", "application/protobuf"];

/// Decodes one name or value of a URL's query or a form, strictly: what is no text is refused, not replaced.
fn decode(encoded: &[u8]) -> Result<Cow<'static, str>, std::str::Utf8Error> {
    let spaced: Vec<u8> = encoded.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect();
    let decoded = percent_decode(&spaced).decode_utf8()?;
    Ok(Cow::Owned(decoded.into_owned()))
}

/// A parameter's name, in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Chat,
    Text,
    Sender,
    Receiver,
    Cursor,
    Limit,
    Reverse,
}

impl Field {
    const ALL: [Self; 7] =
        [Self::Chat, Self::Text, Self::Sender, Self::Receiver, Self::Cursor, Self::Limit, Self::Reverse];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.name().eq_ignore_ascii_case(name))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Text => "text",
            Self::Sender => "sender",
            Self::Receiver => "receiver",
            Self::Cursor => "cursor",
            Self::Limit => "limit",
            Self::Reverse => "reverse",
        }
    }

    fn is_of(self, route: Route) -> bool {
        match self {
            Self::Chat | Self::Sender | Self::Receiver => true,
            Self::Text => route == Route::Send,
            Self::Cursor | Self::Limit | Self::Reverse => route == Route::Pull,
        }
    }
}

/// Reads a JSON object into the parameters: `null` is absent, unknown keys are skipped, the last of equal keys wins.
struct JsonObject<'p> {
    params: &'p mut Params,
    route: Route,
}

impl<'de> DeserializeSeed<'de> for JsonObject<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for JsonObject<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    /// A bare `null`.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { params, route } = self;
        while let Some(name) = map.next_key::<String>()? {
            match Field::named(&name).filter(|field| field.is_of(route)) {
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
                Some(Field::Cursor) => params.cursor = map.next_value::<Option<_>>()?.or(params.cursor),
                Some(Field::Limit) => params.limit = map.next_value::<Option<_>>()?.or(params.limit),
                Some(Field::Reverse) => params.reverse = map.next_value::<Option<_>>()?.or(params.reverse),
                Some(field) => {
                    if let Some(text) = map.next_value::<Option<String>>()? {
                        *params.text_field(field) = Some(text.into());
                    }
                }
            }
        }
        Ok(())
    }
}
