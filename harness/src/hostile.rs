//! Bytes that no client sends.

use std::io::Write;

use flate2::{Compression, write::ZlibEncoder};

use crate::thrift::{Envelope, Form, Protocol, Value, call, encode, forms, pull, send, with_length};

/// What a connection carries, and what it is.
pub type Case = (String, Vec<u8>);

/// Calls in every form, cut at every byte.
pub fn cut() -> Vec<Case> {
    let cut = |(name, message): Case| {
        (0..message.len()).map(move |at| (format!("{name} cut at {at}"), message[..at].to_vec())).collect::<Vec<_>>()
    };
    calls().into_iter().flat_map(cut).collect()
}

/// Calls in every form, with one byte changed, at every position.
pub fn with_a_byte_changed() -> Vec<Case> {
    let bytes = [0x00, 0x7F, 0x80, 0xFF];
    changed(bytes.map(|byte: u8| (format!("{byte:#x}"), vec![byte])).to_vec())
}

/// Calls in every form, with four bytes changed as if a length or a count stood there, at every position: below zero,
/// huge, and some more than there is.
pub fn with_a_number_changed() -> Vec<Case> {
    let numbers = [-1, i32::MIN, i32::MAX, 0x00FF_FFFF, 9_000_000];
    changed(numbers.map(|number| (number.to_string(), number.to_be_bytes().to_vec())).to_vec())
}

fn calls() -> Vec<Case> {
    let forms = forms().into_iter().filter(|(_, envelope)| *envelope != Envelope::TTHeader(40_000));
    let both = |form| {
        let (send, pull) = (encode(&send(1, "a:b", "hello", "a"), form), encode(&pull(1, "a:b", 9, true), form));
        [(format!("{form:?} Send"), send), (format!("{form:?} Pull"), pull)]
    };
    forms.flat_map(both).collect()
}

fn changed(to: Vec<Case>) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, message) in calls() {
        for at in 0..message.len() {
            for (what, bytes) in &to {
                let mut changed = message.clone();
                let end = message.len().min(at + bytes.len());
                changed[at..end].copy_from_slice(&bytes[..end - at]);
                cases.push((format!("{name} with {what} at {at}"), changed));
            }
        }
    }
    cases
}

/// Lengths, counts and depths without end, wrong magic, headers that lie, other protocols.
pub fn named() -> Vec<Case> {
    const UNFRAMED: Form = (Protocol::Binary, Envelope::Unframed);
    let head = |body: &[u8]| [&[0x80, 1, 0, 1, 0, 0, 0, 4][..], b"Send", &[0, 0, 0, 1], body].concat();
    let compact = |body: &[u8]| [&[0x82, 0x21, 1, 4][..], b"Send", body].concat();
    let nested = |levels: usize| head(&[12, 0, 1].repeat(levels));
    let cases = [
        ("a string of 2 GiB", head(&[12, 0, 1, 12, 0, 1, 11, 0, 1, 0x7F, 0xFF, 0xFF, 0xFF])),
        ("2^31 items", head(&[15, 0, 9, 12, 0x7F, 0xFF, 0xFF, 0xFF])),
        ("2^31 items of a map", head(&[13, 0, 9, 2, 2, 0x7F, 0xFF, 0xFF, 0xFF])),
        ("items below zero", head(&[15, 0, 9, 2, 0xFF, 0xFF, 0xFF, 0xFF])),
        ("60,000 empty structs", head(&[&[15, 0, 9, 12, 0, 0, 0xEA, 0x60][..], &[0; 60_001]].concat())),
        ("100,000 nested structs", nested(100_000)),
        ("100,000 nested lists", head(&[&[15, 0, 9][..], &[15, 0, 0, 0, 1].repeat(100_000)].concat())),
        ("100,000 nested Compact structs", compact(&[0x1C].repeat(100_000))),
        ("a Compact length of 2^63", compact(&[0x18, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F])),
        ("a Compact length without end", compact(&[&[0x18][..], &[0xFF; 1_000]].concat())),
        (
            "Compact field ids out of bounds",
            compact(&[&[0x03, 0xFE, 0xFF, 0x03, 0][..], &[0xF3, 0].repeat(10)].concat()),
        ),
        ("a TTHeader of 4 GiB", vec![0xFF, 0xFF, 0xFF, 0xFF, 0x10, 0x00]),
        ("a THeader of 4 GiB", vec![0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0xFF]),
        ("a frame of 2 GiB", vec![0x7F, 0xFF, 0xFF, 0xFF, 0x80, 0x01]),
        ("a frame below zero", vec![0xFF, 0xFF, 0xFF, 0xFF, 0x80, 0x01]),
        (
            "a header longer than its frame",
            with_length([&[0x10, 0, 0, 0, 0, 0, 0, 1, 0xFF, 0xFF][..], &[0; 8]].concat()),
        ),
        (
            "a header info longer than its header",
            with_length([&[0x10, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 0, 1, 0xFF, 0xFF][..], &[0; 3]].concat()),
        ),
        ("255 transforms", with_length([&[0x10, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0xFF][..], &[0; 8]].concat())),
        ("a zlib bomb", bomb()),
        ("a name of 2 GiB", vec![0x80, 1, 0, 1, 0x7F, 0xFF, 0xFF, 0xFF]),
        (
            "a name that is not UTF-8",
            encode(&call("\u{0}", 1, Value::Struct(vec![])), UNFRAMED)
                .iter()
                .map(|b| if *b == 0 { 0xC3 } else { *b })
                .collect(),
        ),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("TLS", [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3][..], &[7; 508]].concat()),
        ("zeros", vec![0; 100_000]),
        ("ones", vec![0xFF; 100_000]),
        ("text", "hello ".repeat(1_000).into_bytes()),
    ];
    cases.map(|(what, bytes): (&str, _)| (what.to_owned(), bytes)).to_vec()
}

/// A THeader frame whose payload grows a thousandfold.
pub fn bomb() -> Vec<u8> {
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
    zlib.write_all(&vec![0; 64 << 20]).expect("into memory");
    with_length([&[0x0F, 0xFF, 0, 0, 0, 0, 0, 1, 0, 1, 0, 1, 1, 0][..], &zlib.finish().expect("into memory")].concat())
}
