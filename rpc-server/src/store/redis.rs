//! Messages in Redis: a stream per room, an entry per message.
//!
//! The entry's ID is `<send_time in us>-0`, and Redis refuses an ID that is not above the room's last one: so
//! nothing can ever appear behind a reader's cursor, whichever replica of this service wrote it. A replica proposes
//! the time from a [`clock`] that follows Redis's own; the common case is one plain XADD on a connection that all
//! calls share. Only a time that is refused twice takes a script, which appends just after the last message.

mod clock;
mod connection;

use std::{
    sync::{Arc, LazyLock, Weak},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use pilota::FastStr;
use redis::{Client, ConnectionInfo, ErrorKind, RedisError, Script, Value, aio::ConnectionLike, cmd};
use tokio::time::{sleep, timeout};
use tracing::warn;

use self::{clock::Clock, connection::Connection};
use super::{Store, StoreError, cause};
use crate::{
    chat::Room,
    message::{Draft, Message, SendTime},
    page::{Direction, Page, PageBuilder, PageQuery},
};

/// How often Redis's clock is read. A quartz clock drifts some 50 us in this time.
const CLOCK_INTERVAL: Duration = Duration::from_secs(1);

/// A connection on which Redis's clock cannot be read in this time is given up: it may be a half-open one, on which
/// calls would time out long after Redis is back.
const CLOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a time is proposed before the script chooses one. A time is refused when two calls overtake each other
/// or two replicas' clocks differ by microseconds; a moment later the next proposal lies ahead.
const PROPOSALS: usize = 2;

/// The pauses before a message is tried again whose connection broke: a broken connection heals at once, a
/// Redis that is restarted takes longer than a caller waits.
const RETRY_PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_millis(30), Duration::from_millis(100)];

/// Entries that are asked for first, and at most, at once: each time twice as many. So a page of the largest texts
/// makes Redis send little more than the page's bytes.
const READ_CHUNKS: (usize, usize) = (16, 256);

static APPEND_AFTER_LAST: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis/append_after_last.lua")));
static APPEND_ONCE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis/append_once.lua")));

/// The store that several replicas share. `C` is the kind of Redis: one server now, Sentinel or Cluster as well
/// take the same commands, each on the keys of one room.
pub struct RedisStore<C = Connection> {
    writes: C,
    /// Apart from the writes, so that a large page does not hold up small sends.
    reads: C,
    clock: Arc<Clock>,
}

impl RedisStore {
    /// A store on one Redis server. Connects in the background, and again whenever the connection is lost.
    ///
    /// # Errors
    /// The connection information is of no use, as TLS without any root certificate.
    pub fn connect(info: ConnectionInfo) -> Result<Self, RedisError> {
        let client = Client::open(info)?;
        let (writes, reads) = (Connection::open(client.clone()), Connection::open(client));
        let clock = Arc::new(Clock::new());
        for connection in [&writes, &reads] {
            tokio::spawn(follow_redis_clock(Arc::downgrade(&clock), connection.clone()));
        }
        Ok(Self { writes, reads, clock })
    }
}

