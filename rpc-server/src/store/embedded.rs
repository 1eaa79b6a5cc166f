//! Messages in a directory of this process: an LSM tree (fjall) with one committer.
//!
//! Keys are `<room> 0xFF <send_time, 8 bytes big-endian>`: 0xFF stands in no UTF-8 name, so a room's messages lie
//! together, in their order, and a page is one range scan. Values are the sender's length (2 bytes, big-endian),
//! the sender, the text.
//!
//! One thread commits. It takes all the messages that wait, gives them their times, writes them as one batch, syncs
//! it to the disk, and only then shows them to readers and tells the senders: so groups form by themselves
//! under load, an acknowledged message survives power loss, and nobody reads what could still vanish.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use pilota::FastStr;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::{error, info};

use super::{Cause, OpenError, Store, StoreError, cause};
use crate::{
    chat::Room,
    message::{Draft, Message, SendTime},
    page::{Direction, Page, PageBuilder, PageQuery},
};

/// Messages in one commit. A group this large already hides the cost of its sync; larger ones only add latency.
const GROUP_MAX: usize = 1_024;

/// Messages that may wait for a commit. Beyond it a send fails at once: some 0.2 s of work wait already.
const QUEUE_MAX: usize = 16 * GROUP_MAX;

/// What the journal may hold that is not in a sorted table yet, in bytes. Bounds the time to open after a crash
/// (fjall's own default, 64 MiB, took 850 ms to replay).
const MEMTABLE_BYTES: u64 = 16 << 20;

/// Pages that are read at once; more wait, and leave when their time is up. Below the runtime's blocking threads.
const PAGES_MAX: usize = 256;

/// The pause between attempts to open the store again after a failed commit.
const REOPEN_PAUSE: Duration = Duration::from_millis(200);

/// The key of the greatest time ever given: no room's, for a room's begins with a character. It moves in the same
/// batch as the messages.
const LAST_TIME: [u8; 1] = [0xFF];

/// The store of one process.
#[derive(Debug)]
pub struct EmbeddedStore {
    queue: mpsc::Sender<Waiting>,
    log: Arc<SharedLog>,
    pages: Arc<Semaphore>,
}

/// A message on its way to the disk, and who waits for it.
#[derive(Debug)]
struct Waiting {
    room: Room,
    draft: Draft,
    done: oneshot::Sender<Result<SendTime, StoreError>>,
}

impl EmbeddedStore {
    /// Opens the store in the directory `path`, which is made when it is not there, and starts its committer.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(path: PathBuf) -> Result<Self, OpenError> {
        let (at, shown) = (path.clone(), path.display().to_string());
        let opened = tokio::task::spawn_blocking(move || Log::open(&at)).await;
        let (log, last) = opened.map_err(|e| std::io::Error::other(e).into()).flatten().map_err(|e| match e {
            fjall::Error::Locked => OpenError::InUse(shown.clone()),
            e => OpenError::Directory(shown.clone(), e),
        })?;
        let log = Arc::new(SharedLog { open: RwLock::new(Some(log)), visible: AtomicI64::new(last) });
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let committer = Committer { path, log: log.clone(), waiting, last };
        thread::Builder::new()
            .name("committer".into())
            .spawn(move || {
                if catch_unwind(AssertUnwindSafe(|| committer.run())).is_err() {
                    error!("the committer panicked: the process ends, to be started again");
                    process::exit(1);
                }
            })
            .map_err(|e| OpenError::Directory(shown, e.into()))?;
        Ok(Self { queue, log, pages: Arc::new(Semaphore::new(PAGES_MAX)) })
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn append(&self, room: &Room, draft: Draft) -> Result<SendTime, StoreError> {
        let (done, outcome) = oneshot::channel();
        let waiting = Waiting { room: room.clone(), draft, done };
        self.queue
            .try_send(waiting)
            .map_err(|e| StoreError::Unavailable(cause(format!("the committer's queue: {e}"))))?;
        outcome.await.unwrap_or_else(|_| Err(StoreError::OutcomeUnknown(cause("the committer ended"))))
    }

