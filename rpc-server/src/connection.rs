//! One connection: calls come in one after the other, run at once, and are answered in their order.
//!
//! Calls in one room wait for those before them on the same connection, so that a caller who does not wait for
//! answers still sees its Sends stored as it sent them; two Pulls run side by side.

use std::{
    collections::{HashMap, VecDeque},
    io,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bytes::{Buf, BytesMut};
use futures::{FutureExt, StreamExt, future::Shared, stream::FuturesOrdered};
use pilota::thrift::{ApplicationException, ApplicationExceptionKind, ThriftException};
use server_process::shutdown::CancellationToken;
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, Sleep, sleep_until, timeout_at},
};
use tracing::debug;
use volo_gen::rpc::{ImService, ImServicePullResultSend, ImServiceRequestRecv, ImServiceSendResultSend};
use volo_thrift::ServerError;

use crate::{
    chat::{Chat, Room},
    wire::{
        self,
        call::{self, kind},
        receive::{Message, Received, Receiver, ReplyTo},
        reply::{self, Answer},
    },
};

/// Calls of one connection that run at once; the next ones wait unread.
const CALLS_PER_CONNECTION_MAX: usize = 32;

/// What a connection may hold of unfinished messages without asking for a share of [`Limits::buffer_bytes_max`].
const BUFFER_BYTES_FREE: usize = 16 << 10;

/// What is read at once at most, in bytes.
const READ_BYTES_MAX: usize = 64 << 10;

/// Replies are collected up to this many bytes before they are written.
const WRITE_BYTES: usize = 64 << 10;

/// What connections may ask of the server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// What a message may be.
    pub message: wire::Limits,
    /// From connecting to the first byte.
    pub first_byte_timeout: Duration,
    /// From a message's first byte to its last; also how long a client may take to receive replies.
    pub message_timeout: Duration,
    /// From one call's end to the next one's first byte.
    pub idle_timeout: Duration,
    /// Calls in flight over all connections. More are refused at once.
    pub calls_max: usize,
    /// Bytes over all connections of unfinished messages, of calls in flight and of answers that wait to be written.
    pub buffer_bytes_max: usize,
}

/// What all connections share.
#[derive(Debug, Clone)]
pub struct Shares {
    limits: Limits,
    calls: Arc<Semaphore>,
    /// A permit is a KiB.
    buffers: Arc<Semaphore>,
}

impl Shares {
    /// All of it free.
    pub fn new(limits: Limits) -> Self {
        let permits = |count: usize| Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        Self { limits, calls: permits(limits.calls_max), buffers: permits(limits.buffer_bytes_max >> 10) }
    }

    /// A share of [`Limits::buffer_bytes_max`]; less than a KiB is free.
    fn buffer(&self, bytes: usize) -> Result<Option<OwnedSemaphorePermit>, ApplicationException> {
        let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
        if kib == 0 {
            return Ok(None);
        }
        self.buffers.clone().try_acquire_many_owned(kib).map(Some).map_err(|_| {
            let text =
                format!("{} bytes are in flight, the most that are taken: try again", self.limits.buffer_bytes_max);
            ApplicationException::new(ApplicationExceptionKind::INTERNAL_ERROR, text)
        })
    }
}