#[async_trait]
impl<C> Store for RedisStore<C>
where
    C: ConnectionLike + Clone + Send + Sync + 'static,
{
    async fn append(&self, room: &Room, draft: Draft) -> Result<SendTime, StoreError> {
        let key = room_key(room);
        for _ in 0..PROPOSALS {
            let time = self.propose().await?;
            match self.add(&key, time, &draft).await {
                Ok(()) => return Ok(time),
                Err(e) if is_refused_time(&e) => {}
                Err(e) if may_have_arrived(&e) => {
                    if self.add_once(&key, time, &draft, e).await? {
                        return Ok(time);
                    }
                }
                Err(e) => return Err(not_stored(e)),
            }
        }
        self.add_after_last(&key, &draft).await
    }

    async fn page(&self, room: &Room, query: PageQuery) -> Result<Page, StoreError> {
        let key = room_key(room);
        let mut page = PageBuilder::new(query);
        let mut start = match (query.from, query.direction) {
            (Some(time), _) => time.as_micros().to_string(),
            (None, Direction::Forward) => "-".to_owned(),
            (None, Direction::Reverse) => "+".to_owned(),
        };
        let mut chunk = READ_CHUNKS.0;
        while page.wanted() > 0 {
            let count = page.wanted().min(chunk);
            chunk = (chunk * 2).min(READ_CHUNKS.1);
            let entries = match self.read(&key, &start, query.direction, count).await {
                Err(e) if may_have_arrived(&e) => self.read(&key, &start, query.direction, count).await,
                result => result,
            };
            let entries = entries.map_err(not_stored)?;
            for (id, fields) in &entries {
                match message_of(id, fields) {
                    Some(message) if page.wanted() > 0 => page.push(message),
                    Some(_) => {} // the page ended by its bytes
                    None => warn!(?key, id, "passed over an entry that is no message of this service"),
                }
            }
            match entries.last() {
                Some((id, _)) if entries.len() == count => start = format!("({id}"),
                _ => break,
            }
        }
        Ok(page.finish())
    }

    async fn ready(&self) -> Result<(), StoreError> {
        cmd("PING").query_async::<()>(&mut self.writes.clone()).await.map_err(not_stored)
    }
}

impl<C> RedisStore<C>
where
    C: ConnectionLike + Clone + Send + Sync + 'static,
{
    /// A time for a message. Only the first call of a process may have to ask Redis for its clock.
    async fn propose(&self) -> Result<SendTime, StoreError> {
        if let Some(time) = self.clock.propose() {
            return Ok(time);
        }
        read_clock(&self.clock, &mut self.writes.clone()).await.map_err(not_stored)?;
        self.clock.propose().ok_or_else(|| StoreError::Unavailable(cause("Redis's clock stands before 1970")))
    }

    /// The common case: one command.
    async fn add(&self, key: &str, time: SendTime, draft: &Draft) -> Result<(), RedisError> {
        let mut add = cmd("XADD");
        add.arg(key).arg(entry_id(time)).arg("s").arg(&*draft.sender).arg("t").arg(&*draft.text);
        add.exec_async(&mut self.writes.clone()).await
    }

    /// The connection broke after the command left: the same time is tried again through a script that first looks
    /// whether the message stands there. Returns whether it does; if not, it never will.
    async fn add_once(&self, key: &str, time: SendTime, draft: &Draft, first: RedisError) -> Result<bool, StoreError> {
        let mut last = first;
        for pause in RETRY_PAUSES {
            sleep(pause).await;
            let mut call = APPEND_ONCE.key(key);
            call.arg(time.as_micros()).arg(&*draft.sender).arg(&*draft.text);
            match call.invoke_async::<bool>(&mut self.writes.clone()).await {
                Ok(there) => return Ok(there),
                Err(e) => last = e,
            }
        }
        Err(outcome_unknown(last))
    }

    /// Redis refused what this replica proposed, so the message is surely not there, and the room's last message
    /// lies ahead of this replica's clock.
    async fn add_after_last(&self, key: &str, draft: &Draft) -> Result<SendTime, StoreError> {
        let mut call = APPEND_AFTER_LAST.key(key);
        call.arg(&*draft.sender).arg(&*draft.text);
        let time = call.invoke_async::<i64>(&mut self.writes.clone()).await;
        // The time that the script chose is lost with its answer, so there is nothing to look up and try again.
        let time = time.map_err(|e| if may_have_arrived(&e) { outcome_unknown(e) } else { not_stored(e) })?;
        SendTime::from_micros(time).ok_or_else(|| StoreError::OutcomeUnknown(cause("a time before 1970")))
    }

    async fn read(
        &self,
        key: &str,
        start: &str,
        direction: Direction,
        count: usize,
    ) -> Result<Vec<(String, Vec<Value>)>, RedisError> {
        let (name, end) = match direction {
            Direction::Forward => ("XRANGE", "+"),
            Direction::Reverse => ("XREVRANGE", "-"),
        };
        cmd(name).arg(key).arg(start).arg(end).arg("COUNT").arg(count).query_async(&mut self.reads.clone()).await
    }
}

