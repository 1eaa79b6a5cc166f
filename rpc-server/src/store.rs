//! Where messages are: the [`Store`] trait, whose documentation is the promise that the backends are tested
//! against by one suite (`tests/store.rs`), and its two backends.

mod embedded;
mod redis;
mod url;

use std::{io, sync::Arc};

use ::redis::ConnectionInfo;
use async_trait::async_trait;

pub use self::{
    embedded::EmbeddedStore,
    redis::RedisStore,
    url::{StoreUrl, StoreUrlError},
};
use crate::{
    chat::Room,
    message::{Draft, SendTime},
    page::{Page, PageQuery},
};

/// An append-only log for each room.
///
/// - A message whose [`append`](Self::append) returned is stored once, durably as the backend is configured, and in
///   every later page that covers its place.
/// - Places are handed out in order: a message appended after another one's append returned has the greater time,
///   and no message ever appears at a place before one that any reader has seen. So a reader that goes on from
///   `last + 1` sees each message exactly once, in one order.
/// - Rooms are independent and need no creation; a room never used is empty.
/// - Dropping a call's future leaves its outcome open, nothing else.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Stores a message at the end of the room and returns its place there.
    async fn append(&self, room: &Room, draft: Draft) -> Result<SendTime, StoreError>;

    /// Reads a page, as [`PageQuery`] describes it.
    async fn page(&self, room: &Room, query: PageQuery) -> Result<Page, StoreError>;

    /// Whether the store can take a message now.
    async fn ready(&self) -> Result<(), StoreError>;
}

/// Why a store did not do what it was asked. The display is for the caller; the source is for the log.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached or refuses to work; nothing was stored.
    #[error("the message store is unavailable: try again")]
    Unavailable(#[source] Cause),
    /// It takes no more messages until somebody makes room; nothing was stored.
    #[error("the message store is full")]
    Full(#[source] Cause),
    /// It failed while a message was on its way.
    #[error("the message store failed: the message may or may not have been stored")]
    OutcomeUnknown(#[source] Cause),
    /// It did not answer in time. A message that was on its way may or may not have been stored.
    #[error("the message store did not answer in time")]
    TimedOut,
}

/// What a backend said, for the log.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// A cause that is a sentence.
fn cause(what: impl Into<String>) -> Cause {
    Arc::new(io::Error::other(what.into()))
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Two processes would overwrite each other's messages.
    #[error("--store embedded:{0}: another process has this store open; stop it or give another path")]
    InUse(String),
    /// The directory cannot be made, read or understood.
    #[error("--store embedded:{0}: cannot be opened: {1}; give the path of a directory that can be written")]
    Directory(String, fjall::Error),
    /// The connection's settings are of no use, as TLS without any root certificate.
    #[error("--store {0}: {1}")]
    Redis(String, ::redis::RedisError),
}

/// Opens the store that a URL names.
///
/// # Errors
/// See [`OpenError`]. A Redis that is away is no error: calls
/// fail with [`StoreError::Unavailable`] until it is there.
pub async fn open(url: &StoreUrl) -> Result<Arc<dyn Store>, OpenError> {
    Ok(match url {
        StoreUrl::Embedded(path) => Arc::new(EmbeddedStore::open(path.clone()).await?),
        StoreUrl::Redis(info) => {
            let store = RedisStore::connect(ConnectionInfo::clone(info));
            Arc::new(store.map_err(|e| OpenError::Redis(url.to_string(), e))?)
        }
    })
}
