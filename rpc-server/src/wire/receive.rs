//! Takes messages out of what a connection has received.

use bytes::{Buf, Bytes, BytesMut};
use pilota::FastStr;

use super::{
    Fault, Limits,
    form::{self, Detected, Framing, Protocol},
    scan::{Head, Progress, Scan},
    theader::{self, THeader},
    ttheader::{self, TTHeader},
};

/// The longest start of a message by which its form is told, in bytes.
const FORM_BYTES_MAX: usize = 9;

/// What Apache's multiplexed clients put before a method's name. The reply goes without it.
const SERVICE_PREFIX: &str = "IMService:";

/// A message that can be decoded.
#[derive(Debug)]
pub struct Message {
    /// How, and as what, it is answered.
    pub reply_to: ReplyTo,
    /// The message's type: 1 call, 4 oneway; others are answers, which nobody sends to a server.
    pub kind: u8,
    /// The arguments' struct, in Binary whatever the protocol.
    pub arguments: Bytes,
}

/// What a reply needs to know of its call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyTo {
    /// The envelope, of the same form as the call's.
    pub envelope: Envelope,
    /// The protocol of the call.
    pub protocol: Protocol,
    /// The method's name.
    pub name: FastStr,
    /// The call's number.
    pub sequence_id: i32,
}

/// What stands around a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Envelope {
    /// Nothing.
    None,
    /// Its length.
    Frame,
    /// Kitex's header; and whether a frame's length stands between it and the message.
    TTHeader(TTHeader, bool),
    /// Apache's header.
    THeader(THeader),
}

/// What the received bytes hold.
#[derive(Debug)]
pub enum Received {
    /// So many bytes are needed before anything can be said.
    Need(usize),
    /// A message.
    Message(Message),
    /// A message that is at fault; the next one follows.
    Refused(ReplyTo, Fault),
    /// A message that is at fault, and no telling where the next one begins.
    Broken(ReplyTo, Fault),
    /// Nothing that this port speaks.
    Foreign,
}

/// Takes one message after the other from a connection.
#[derive(Debug)]
pub struct Receiver {
    limits: Limits,
    /// The scan of an unframed message that has not come whole.
    unfinished: Option<Scan>,
}

impl Receiver {
    /// For a new connection.
    pub fn new(limits: Limits) -> Self {
        Self { limits, unfinished: None }
    }

    /// Takes the next message off the front of `received`.
    pub fn next(&mut self, received: &mut BytesMut) -> Received {
        match form::detect(&received[..received.len().min(FORM_BYTES_MAX)]) {
            Detected::Need(bytes) => Received::Need(bytes),
            Detected::Form(Framing::Unframed, Some(protocol)) => self.unframed(protocol, received),
            Detected::Form(framing, _) => self.framed(framing, received),
            Detected::Unknown => Received::Foreign,
        }
    }

    fn unframed(&mut self, protocol: Protocol, received: &mut BytesMut) -> Received {
        let mut scan = self.unfinished.take().unwrap_or_else(|| Scan::new(protocol, self.limits));
        match scan.run(received) {
            Ok(Progress::Need(bytes)) => {
                self.unfinished = Some(scan);
                Received::Need(bytes)
            }
            Ok(Progress::End(end)) => message(Envelope::None, protocol, scan, received.split_to(end).freeze()),
            Err(fault) => Received::Broken(reply_to(Envelope::None, protocol, scan.head(), received), fault),
        }
    }

    fn framed(&self, framing: Framing, received: &mut BytesMut) -> Received {
        let length = (&received[..4]).get_u32() as usize;
        let end = length.saturating_add(4);
        if end > self.limits.message_bytes_max {
            let fault = Fault::MessageTooLong(self.limits.message_bytes_max);
            // Its end is known, but nobody waits for that much.
            return Received::Broken(unread(Envelope::Frame), fault);
        }
        if received.len() < end {
            return Received::Need(end);
        }
        let mut frame = received.split_to(end).freeze();
        frame.advance(4);
        match self.open(framing, &mut frame) {
            Ok(envelope) => self.whole(envelope, frame),
            Err(fault) => Received::Refused(unread(Envelope::Frame), fault),
        }
    }

    /// Takes the envelope off a frame, and leaves the message.
    fn open(&self, framing: Framing, frame: &mut Bytes) -> Result<Envelope, Fault> {
        Ok(match framing {
            Framing::Unframed => Envelope::None,
            Framing::Framed => Envelope::Frame,
            Framing::THeader => Envelope::THeader(theader::read(frame, self.limits.message_bytes_max)?),
            Framing::TTHeader => {
                let header = ttheader::read(frame)?;
                let framed = form::protocol(frame).is_none() && frame.len() > 4;
                if framed {
                    frame.advance(4);
                }
                Envelope::TTHeader(header, framed)
            }
        })
    }

    /// A message that is there whole, without its envelope.
    fn whole(&self, envelope: Envelope, bytes: Bytes) -> Received {
        let Some(protocol) = form::protocol(&bytes) else {
            return Received::Refused(unread(envelope), Fault::Protocol);
        };
        let mut scan = Scan::new(protocol, self.limits);
        let fault = match scan.run(&bytes) {
            Ok(Progress::End(end)) => return message(envelope, protocol, scan, bytes.slice(..end)),
            Ok(Progress::Need(_)) => Fault::Truncated,
            Err(fault) => fault,
        };
        Received::Refused(reply_to(envelope, protocol, scan.head(), &bytes), fault)
    }
}

fn message(envelope: Envelope, protocol: Protocol, scan: Scan, bytes: Bytes) -> Received {
    let head = scan.head();
    let reply_to = reply_to(envelope, protocol, head, &bytes);
    let (kind, start) = head.map_or((0, bytes.len()), |head| (head.kind, head.arguments));
    let arguments = match protocol {
        Protocol::Binary | Protocol::OldBinary => bytes.slice(start..),
        Protocol::Compact => scan.into_binary().into(),
    };
    Received::Message(Message { reply_to, kind, arguments })
}

fn reply_to(envelope: Envelope, protocol: Protocol, head: Option<Head>, bytes: &[u8]) -> ReplyTo {
    let name = head.and_then(|head| str::from_utf8(&bytes[head.name.0..head.name.1]).ok()).unwrap_or_default();
    let name = name.strip_prefix(SERVICE_PREFIX).unwrap_or(name);
    ReplyTo { envelope, protocol, name: FastStr::new(name), sequence_id: head.map_or(0, |head| head.sequence_id) }
}

/// The reply to a message of which nothing could be read.
fn unread(envelope: Envelope) -> ReplyTo {
    reply_to(envelope, Protocol::Binary, None, &[])
}