/// Serves a connection until the client closes it, a timeout, a message after which the next one cannot be found, or
/// `stop`; then answers what is in flight.
pub async fn serve<S: ImService>(stream: TcpStream, service: &S, shares: Shares, stop: CancellationToken) {
    let mut inbox = Inbox::new(shares.clone());
    let mut outbox = Outbox::new(shares.limits.message_timeout);
    let mut turns = Turns::default();
    let mut calls = FuturesOrdered::new();
    loop {
        while calls.len() + outbox.waiting.len() < CALLS_PER_CONNECTION_MAX
            && let Some(incoming) = inbox.next()
        {
            calls.push_back(answer(service, &shares, admit(incoming, &shares, &mut turns)));
        }
        if inbox.closed && calls.is_empty() && outbox.is_empty() {
            return;
        }
        tokio::select! {
            biased;
            // Calls go on while a client does not read, so that it holds no place among all calls.
            Some(answered) = calls.next(), if !calls.is_empty() => outbox.waiting.push_back(answered),
            sent = outbox.send(&stream), if !outbox.is_empty() => {
                if let Err(e) = sent {
                    debug!(error = %e, "replies could not be sent");
                    return;
                }
                if calls.is_empty() && outbox.is_empty() {
                    turns = Turns::default();
                    inbox.idle();
                }
            }
            () = stop.cancelled(), if !inbox.stopping => inbox.stopping = true,
            () = inbox.fill(&stream),
                if !inbox.closed && calls.len() + outbox.waiting.len() < CALLS_PER_CONNECTION_MAX => {}
        }
    }
}

/// What is answered and not yet sent.
struct Outbox {
    waiting: VecDeque<Answered>,
    /// Written replies, and their shares of [`Limits::buffer_bytes_max`].
    bytes: BytesMut,
    held: Vec<OwnedSemaphorePermit>,
    timeout: Duration,
    deadline: Instant,
}

impl Outbox {
    fn new(timeout: Duration) -> Self {
        let (waiting, bytes) = (VecDeque::new(), BytesMut::new());
        Self { waiting, bytes, held: Vec::new(), timeout, deadline: Instant::now() }
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.bytes.is_empty()
    }

    /// Sends some of it; an error when the client is gone or does not read.
    async fn send(&mut self, stream: &TcpStream) -> io::Result<()> {
        if self.bytes.is_empty() {
            self.write().map_err(io::Error::other)?;
        }
        while !self.bytes.is_empty() {
            match stream.try_write(&self.bytes) {
                Ok(count) => self.bytes.advance(count),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    // Boxed, for idle connections to be small.
                    Box::pin(timeout_at(self.deadline, stream.writable())).await??;
                }
                Err(e) => return Err(e),
            }
        }
        self.held.clear();
        if self.waiting.is_empty() {
            self.bytes = BytesMut::new();
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), ThriftException> {
        self.deadline = Instant::now() + self.timeout;
        while self.bytes.len() < WRITE_BYTES
            && let Some((to, answer, share)) = self.waiting.pop_front()
        {
            if let Some(answer) = answer {
                self.bytes.reserve(answer.bytes());
                reply::write(&mut self.bytes, &to, &answer)?;
            }
            self.held.extend(share);
        }
        Ok(())
    }
}

/// What was received and not yet taken.
struct Inbox {
    shares: Shares,
    receiver: Receiver,
    bytes: BytesMut,
    /// Bytes that the message under way needs in all.
    need: usize,
    /// The share of [`Limits::buffer_bytes_max`].
    share: Option<OwnedSemaphorePermit>,
    deadline: Instant,
    timer: Pin<Box<Sleep>>,
    /// Nothing more is to be read; what has come whole is still served.
    closed: bool,
    /// Where the next message begins is unknown.
    lost: bool,
    /// What has come is still read, and no more.
    stopping: bool,
}

/// What is to be answered.
enum Incoming {
    Message(Message),
    Refused(ReplyTo, ApplicationException),
}

impl Inbox {
    fn new(shares: Shares) -> Self {
        let deadline = Instant::now() + shares.limits.first_byte_timeout;
        Self {
            receiver: Receiver::new(shares.limits.message),
            shares,
            bytes: BytesMut::new(),
            need: 0,
            share: None,
            deadline,
            timer: Box::pin(sleep_until(deadline)),
            closed: false,
            lost: false,
            stopping: false,
        }
    }

