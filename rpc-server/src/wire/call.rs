//! A scanned message as a call of the service's interface.

use pilota::thrift::{
    ApplicationException, ApplicationExceptionKind, TMessageIdentifier, TMessageType, ThriftException,
    binary::TBinaryProtocol,
};
use volo_gen::rpc::ImServiceRequestRecv;
use volo_thrift::EntryMessage;

use super::receive::{Message, ReplyTo};

/// The message types of the protocol.
pub mod kind {
    /// A call that is answered.
    pub const CALL: u8 = 1;
    /// An answer.
    pub const REPLY: u8 = 2;
    /// An answer that says why there is no other.
    pub const EXCEPTION: u8 = 3;
    /// A call that nobody waits for.
    pub const ONEWAY: u8 = 4;
}

/// Decodes the call.
///
/// # Errors
/// The exception that answers it: an unknown method, a field that is missing or of another type, a message that is no
/// call.
pub fn decode(message: &Message) -> Result<ImServiceRequestRecv, ApplicationException> {
    if !matches!(message.kind, kind::CALL | kind::ONEWAY) {
        let text = format!("a message of type {} is no call", message.kind);
        return Err(ApplicationException::new(ApplicationExceptionKind::INVALID_MESSAGE_TYPE, text));
    }
    let ReplyTo { name, sequence_id, .. } = &message.reply_to;
    let ident = TMessageIdentifier::new(name.clone(), TMessageType::Call, *sequence_id);
    let mut arguments = message.arguments.clone();
    let decoded = ImServiceRequestRecv::decode(&mut TBinaryProtocol::new(&mut arguments, true), &ident);
    decoded.map_err(|e| match e {
        ThriftException::Application(e) => e,
        e => ApplicationException::new(ApplicationExceptionKind::PROTOCOL_ERROR, e.to_string()),
    })
}