    async fn page(&self, room: &Room, query: PageQuery) -> Result<Page, StoreError> {
        let turn = self.pages.clone().acquire_owned().await.map_err(|e| StoreError::Unavailable(Arc::new(e)))?;
        let (log, room) = (self.log.clone(), room.clone());
        // A page may have to wait for the disk, and the runtime's threads must not.
        let read = move || {
            let _turn = turn; // also of a page that nobody waits for any more
            log.page(&room, query)
        };
        tokio::task::spawn_blocking(read).await.unwrap_or_else(|e| Err(StoreError::Unavailable(Arc::new(e))))
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.log.get().map(drop)
    }
}

/// The open log, if it is open, and how far readers may see.
#[derive(Debug)]
struct SharedLog {
    open: RwLock<Option<Log>>,
    /// The greatest time of a committed message, in microseconds.
    visible: AtomicI64,
}

impl SharedLog {
    fn get(&self) -> Result<Log, StoreError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.clone().ok_or_else(|| StoreError::Unavailable(cause("closed after a failed commit, being opened again")))
    }

    fn set(&self, log: Option<Log>) {
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = log;
    }

    fn page(&self, room: &Room, query: PageQuery) -> Result<Page, StoreError> {
        let log = self.get()?;
        let visible = self.visible.load(Ordering::Acquire);
        let from = query.from.map(SendTime::as_micros);
        let (first, last) = match query.direction {
            Direction::Forward => (from.unwrap_or(0), visible),
            Direction::Reverse => (0, from.unwrap_or(visible).min(visible)),
        };
        let mut page = PageBuilder::new(query);
        if first > last {
            return Ok(page.finish());
        }
        let mut range = log.messages.range(key(room, first)..=key(room, last));
        while page.wanted() > 0 {
            let entry = match query.direction {
                Direction::Forward => range.next(),
                Direction::Reverse => range.next_back(),
            };
            let Some(entry) = entry else { break };
            let (key, value) = entry.into_inner().map_err(|e| StoreError::Unavailable(Arc::new(e)))?;
            let message = decode(&key, &value)
                .ok_or_else(|| StoreError::Unavailable(cause(format!("a damaged entry in room {room:?}"))))?;
            page.push(message);
        }
        Ok(page.finish())
    }
}

/// The database's handles; a clone shares them.
#[derive(Clone)]
struct Log {
    database: Database,
    messages: Keyspace,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Log")
    }
}

impl Log {
    /// The log in `path` and the greatest time in it.
    fn open(path: &Path) -> fjall::Result<(Self, i64)> {
        let database = Database::builder(path).open()?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let messages = database.keyspace("messages", options)?;
        let last = match messages.get(LAST_TIME)? {
            Some(bytes) => i64::from_be_bytes(
                bytes.as_ref().try_into().map_err(|_| std::io::Error::other("a damaged last_send_time"))?,
            ),
            None => 0,
        };
        Ok((Self { database, messages }, last))
    }
}

/// The one writer.
struct Committer {
    path: PathBuf,
    log: Arc<SharedLog>,
    waiting: mpsc::Receiver<Waiting>,
    /// The greatest time given so far, over all rooms.
    last: i64,
}

impl Committer {
    /// Commits group after group until the store is dropped.
    fn run(mut self) {
        while let Some(first) = self.waiting.blocking_recv() {
            let mut group = vec![first];
            while group.len() < GROUP_MAX
                && let Ok(next) = self.waiting.try_recv()
            {
                group.push(next);
            }
            // Who gave up before the commit is told nothing and must not find the message later.
            group.retain(|waiting| !waiting.done.is_closed());
            if !group.is_empty() {
                self.commit(group);
            }
        }
    }

