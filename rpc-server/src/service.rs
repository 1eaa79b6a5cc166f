//! What Send and Pull do (contract, section 2): read the request into the domain's types, ask the store, answer.
//! A caller's error is an answer with a code, never an exception.

use std::{sync::Arc, time::Duration};

use pilota::FastStr;
use tokio::time::timeout;
use tracing::{debug, warn};
use volo_gen::rpc;
use volo_thrift::ServerError;

use crate::{
    chat::{Chat, ChatError},
    message::{Draft, Message, SendTime},
    page::{Direction, Page, PageQuery},
    store::{Store, StoreError},
};

/// The messages in a page whose Limit is 0.
const LIMIT_DEFAULT: usize = 10;

/// What is accepted and how long it may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest text, in bytes.
    pub text_bytes_max: usize,
    /// The most messages in a page; a greater Limit is capped to it.
    pub page_messages_max: usize,
    /// The most bytes in a page of more than one message.
    pub page_bytes_max: usize,
    /// How long the store may take for a call.
    pub store_timeout: Duration,
}

/// The service. Clones share the store.
#[derive(Clone)]
pub struct Service {
    store: Arc<dyn Store>,
    limits: Limits,
}

impl Service {
    /// A service over `store`.
    pub fn new(store: Arc<dyn Store>, limits: Limits) -> Self {
        Self { store, limits }
    }

    async fn try_send(&self, req: rpc::SendRequest) -> Result<SendTime, Refusal> {
        let (chat, draft) = self.draft(req.message)?;
        self.in_time(self.store.append(&chat.room(), draft)).await
    }

    async fn try_pull(&self, req: rpc::PullRequest) -> Result<(Chat, Page), Refusal> {
        let chat = Chat::parse(utf8("chat", req.chat)?)?;
        let query = PageQuery {
            from: match SendTime::from_micros(req.cursor).ok_or(Refusal::NegativeCursor(req.cursor))? {
                time if time.as_micros() == 0 => None,
                time => Some(time),
            },
            direction: if req.reverse == Some(true) { Direction::Reverse } else { Direction::Forward },
            messages_max: match usize::try_from(req.limit).map_err(|_| Refusal::NegativeLimit(req.limit))? {
                0 => LIMIT_DEFAULT.min(self.limits.page_messages_max),
                limit => limit.min(self.limits.page_messages_max),
            },
            bytes_max: self.limits.page_bytes_max,
            chat_bytes: chat.spelled().len(),
        };
        let page = self.in_time(self.store.page(&chat.room(), query)).await?;
        Ok((chat, page))
    }

    /// The request's message as a draft for the store. Its SendTime is the server's to give, and ignored.
    fn draft(&self, message: rpc::Message) -> Result<(Chat, Draft), Refusal> {
        let chat = Chat::parse(utf8("chat", message.chat.unwrap_or_default())?)?;
        let text = utf8("text", message.text.unwrap_or_default())?;
        let sender = utf8("sender", message.sender.unwrap_or_default())?;
        if text.is_empty() {
            return Err(Refusal::EmptyText);
        }
        if text.len() > self.limits.text_bytes_max {
            return Err(Refusal::TextTooLong { bytes: text.len(), max: self.limits.text_bytes_max });
        }
        if !chat.has_member(&sender) {
            return Err(Refusal::NotAMember);
        }
        Ok((chat, Draft { sender, text }))
    }

    async fn in_time<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, Refusal> {
        let result = timeout(self.limits.store_timeout, call).await.unwrap_or(Err(StoreError::TimedOut));
        Ok(result.inspect_err(|e| {
            let cause = std::error::Error::source(e).map(tracing::field::display);
            match e {
                // The store has said that it is away; not every call has to.
                StoreError::Unavailable(_) => debug!(error = %e, cause, "a call failed"),
                _ => warn!(error = %e, cause, "a call failed"),
            }
        })?)
    }
}

impl rpc::ImService for Service {
    async fn send(&self, req: rpc::SendRequest) -> Result<rpc::SendResponse, ServerError> {
        Ok(match self.try_send(req).await {
            Ok(_) => rpc::SendResponse { code: 0, msg: SUCCESS },
            Err(refusal) => rpc::SendResponse { code: refusal.code(), msg: refusal.to_string().into() },
        })
    }

    async fn pull(&self, req: rpc::PullRequest) -> Result<rpc::PullResponse, ServerError> {
        Ok(match self.try_pull(req).await {
            Ok((chat, page)) => rpc::PullResponse {
                code: 0,
                msg: SUCCESS,
                has_more: Some(page.next.is_some()),
                next_cursor: Some(page.next.map_or(0, SendTime::as_micros)),
                messages: Some(page.messages.into_iter().map(|m| message_in(&chat, m)).collect()),
            },
            Err(refusal) => rpc::PullResponse {
                code: refusal.code(),
                msg: refusal.to_string().into(),
                messages: None,
                has_more: Some(false),
                next_cursor: Some(0),
            },
        })
    }
}

const SUCCESS: FastStr = FastStr::from_static_str("success");

/// A stored message as a reply has it: the chat spelled as the request's, every field set.
fn message_in(chat: &Chat, message: Message) -> rpc::Message {
    rpc::Message {
        chat: Some(chat.spelled().clone()),
        text: Some(message.text),
        sender: Some(message.sender),
        send_time: Some(message.send_time.as_micros()),
    }
}

/// Strings off the wire are not yet known to be text: the decoder does not check.
fn utf8(field: &'static str, value: FastStr) -> Result<FastStr, Refusal> {
    match str::from_utf8(value.as_bytes()) {
        Ok(_) => Ok(value),
        Err(_) => Err(Refusal::NotUtf8(field)),
    }
}

/// Why a call is refused. The display is the answer's Msg.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Chat(#[from] ChatError),
    #[error("{0} is not UTF-8")]
    NotUtf8(&'static str),
    #[error("sender must be one of the chat's two members")]
    NotAMember,
    #[error("text must not be empty")]
    EmptyText,
    #[error("text is {bytes} bytes long, at most {max} are allowed")]
    TextTooLong { bytes: usize, max: usize },
    #[error("cursor is {0}, it must be 0 or a send_time in microseconds")]
    NegativeCursor(i64),
    #[error("limit is {0}, it must be 0 (for {LIMIT_DEFAULT}) or more")]
    NegativeLimit(i32),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Refusal {
    /// The answer's Code (contract, section 2).
    fn code(&self) -> i32 {
        match self {
            Self::TextTooLong { .. } => 413,
            Self::Store(StoreError::TimedOut) => 504,
            Self::Store(_) => 503,
            _ => 400,
        }
    }
}