    /// Takes the next message, if it is there whole.
    fn next(&mut self) -> Option<Incoming> {
        if self.lost || self.bytes.is_empty() {
            return None;
        }
        let taken = match self.receiver.next(&mut self.bytes) {
            Received::Need(bytes) => {
                self.need = bytes;
                return None;
            }
            Received::Message(message) => Incoming::Message(message),
            Received::Refused(to, fault) => Incoming::Refused(to, (&fault).into()),
            Received::Broken(to, fault) => {
                (self.closed, self.lost) = (true, true);
                Incoming::Refused(to, (&fault).into())
            }
            Received::Foreign => {
                (self.closed, self.lost) = (true, true);
                return None;
            }
        };
        let Limits { message_timeout, idle_timeout, .. } = self.shares.limits;
        self.wait_at_most(if self.bytes.is_empty() { idle_timeout } else { message_timeout });
        Some(taken)
    }

    /// All calls are answered: what follows may take its time, unless it has begun.
    fn idle(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
            self.share = None;
            self.wait_at_most(self.shares.limits.idle_timeout);
        }
    }

    fn wait_at_most(&mut self, time: Duration) {
        self.deadline = Instant::now() + time;
        // A timer that is early is set again when it rings: cheaper than at every call.
        if self.timer.deadline() > self.deadline {
            self.timer.as_mut().reset(self.deadline);
        }
    }

    /// Receives some more; `closed` when there is no more, or it comes too late or is too much.
    async fn fill(&mut self, stream: &TcpStream) {
        if self.stopping {
            self.closed = !self.read(stream).is_ok_and(|count| count > 0);
            return;
        }
        loop {
            tokio::select! {
                ready = stream.readable() => match ready.and_then(|()| self.read(stream)) {
                    Ok(0) => self.closed = true,
                    Ok(_) => {}
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
                    Err(_) => self.closed = true,
                },
                () = self.timer.as_mut() => {
                    if Instant::now() < self.deadline {
                        self.timer.as_mut().reset(self.deadline);
                        continue;
                    }
                    self.closed = true;
                }
            }
            return;
        }
    }

    fn read(&mut self, stream: &TcpStream) -> io::Result<usize> {
        let begins = self.bytes.is_empty();
        // Room grows with what has come, not with what was announced.
        let room = self.need.saturating_sub(self.bytes.len()).clamp(4 << 10, READ_BYTES_MAX);
        self.take_share(self.bytes.len() + room)?;
        self.bytes.reserve(room);
        let count = stream.try_read_buf(&mut self.bytes)?;
        if begins && count > 0 {
            self.wait_at_most(self.shares.limits.message_timeout);
        }
        Ok(count)
    }

    fn take_share(&mut self, bytes: usize) -> io::Result<()> {
        let held = self.share.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let wanted = bytes.saturating_sub(BUFFER_BYTES_FREE).div_ceil(1 << 10);
        let Some(more) = wanted.checked_sub(held).filter(|more| *more > 0) else { return Ok(()) };
        let more = u32::try_from(more).map_err(io::Error::other)?;
        let more = self.shares.buffers.clone().try_acquire_many_owned(more).map_err(io::Error::other)?;
        match &mut self.share {
            Some(share) => share.merge(more),
            None => self.share = Some(more),
        }
        Ok(())
    }
}

/// A call that was let in, or why not.
struct Admitted {
    to: ReplyTo,
    oneway: bool,
    call: Result<(ImServiceRequestRecv, Turn, InFlight), ApplicationException>,
}

/// What a call holds until it ends: its place among all calls, and the memory of its message.
type InFlight = (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>);

fn admit(incoming: Incoming, shares: &Shares, turns: &mut Turns) -> Admitted {
    let message = match incoming {
        Incoming::Message(message) => message,
        Incoming::Refused(to, e) => return Admitted { to, oneway: false, call: Err(e) },
    };
    let call = call::decode(&message).and_then(|request| {
        let in_flight = shares.calls.clone().try_acquire_owned().map_err(|_| {
            let text = format!("{} calls are in flight, the most that are taken: try again", shares.limits.calls_max);
            ApplicationException::new(ApplicationExceptionKind::INTERNAL_ERROR, text)
        })?;
        let buffer = shares.buffer(message.arguments.len())?;
        let turn = turns.next(&request);
        Ok((request, turn, (in_flight, buffer)))
    });
    Admitted { oneway: message.kind == kind::ONEWAY, to: message.reply_to, call }
}