/// The room's key: its braces enclose exactly the room's name, so that all keys of a room are in one Cluster slot.
fn room_key(room: &Room) -> String {
    let name = room.as_str();
    let mut key = String::with_capacity(name.len() + 9);
    key.push_str("im:log:{");
    for c in name.chars() {
        match c {
            '{' => key.push_str("%7B"),
            '}' => key.push_str("%7D"),
            '%' => key.push_str("%25"),
            c => key.push(c),
        }
    }
    key.push('}');
    key
}

fn entry_id(time: SendTime) -> String {
    format!("{}-0", time.as_micros())
}

/// The entry `<us>-0` with the fields `s`, sender, `t`, text as a message; `None` for what another program put there.
fn message_of(id: &str, fields: &[Value]) -> Option<Message> {
    let [Value::BulkString(s), Value::BulkString(sender), Value::BulkString(t), Value::BulkString(text)] = fields
    else {
        return None;
    };
    let us = id.strip_suffix("-0")?.parse().ok()?;
    (s == b"s" && t == b"t").then_some(Message {
        send_time: SendTime::from_micros(us)?,
        sender: FastStr::new(str::from_utf8(sender).ok()?),
        text: FastStr::new(str::from_utf8(text).ok()?),
    })
}

/// Reads Redis's clock again and again, as long as the store lives; a connection that does not answer is replaced.
async fn follow_redis_clock(clock: Weak<Clock>, mut connection: Connection) {
    loop {
        let Some(clock) = clock.upgrade() else { return };
        let read = timeout(CLOCK_TIMEOUT, read_clock(&clock, &mut connection)).await;
        drop(clock);
        match read {
            Ok(Ok(())) => sleep(CLOCK_INTERVAL).await,
            Ok(Err(_)) => sleep(CLOCK_INTERVAL / 10).await, // there is no connection, and one is being made
            Err(_) => connection.replace(),
        }
    }
}

async fn read_clock(clock: &Clock, connection: &mut impl ConnectionLike) -> Result<(), RedisError> {
    let asked = Instant::now();
    let (seconds, micros) = cmd("TIME").query_async::<(i64, i64)>(connection).await?;
    clock.adopt(asked, asked.elapsed(), seconds * 1_000_000 + micros);
    Ok(())
}

fn is_refused_time(e: &RedisError) -> bool {
    e.detail().is_some_and(|detail| detail.contains("equal or smaller"))
}

/// Whether a command that failed so may still have been carried out.
fn may_have_arrived(e: &RedisError) -> bool {
    // A refusal is what `Connection` says when there is none.
    e.kind() == ErrorKind::Parse || (e.is_io_error() && !e.is_connection_refusal())
}

fn not_stored(e: RedisError) -> StoreError {
    match e.code() {
        Some("OOM") => StoreError::Full(Arc::new(e)),
        _ => StoreError::Unavailable(Arc::new(e)),
    }
}

fn outcome_unknown(e: RedisError) -> StoreError {
    StoreError::OutcomeUnknown(Arc::new(e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Chat;

    fn key(chat: &str) -> String {
        room_key(&Chat::parse(FastStr::new(chat)).expect("a chat").room())
    }

    #[test]
    fn the_braces_of_a_key_enclose_exactly_the_room() {
        assert_eq!(key("b:a"), "im:log:{a:b}");
        assert_eq!(key("{x}:%7B"), "im:log:{%257b:%7Bx%7D}");
    }
}
