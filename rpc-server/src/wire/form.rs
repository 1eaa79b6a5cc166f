//! Which of Thrift's forms a message has, told by its first bytes.
//!
//! Sources: Apache Thrift's `doc/specs/thrift-rpc.md` ("Framed vs. unframed transport", "Compatibility"),
//! `thrift-binary-protocol.md`, `thrift-compact-protocol.md`, `HeaderFormat.md`, and CloudWeGo's "TTHeader".
//!
//! ```text
//! first bytes                      form
//! 80 01 ..                         Binary, strict
//! 82 .1                            Compact
//! <length> 80 01                   Binary, strict, in a frame
//! <length> 82                      Compact in a frame
//! <length> 10 00                   TTHeader (Kitex, Volo), its payload any of the above
//! <length> 0F FF                   THeader (Apache), its payload Binary or Compact
//! <length> 00 00 <letter>…         Binary, old, in a frame: a name's length follows the frame's
//! <length> <letter>                Binary, old: a name follows its length
//! ```

/// How a message's values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Binary whose messages begin with a version.
    Binary,
    /// Binary whose messages begin with their name, as before 2007; some clients still can ("non-strict").
    OldBinary,
    /// Compact.
    Compact,
}

/// What stands around a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// Nothing: the message ends where its last struct ends ("buffered").
    Unframed,
    /// Its length, 4 bytes.
    Framed,
    /// Kitex's header with metadata.
    TTHeader,
    /// Apache's header with metadata.
    THeader,
}

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detected {
    /// So many bytes are needed to tell.
    Need(usize),
    /// The protocol, where it can be told before a header was read.
    Form(Framing, Option<Protocol>),
    /// Nothing that this port speaks.
    Unknown,
}

/// Reads the form of the message that begins with `head`.
pub fn detect(head: &[u8]) -> Detected {
    match *head {
        [0x80, 0x01, ..] => return Detected::Form(Framing::Unframed, Some(Protocol::Binary)),
        [0x82, version, ..] if version & 0x1F == 1 => {
            return Detected::Form(Framing::Unframed, Some(Protocol::Compact));
        }
        [0x80 | 0x82] | [] => return Detected::Need(2),
        _ => {}
    }
    let Some((length, after)) = head.split_first_chunk::<4>() else { return Detected::Need(6) };
    let framed = |protocol| Detected::Form(Framing::Framed, Some(protocol));
    match (length, after) {
        ([0, 0, 0, 1..=255], [letter, ..]) if letter.is_ascii_alphabetic() => {
            Detected::Form(Framing::Unframed, Some(Protocol::OldBinary))
        }
        (_, [] | [_]) => Detected::Need(6),
        (_, [0x80, 0x01, ..]) => framed(Protocol::Binary),
        (_, [0x82, version, ..]) if version & 0x1F == 1 => framed(Protocol::Compact),
        (_, [0x10, 0x00, ..]) => Detected::Form(Framing::TTHeader, None),
        (_, [0x0F, 0xFF, ..]) => Detected::Form(Framing::THeader, None),
        (_, [0, 0] | [0, 0, 0] | [0, 0, 0, 1..=255]) => Detected::Need(9),
        (_, [0, 0, 0, 1..=255, letter, ..]) if letter.is_ascii_alphabetic() => framed(Protocol::OldBinary),
        _ => Detected::Unknown,
    }
}

/// The protocol of a message whose framing was taken off.
pub fn protocol(head: &[u8]) -> Option<Protocol> {
    match *head {
        [0x80, 0x01, ..] => Some(Protocol::Binary),
        [0x82, version, ..] if version & 0x1F == 1 => Some(Protocol::Compact),
        [0x00, 0x00, 0x00, 0x01..=0xFF, letter, ..] if letter.is_ascii_alphabetic() => Some(Protocol::OldBinary),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_told_by_its_first_bytes_and_no_byte_more() {
        use Framing::{Framed, THeader, TTHeader, Unframed};
        let cases: &[(&[u8], Framing, Option<Protocol>)] = &[
            (&[0x80, 0x01], Unframed, Some(Protocol::Binary)),
            (&[0x82, 0x21], Unframed, Some(Protocol::Compact)),
            (&[0, 0, 0, 4, b'S'], Unframed, Some(Protocol::OldBinary)),
            (&[0, 0, 0, 40, 0x80, 0x01], Framed, Some(Protocol::Binary)),
            (&[0, 0, 0, 40, 0x82, 0x21], Framed, Some(Protocol::Compact)),
            (&[0, 0, 0, 40, 0, 0, 0, 4, b'S'], Framed, Some(Protocol::OldBinary)),
            (&[0, 0, 0, 40, 0x10, 0x00], TTHeader, None),
            (&[0, 0, 0, 40, 0x0F, 0xFF], THeader, None),
        ];
        for &(head, framing, protocol) in cases {
            assert_eq!(detect(head), Detected::Form(framing, protocol), "{head:x?}");
            for cut in 0..head.len() {
                let Detected::Need(more) = detect(&head[..cut]) else { panic!("{:x?}", &head[..cut]) };
                assert!(more > cut && more <= 9, "{head:x?} cut at {cut}");
            }
        }
    }

    #[test]
    fn other_protocols_are_unknown() {
        for head in
            [&b"GET / HTTP/1.1\r\n"[..], b"POST /api/send", b"\x16\x03\x01\x02\x00\x01\x00\x01", b"PRI * HTTP/2.0"]
        {
            assert_eq!(detect(head), Detected::Unknown);
        }
    }
}