/// An answer, none to a oneway call, and its share of the memory, to be given back when it was sent.
type Answered = (ReplyTo, Option<Answer>, Option<OwnedSemaphorePermit>);

/// Runs the call in its turn.
async fn answer<S: ImService>(service: &S, shares: &Shares, admitted: Admitted) -> Answered {
    let Admitted { to, oneway, call } = admitted;
    let answered = match call {
        Ok((request, turn, in_flight)) => {
            for earlier in turn.after {
                let _ = earlier.await; // ended, in whatever way
            }
            let answer = run(service, request).await;
            drop((turn.done, in_flight));
            answer.and_then(|answer| Ok((shares.buffer(answer.bytes())?, answer)))
        }
        Err(e) => Err(e),
    };
    let (buffer, answer) = answered.unwrap_or_else(|e| (None, Answer::Exception(e)));
    (to, (!oneway).then_some(answer), buffer)
}

async fn run<S: ImService>(service: &S, request: ImServiceRequestRecv) -> Result<Answer, ApplicationException> {
    let answer = match request {
        ImServiceRequestRecv::Send(args) => {
            service.send(args.req).await.map(|r| Answer::Send(ImServiceSendResultSend::Ok(r)))
        }
        ImServiceRequestRecv::Pull(args) => {
            service.pull(args.req).await.map(|r| Answer::Pull(ImServicePullResultSend::Ok(r)))
        }
    };
    answer.map_err(exception)
}

fn exception(e: ServerError) -> ApplicationException {
    match e {
        ServerError::Application(e) => e,
        ServerError::Biz(e) => ApplicationException::new(ApplicationExceptionKind::INTERNAL_ERROR, e.to_string()),
    }
}

/// Resolves when a call has ended.
type Ended = Shared<oneshot::Receiver<()>>;

/// The calls of a connection that later ones have to wait for.
#[derive(Default)]
struct Turns {
    rooms: HashMap<Room, RoomTurns>,
}

#[derive(Default)]
struct RoomTurns {
    last_send: Option<Ended>,
    pulls_since: Vec<Ended>,
}

impl RoomTurns {
    fn is_busy(&self) -> bool {
        self.last_send.iter().chain(&self.pulls_since).any(is_pending)
    }
}

fn is_pending(call: &Ended) -> bool {
    call.clone().now_or_never().is_none()
}

/// A call's place: what it has to wait for, and how it tells that it ended.
struct Turn {
    after: Vec<Ended>,
    done: Option<oneshot::Sender<()>>,
}

impl Turns {
    fn next(&mut self, request: &ImServiceRequestRecv) -> Turn {
        let (chat, is_send) = match request {
            ImServiceRequestRecv::Send(args) => (args.req.message.chat.as_ref(), true),
            ImServiceRequestRecv::Pull(args) => (Some(&args.req.chat), false),
        };
        // A name that is no room's is refused, at any time.
        let chat = chat.filter(|chat| str::from_utf8(chat.as_bytes()).is_ok());
        let Some(chat) = chat.and_then(|chat| Chat::parse(chat.clone()).ok()) else {
            return Turn { after: Vec::new(), done: None };
        };
        if self.rooms.len() >= 2 * CALLS_PER_CONNECTION_MAX {
            self.rooms.retain(|_, room| room.is_busy());
        }
        let (done, ended) = oneshot::channel();
        let ended = ended.shared();
        let room = self.rooms.entry(chat.room()).or_default();
        let mut after = Vec::from_iter(room.last_send.clone());
        if is_send {
            after.append(&mut room.pulls_since);
            room.last_send = Some(ended);
        } else {
            room.pulls_since.retain(is_pending);
            room.pulls_since.push(ended);
        }
        Turn { after, done: Some(done) }
    }
}
