//! A small Thrift of the tests' own, in every form of the wire: an independent reading of the specifications, which
//! can also write what no library would.

use std::io::{self, Read, Write};

use flate2::{Compression, write::ZlibEncoder};

/// A value, untyped by any IDL.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A bool.
    Bool(bool),
    /// A 32-bit number.
    I32(i32),
    /// A 64-bit number.
    I64(i64),
    /// A string or bytes.
    Bytes(Vec<u8>),
    /// A list of structs.
    List(Vec<Value>),
    /// A struct: ids and values.
    Struct(Vec<(i16, Value)>),
}

impl Value {
    /// A string.
    pub fn text(text: &str) -> Self {
        Self::Bytes(text.into())
    }

    /// The field of a struct; panics where there is none.
    pub fn field(&self, id: i16) -> &Self {
        let Self::Struct(fields) = self else { panic!("no struct: {self:?}") };
        &fields.iter().find(|(i, _)| *i == id).unwrap_or_else(|| panic!("no field {id} in {self:?}")).1
    }
}

/// How values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Binary with a version.
    Binary,
    /// Binary without.
    OldBinary,
    /// Compact.
    Compact,
}

/// What is around a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Envelope {
    /// Nothing.
    Unframed,
    /// Its length.
    Framed,
    /// Kitex's header, with this many bytes of metadata.
    TTHeader(usize),
    /// Kitex's header and a length behind it.
    TTHeaderFramed,
    /// Apache's header.
    THeader,
    /// Apache's header over a zlib payload.
    THeaderZlib,
}

/// A form of the wire.
pub type Form = (Protocol, Envelope);

/// All forms that the port speaks.
pub fn forms() -> Vec<Form> {
    use Envelope::{Framed, THeader, THeaderZlib, TTHeader, TTHeaderFramed, Unframed};
    let envelopes = [Unframed, Framed, TTHeader(0), TTHeader(40_000), TTHeaderFramed, THeader, THeaderZlib];
    let protocols = [Protocol::Binary, Protocol::OldBinary, Protocol::Compact];
    protocols.iter().flat_map(|p| envelopes.iter().map(move |e| (*p, *e))).collect()
}

/// A message: its type (1 call, 2 reply, 3 exception, 4 oneway), name, number, and arguments or result.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The type.
    pub kind: u8,
    /// The method.
    pub name: String,
    /// The sequence id.
    pub sequence_id: i32,
    /// The struct.
    pub body: Value,
}

/// A call.
pub fn call(name: &str, sequence_id: i32, body: Value) -> Message {
    Message { kind: 1, name: name.into(), sequence_id, body }
}

/// A call of Send.
pub fn send(sequence_id: i32, chat: &str, text: &str, sender: &str) -> Message {
    let fields = [(1, Value::text(chat)), (2, Value::text(text)), (3, Value::text(sender)), (4, Value::I64(0))];
    let request = Value::Struct(vec![(1, Value::Struct(fields.to_vec()))]);
    call("Send", sequence_id, Value::Struct(vec![(1, request)]))
}

/// A call of Pull.
pub fn pull(sequence_id: i32, chat: &str, limit: i32, reverse: bool) -> Message {
    let fields = [(1, Value::text(chat)), (2, Value::I64(0)), (3, Value::I32(limit)), (4, Value::Bool(reverse))];
    call("Pull", sequence_id, Value::Struct(vec![(2, Value::Struct(fields.to_vec()))]))
}

/// The message's bytes.
pub fn encode(message: &Message, (protocol, envelope): Form) -> Vec<u8> {
    let mut out = head(message, protocol);
    write_value(&mut out, &message.body, protocol);
    match envelope {
        Envelope::Unframed => out,
        Envelope::Framed => with_length(out),
        Envelope::TTHeader(metadata) => with_length([ttheader(message.sequence_id, metadata), out].concat()),
        Envelope::TTHeaderFramed => with_length([ttheader(message.sequence_id, 0), with_length(out)].concat()),
        Envelope::THeader => with_length([theader(message.sequence_id, protocol, false), out].concat()),
        Envelope::THeaderZlib => {
            let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
            zlib.write_all(&out).expect("into memory");
            let payload = zlib.finish().expect("into memory");
            with_length([theader(message.sequence_id, protocol, true), payload].concat())
        }
    }
}

/// Bytes behind their length.
pub fn with_length(bytes: Vec<u8>) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[..], &bytes].concat()
}

