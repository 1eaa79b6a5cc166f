//! A message, before and after the store has given it its time.

use pilota::FastStr;

/// When a message was stored: microseconds since the Unix epoch. Strictly increasing within a room, so it is also
/// the message's place in the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SendTime(i64);

impl SendTime {
    /// Takes microseconds since the epoch; `None` when negative.
    pub const fn from_micros(us: i64) -> Option<Self> {
        if us < 0 { None } else { Some(Self(us)) }
    }

    /// Microseconds since the epoch, never negative.
    pub const fn as_micros(self) -> i64 {
        self.0
    }
}

/// What a caller sends; it gets its [`SendTime`] from the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// One of the chat's members, as the caller spelled it.
    pub sender: FastStr,
    /// Never empty.
    pub text: FastStr,
}

/// A stored message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its place in the room.
    pub send_time: SendTime,
    /// As in the [`Draft`].
    pub sender: FastStr,
    /// As in the [`Draft`].
    pub text: FastStr,
}
