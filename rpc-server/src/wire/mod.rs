//! Thrift's wire, in every form that clients speak, read within limits.
//!
//! A message's way: [`form`] tells what its first bytes are, [`receive`] takes it out of the connection's buffer
//! (framing off, headers read by [`ttheader`] and [`theader`], all of it checked by [`scan`]), [`call`] decodes its
//! arguments with the generated types, [`reply`] writes the answer in the form of its call.
//!
//! Invariant: nothing is decoded that was not scanned, and nothing is allocated for bytes that have not come.

pub mod call;
pub mod form;
pub mod receive;
pub mod reply;
pub mod scan;
mod theader;
mod ttheader;

use pilota::thrift::{ApplicationException, ApplicationExceptionKind};

/// What a message may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest message with its framing, in bytes.
    pub message_bytes_max: usize,
    /// The most fields and container items in a message.
    pub elements_max: usize,
    /// The deepest nesting of structs and containers.
    pub depth_max: usize,
}

/// Why a message cannot be decoded. The display is the exception's message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Beyond [`Limits::message_bytes_max`].
    #[error("the message is longer than {0} bytes, the most that is read")]
    MessageTooLong(usize),
    /// Beyond [`Limits::elements_max`].
    #[error("the message has more than {0} fields and items, the most that are read")]
    TooManyElements(usize),
    /// Beyond [`Limits::depth_max`].
    #[error("the message is nested deeper than {0}, the most that is read")]
    TooDeep(usize),
    /// The frame or header ends within what it holds.
    #[error("the message is longer than its frame")]
    Truncated,
    /// A length or count below zero.
    #[error("a length or count of {0}")]
    NegativeLength(i32),
    /// A type that Thrift does not have.
    #[error("a value of the unknown type {0}")]
    Type(u8),
    /// A field id that 16 bits do not hold.
    #[error("a field id is out of bounds")]
    FieldId,
    /// A number that its type does not hold.
    #[error("a number is out of its type's bounds")]
    Varint,
    /// A method name far longer than any.
    #[error("the method's name is {0} bytes long")]
    NameTooLong(usize),
    /// A method name that is no text.
    #[error("the method's name is not UTF-8")]
    NameNotUtf8,
    /// A payload in no protocol that is spoken here.
    #[error("the frame holds neither Binary nor Compact")]
    Protocol,
    /// A header that does not follow its specification.
    #[error("the header is damaged: {0}")]
    Header(&'static str),
    /// A THeader transform other than zlib.
    #[error("the payload's transform {0} is not supported, zlib is")]
    Transform(u32),
    /// A payload that zlib cannot inflate.
    #[error("the payload cannot be inflated")]
    Zlib,
}

impl From<&Fault> for ApplicationException {
    fn from(fault: &Fault) -> Self {
        let kind = match fault {
            Fault::Transform(_) => ApplicationExceptionKind::INVALID_TRANSFORM,
            _ => ApplicationExceptionKind::PROTOCOL_ERROR,
        };
        Self::new(kind, fault.to_string())
    }
}