fn head(message: &Message, protocol: Protocol) -> Vec<u8> {
    let (name, sequence_id) = (message.name.as_bytes(), message.sequence_id.to_be_bytes());
    let length = (name.len() as u32).to_be_bytes();
    match protocol {
        Protocol::Binary => [&[0x80, 0x01, 0x00, message.kind][..], &length, name, &sequence_id].concat(),
        Protocol::OldBinary => [&length[..], name, &[message.kind], &sequence_id].concat(),
        Protocol::Compact => {
            let mut out = vec![0x82, message.kind << 5 | 1];
            write_varint(&mut out, message.sequence_id as u32 as u64);
            write_varint(&mut out, name.len() as u64);
            [&out[..], name].concat()
        }
    }
}

fn ttheader(sequence_id: i32, metadata: usize) -> Vec<u8> {
    let mut infos = vec![0, 0]; // Binary, as Kitex says whatever the payload; no transforms
    if metadata > 0 {
        let (key, value) = (b"RPC_PERSIST_k", vec![b'v'; metadata]);
        infos
            .extend([&[0x01, 0, 1, 0, key.len() as u8][..], key, &(value.len() as u16).to_be_bytes(), &value].concat());
    }
    infos.extend([&[0x10, 0, 1, 0, 9, 0, 4][..], b"Send", &[0x11, 0, 2, b't', b'k']].concat());
    infos.resize(infos.len().next_multiple_of(4), 0);
    let words = (infos.len() / 4) as u16;
    [&[0x10, 0, 0, 0][..], &sequence_id.to_be_bytes(), &words.to_be_bytes(), &infos].concat()
}

fn theader(sequence_id: i32, protocol: Protocol, zlib: bool) -> Vec<u8> {
    let mut header = vec![if protocol == Protocol::Compact { 2 } else { 0 }];
    header.extend(if zlib { vec![1, 1] } else { vec![0] });
    header.extend([1, 1, 1, b'k', 1, b'v']); // one key and value
    header.resize(header.len().next_multiple_of(4), 0);
    let words = (header.len() / 4) as u16;
    [&[0x0F, 0xFF, 0, 0][..], &sequence_id.to_be_bytes(), &words.to_be_bytes(), &header].concat()
}

fn code(value: &Value, protocol: Protocol) -> u8 {
    let [binary, compact] = match value {
        Value::Bool(true) => [2, 1],
        Value::Bool(false) => [2, 2],
        Value::I32(_) => [8, 5],
        Value::I64(_) => [10, 6],
        Value::Bytes(_) => [11, 8],
        Value::List(_) => [15, 9],
        Value::Struct(_) => [12, 12],
    };
    if protocol == Protocol::Compact { compact } else { binary }
}

fn write_value(out: &mut Vec<u8>, value: &Value, protocol: Protocol) {
    let compact = protocol == Protocol::Compact;
    match value {
        Value::Bool(_) if compact => {} // in the field's head
        Value::Bool(value) => out.push((*value).into()),
        Value::I32(n) if compact => write_varint(out, ((n << 1) ^ (n >> 31)) as u32 as u64),
        Value::I64(n) if compact => write_varint(out, ((n << 1) ^ (n >> 63)) as u64),
        Value::I32(n) => out.extend(n.to_be_bytes()),
        Value::I64(n) => out.extend(n.to_be_bytes()),
        Value::Bytes(bytes) => {
            if compact {
                write_varint(out, bytes.len() as u64);
            } else {
                out.extend((bytes.len() as u32).to_be_bytes());
            }
            out.extend(bytes);
        }
        Value::List(items) => {
            if compact {
                out.push(0xFC);
                write_varint(out, items.len() as u64);
            } else {
                out.push(12);
                out.extend((items.len() as u32).to_be_bytes());
            }
            items.iter().for_each(|item| write_value(out, item, protocol));
        }
        Value::Struct(fields) => {
            let mut last = 0;
            for (id, value) in fields {
                let code = code(value, protocol);
                if !compact {
                    out.push(code);
                    out.extend(id.to_be_bytes());
                } else if (1..16).contains(&(id - last)) {
                    out.push(((id - last) as u8) << 4 | code);
                } else {
                    out.push(code);
                    write_varint(out, ((id << 1) ^ (id >> 15)) as u16 as u64);
                }
                last = *id;
                write_value(out, value, protocol);
            }
            out.push(0);
        }
    }
}

