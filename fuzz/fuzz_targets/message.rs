//! Any bytes as messages: taken off the buffer, decoded, answered; in one piece and in two.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use rpc_server::wire::{
    Limits, call,
    receive::{Received, Receiver},
    reply::{self, Answer},
};
use volo_thrift::{ApplicationException, ApplicationExceptionKind};

const LIMITS: Limits = Limits { message_bytes_max: 1 << 20, elements_max: 4_096, depth_max: 32 };

fuzz_target!(|data: &[u8]| {
    let whole = take_all(&[data]);
    // How bytes are cut on their way must not matter.
    let at = data.first().map_or(0, |b| usize::from(*b) % (data.len() + 1));
    assert_eq!(whole, take_all(&[&data[..at], &data[at..]]));
});

/// The answers to all messages in `pieces`.
fn take_all(pieces: &[&[u8]]) -> Vec<u8> {
    let (mut receiver, mut received, mut out) = (Receiver::new(LIMITS), BytesMut::new(), BytesMut::new());
    for piece in pieces {
        received.extend_from_slice(piece);
        loop {
            let (to, exception, is_last) = match receiver.next(&mut received) {
                Received::Need(bytes) => {
                    assert!(bytes > received.len() && bytes <= LIMITS.message_bytes_max.max(9));
                    break;
                }
                Received::Message(message) => match call::decode(&message) {
                    Ok(_) => (message.reply_to, ApplicationException::new(ApplicationExceptionKind::UNKNOWN, "ok"), false),
                    Err(e) => (message.reply_to, e, false),
                },
                Received::Refused(to, fault) => (to, (&fault).into(), false),
                Received::Broken(to, fault) => (to, (&fault).into(), true),
                Received::Foreign => return out.to_vec(),
            };
            reply::write(&mut out, &to, &Answer::Exception(exception)).expect("any reply can be written");
            if is_last {
                return out.to_vec();
            }
        }
    }
    out.to_vec()
}