    fn commit(&mut self, group: Vec<Waiting>) {
        let Ok(log) = self.log.get() else {
            // Not reachable: the log is open whenever this thread is not opening it.
            return fail(group, &StoreError::Unavailable(cause("the log is closed")));
        };
        let mut batch = log.database.batch().durability(Some(PersistMode::SyncData));
        let mut times = Vec::with_capacity(group.len());
        for waiting in &group {
            self.last = now_us().max(self.last + 1);
            times.push(self.last);
            batch.insert(&log.messages, key(&waiting.room, self.last), encode(&waiting.draft));
        }
        batch.insert(&log.messages, LAST_TIME, self.last.to_be_bytes());
        let committed = batch.commit();
        drop(log);
        match committed {
            Ok(()) => {
                self.log.visible.store(self.last, Ordering::Release);
                for (waiting, time) in group.into_iter().zip(times) {
                    let time = SendTime::from_micros(time)
                        .ok_or_else(|| StoreError::OutcomeUnknown(cause("the clock stands before 1970")));
                    let _ = waiting.done.send(time); // who gave up meanwhile hears nothing
                }
            }
            Err(e) => {
                error!(error = %e, messages = group.len(), "a commit failed: opening the store again");
                let e: Cause = Arc::new(e);
                fail(group, &StoreError::OutcomeUnknown(e.clone()));
                self.reopen(e);
            }
        }
    }

    /// What a failed commit left is known only after the log was read again, so nothing is acknowledged until then.
    fn reopen(&mut self, why: Cause) {
        loop {
            self.log.set(None);
            match Log::open(&self.path) {
                Ok((log, last)) => {
                    self.last = self.last.max(last);
                    self.log.visible.store(last, Ordering::Release);
                    self.log.set(Some(log));
                    info!("the store is open again");
                    return;
                }
                Err(e) => error!(error = %e, "the store cannot be opened again yet"),
            }
            let until = SystemTime::now() + REOPEN_PAUSE;
            while SystemTime::now() < until {
                match self.waiting.try_recv() {
                    Ok(waiting) => fail(vec![waiting], &StoreError::Unavailable(why.clone())),
                    Err(mpsc::error::TryRecvError::Empty) => thread::sleep(Duration::from_millis(5)),
                    Err(mpsc::error::TryRecvError::Disconnected) => return,
                }
            }
        }
    }
}

fn fail(group: Vec<Waiting>, error: &StoreError) {
    for waiting in group {
        let _ = waiting.done.send(Err(error.clone()));
    }
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

fn key(room: &Room, send_time: i64) -> Vec<u8> {
    let mut key = Vec::with_capacity(room.as_str().len() + 9);
    key.extend_from_slice(room.as_str().as_bytes());
    key.push(0xFF);
    key.extend_from_slice(&send_time.to_be_bytes()); // never negative, so the bytes sort as the numbers do
    key
}

fn encode(draft: &Draft) -> Vec<u8> {
    let mut value = Vec::with_capacity(2 + draft.sender.len() + draft.text.len());
    // A sender is a chat's member, so it is far shorter than 64 KiB.
    value.extend_from_slice(&(draft.sender.len() as u16).to_be_bytes());
    value.extend_from_slice(draft.sender.as_bytes());
    value.extend_from_slice(draft.text.as_bytes());
    value
}

fn decode(key: &[u8], value: &[u8]) -> Option<Message> {
    let (_, send_time) = key.split_last_chunk::<8>()?;
    let (sender_len, rest) = value.split_first_chunk::<2>()?;
    let (sender, text) = rest.split_at_checked(u16::from_be_bytes(*sender_len).into())?;
    Some(Message {
        send_time: SendTime::from_micros(i64::from_be_bytes(*send_time))?,
        sender: FastStr::new(str::from_utf8(sender).ok()?),
        text: FastStr::new(str::from_utf8(text).ok()?),
    })
}