fn write_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Reads one reply and checks that it has the form of its call.
///
/// # Errors
/// The connection ended, or what it carries is no such reply.
pub fn read_reply(from: &mut impl Read, (protocol, envelope): Form) -> io::Result<Message> {
    if envelope == Envelope::Unframed {
        return read_message(from, protocol);
    }
    let length = read_u32(from)? as usize;
    let mut frame = vec![0; length.min(64 << 20)];
    from.read_exact(&mut frame)?;
    let mut rest = &frame[..];
    let magic = match envelope {
        Envelope::TTHeader(_) | Envelope::TTHeaderFramed => Some([0x10, 0x00]),
        Envelope::THeader | Envelope::THeaderZlib => Some([0x0F, 0xFF]),
        Envelope::Unframed | Envelope::Framed => None,
    };
    if let Some(magic) = magic {
        check(rest.starts_with(&magic), "the header's magic")?;
        let words = u16::from_be_bytes([rest[8], rest[9]]);
        rest = &rest[10 + usize::from(words) * 4..];
    }
    if envelope == Envelope::TTHeaderFramed {
        let inner = read_u32(&mut rest)? as usize;
        check(inner == rest.len(), "the inner frame's length")?;
    }
    let message = read_message(&mut rest, protocol)?;
    check(rest.is_empty(), "nothing behind the message")?;
    Ok(message)
}

fn check(holds: bool, what: &str) -> io::Result<()> {
    if holds { Ok(()) } else { Err(io::Error::other(format!("not as expected: {what}"))) }
}

fn read_message(from: &mut impl Read, protocol: Protocol) -> io::Result<Message> {
    let (kind, sequence_id, name);
    match protocol {
        Protocol::Binary => {
            let version = read_u32(from)?;
            check(version >> 16 == 0x8001, "the version")?;
            kind = version as u8;
            name = read_bytes(from, protocol)?;
            sequence_id = read_u32(from)? as i32;
        }
        Protocol::OldBinary => {
            name = read_bytes(from, protocol)?;
            kind = read_u8(from)?;
            sequence_id = read_u32(from)? as i32;
        }
        Protocol::Compact => {
            check(read_u8(from)? == 0x82, "Compact's id")?;
            kind = read_u8(from)? >> 5;
            sequence_id = read_varint(from)? as u32 as i32;
            name = read_bytes(from, protocol)?;
        }
    }
    let name = String::from_utf8(name).map_err(io::Error::other)?;
    Ok(Message { kind, name, sequence_id, body: read_struct(from, protocol)? })
}

fn read_struct(from: &mut impl Read, protocol: Protocol) -> io::Result<Value> {
    let (mut fields, mut last) = (Vec::new(), 0i16);
    loop {
        let head = read_u8(from)?;
        if head == 0 {
            return Ok(Value::Struct(fields));
        }
        let (id, code) = if protocol != Protocol::Compact {
            (i16::from_be_bytes([read_u8(from)?, read_u8(from)?]), head)
        } else if head >> 4 == 0 {
            let coded = read_varint(from)? as i16;
            (coded >> 1 ^ -(coded & 1), head & 15)
        } else {
            (last + i16::from(head >> 4), head & 15)
        };
        last = id;
        fields.push((id, read_value(from, code, protocol)?));
    }
}

fn read_value(from: &mut impl Read, code: u8, protocol: Protocol) -> io::Result<Value> {
    let compact = protocol == Protocol::Compact;
    Ok(match (compact, code) {
        (true, 1) => Value::Bool(true),
        (true, 2) => Value::Bool(false),
        (true, 5) => Value::I32(unzigzag(read_varint(from)?) as i32),
        (true, 6) => Value::I64(unzigzag(read_varint(from)?)),
        (false, 2) => Value::Bool(read_u8(from)? != 0),
        (false, 8) => Value::I32(read_u32(from)? as i32),
        (false, 10) => Value::I64((i64::from(read_u32(from)?) << 32) | i64::from(read_u32(from)?)),
        (true, 8) | (false, 11) => Value::Bytes(read_bytes(from, protocol)?),
        (_, 12) => read_struct(from, protocol)?,
        (true, 9) | (false, 15) => {
            let head = read_u8(from)?;
            let count = match (compact, head >> 4) {
                (false, _) => read_u32(from)?.into(),
                (true, 15) => read_varint(from)?,
                (true, count) => count.into(),
            };
            Value::List((0..count).map(|_| read_value(from, head & 15, protocol)).collect::<io::Result<_>>()?)
        }
        _ => return Err(io::Error::other(format!("a value of type {code}"))),
    })
}

fn unzigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

fn read_bytes(from: &mut impl Read, protocol: Protocol) -> io::Result<Vec<u8>> {
    let length = if protocol == Protocol::Compact { read_varint(from)? } else { read_u32(from)?.into() };
    let mut bytes = vec![0; length.min(64 << 20) as usize];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn read_varint(from: &mut impl Read) -> io::Result<u64> {
    let mut n = 0;
    for shift in (0..64).step_by(7) {
        let byte = read_u8(from)?;
        n |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    Ok(n)
}

fn read_u8(from: &mut impl Read) -> io::Result<u8> {
    let mut byte = [0];
    from.read_exact(&mut byte)?;
    Ok(byte[0])
}

fn read_u32(from: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}
