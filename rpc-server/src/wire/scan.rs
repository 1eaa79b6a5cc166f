//! Finds the end of one message and checks all of it, before any of it is decoded: lengths, counts, types, depth.
//!
//! What passes here can be decoded without a panic and without an allocation larger than the message. The scan goes
//! on where it stopped when more bytes have come, so a message that drips in is looked at once.
//!
//! The arguments of a Compact message are written as Binary on the way, and decoded as such: the library's readers of
//! Compact panic at a bool or lose count of field ids behind a nested struct.
//!
//! Sources: Apache Thrift's `doc/specs/thrift-binary-protocol.md` and `thrift-compact-protocol.md`.

use std::ops::Range;

use super::{Fault, Limits, form::Protocol};

/// The longest name of a method, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// The head of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The message's type: 1 call, 2 reply, 3 exception, 4 oneway.
    pub kind: u8,
    /// The caller's number for the call, which the reply repeats.
    pub sequence_id: i32,
    /// Where the method's name is.
    pub name: (usize, usize),
    /// Where the arguments begin.
    pub arguments: usize,
}

/// How far a scan came.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// The message ends there.
    End(usize),
    /// At least so many bytes from the message's start are needed.
    Need(usize),
}

/// A scan under way.
#[derive(Debug)]
pub struct Scan {
    protocol: Protocol,
    limits: Limits,
    /// What was looked at, in bytes from the message's start.
    at: usize,
    head: Option<Head>,
    /// The containers around `at`, outermost first.
    open: Vec<Level>,
    /// Fields and items so far.
    elements: usize,
    /// The arguments of a Compact message so far, in Binary. Its growth is bounded: at most 11 bytes an element more
    /// than the message has.
    binary: Vec<u8>,
}

/// Why a step cannot be taken.
enum Stop {
    Need(usize),
    Fault(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

#[derive(Debug, Clone, Copy)]
enum Level {
    /// A struct, and in Compact the id of its last field.
    Struct(i16),
    /// A list or set: what it holds, how many are left.
    Items(Type, usize),
    /// A map: keys, values, how many of both are left together; even before a key.
    Pairs(Type, Type, usize),
}

/// Thrift's types of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    Bool,
    /// A bool field in Compact: its value stands in the field's head.
    BoolInHead(bool),
    I8,
    I16,
    I32,
    I64,
    Double,
    Binary,
    Struct,
    Map,
    Set,
    List,
    Uuid,
}

impl Type {
    fn of_binary(code: u8) -> Result<Self, Fault> {
        Ok(match code {
            2 => Self::Bool,
            3 => Self::I8,
            4 => Self::Double,
            6 => Self::I16,
            8 => Self::I32,
            10 => Self::I64,
            11 => Self::Binary,
            12 => Self::Struct,
            13 => Self::Map,
            14 => Self::Set,
            15 => Self::List,
            16 => Self::Uuid,
            _ => return Err(Fault::Type(code)),
        })
    }

    fn to_binary(self) -> u8 {
        match self {
            Self::Bool | Self::BoolInHead(_) => 2,
            Self::I8 => 3,
            Self::Double => 4,
            Self::I16 => 6,
            Self::I32 => 8,
            Self::I64 => 10,
            Self::Binary => 11,
            Self::Struct => 12,
            Self::Map => 13,
            Self::Set => 14,
            Self::List => 15,
            Self::Uuid => 16,
        }
    }

    fn of_compact(code: u8) -> Result<Self, Fault> {
        Ok(match code {
            1 | 2 => Self::Bool,
            3 => Self::I8,
            4 => Self::I16,
            5 => Self::I32,
            6 => Self::I64,
            7 => Self::Double,
            8 => Self::Binary,
            9 => Self::List,
            10 => Self::Set,
            11 => Self::Map,
            12 => Self::Struct,
            13 => Self::Uuid,
            _ => return Err(Fault::Type(code)),
        })
    }
}

impl Scan {
    /// A scan that begins at a message's first byte.
    pub fn new(protocol: Protocol, limits: Limits) -> Self {
        Self { protocol, limits, at: 0, head: None, open: Vec::new(), elements: 0, binary: Vec::new() }
    }

    /// The message's head, once enough of it was there. It stays known when what follows is at fault.
    pub fn head(&self) -> Option<Head> {
        self.head
    }

    /// The arguments of a Compact message that was scanned to its end, in Binary.
    pub fn into_binary(self) -> Vec<u8> {
        self.binary
    }

    /// Looks at what is there of the message: all of it from its start, at least as much as before.
    ///
    /// # Errors
    /// The message cannot be decoded, or is beyond a limit; where it ends is then unknown.
    pub fn run(&mut self, message: &[u8]) -> Result<Progress, Fault> {
        let mut cursor = Cursor { bytes: message, at: self.at, binary: std::mem::take(&mut self.binary) };
        while self.head.is_none() || !self.open.is_empty() {
            let written = cursor.binary.len();
            if let Err(stop) = self.step(&mut cursor) {
                // A step is taken whole or not at all.
                cursor.binary.truncate(written);
                self.binary = cursor.binary;
                return match stop {
                    Stop::Need(bytes) if bytes <= self.limits.message_bytes_max => Ok(Progress::Need(bytes)),
                    Stop::Need(_) => Err(Fault::MessageTooLong(self.limits.message_bytes_max)),
                    Stop::Fault(fault) => Err(fault),
                };
            }
            self.at = cursor.at;
        }
        self.binary = cursor.binary;
        Ok(Progress::End(self.at))
    }

    fn step(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Stop> {
        let Some(&level) = self.open.last() else {
            let head = self.read_head(cursor)?;
            self.head = Some(head);
            return self.enter(Level::Struct(0)).map_err(Stop::from);
        };
        let (next, value) = match level {
            Level::Struct(last_id) => match self.read_field(cursor, last_id)? {
                None => (None, None),
                Some((id, ty)) => (Some(Level::Struct(id)), Some(ty)),
            },
            Level::Items(_, 0) | Level::Pairs(_, _, 0) => (None, None),
            Level::Items(ty, left) => (Some(Level::Items(ty, left - 1)), Some(ty)),
            Level::Pairs(key, value, left) => {
                (Some(Level::Pairs(key, value, left - 1)), Some(if left % 2 == 0 { key } else { value }))
            }
        };
        let Some(value) = value else {
            self.open.pop();
            return Ok(());
        };
        let inner = self.read_value(cursor, value)?;
        self.elements += 1;
        if self.elements > self.limits.elements_max {
            return Err(Fault::TooManyElements(self.limits.elements_max).into());
        }
        if let (Some(level), Some(next)) = (self.open.last_mut(), next) {
            *level = next;
        }
        inner.map_or(Ok(()), |level| self.enter(level)).map_err(Stop::from)
    }

    fn enter(&mut self, level: Level) -> Result<(), Fault> {
        if self.open.len() == self.limits.depth_max {
            return Err(Fault::TooDeep(self.limits.depth_max));
        }
        self.open.push(level);
        Ok(())
    }

    fn read_head(&self, cursor: &mut Cursor<'_>) -> Result<Head, Stop> {
        let (kind, sequence_id, name) = match self.protocol {
            Protocol::Binary => {
                let [_, _, _, kind] = cursor.array()?;
                let name = cursor.name_of(|c| c.length())?;
                (kind, i32::from_be_bytes(cursor.array()?), name)
            }
            Protocol::OldBinary => {
                let name = cursor.name_of(|c| c.length())?;
                let [kind] = cursor.array()?;
                (kind, i32::from_be_bytes(cursor.array()?), name)
            }
            Protocol::Compact => {
                let [_, version_and_kind] = cursor.array()?;
                let sequence_id = cursor.varint(u32::MAX.into())? as u32 as i32;
                (version_and_kind >> 5, sequence_id, cursor.name_of(|c| c.compact_length())?)
            }
        };
        Ok(Head { kind, sequence_id, name: (name.start, name.end), arguments: cursor.at })
    }

    /// The next field's id and type; nothing at the struct's end.
    fn read_field(&self, cursor: &mut Cursor<'_>, last_id: i16) -> Result<Option<(i16, Type)>, Stop> {
        let [head] = cursor.array()?;
        if self.protocol != Protocol::Compact {
            if head == 0 {
                return Ok(None);
            }
            return Ok(Some((i16::from_be_bytes(cursor.array()?), Type::of_binary(head)?)));
        }
        let ty = match head & 0x0F {
            0 => {
                cursor.binary.push(0);
                return Ok(None);
            }
            value @ (1 | 2) => Type::BoolInHead(value == 1),
            code => Type::of_compact(code)?,
        };
        let id = match head >> 4 {
            0 => cursor.zigzag_i16()?,
            delta => last_id.checked_add(delta.into()).ok_or(Fault::FieldId)?,
        };
        cursor.binary.push(ty.to_binary());
        cursor.binary.extend(id.to_be_bytes());
        Ok(Some((id, ty)))
    }

    /// Passes over a value; of a container only its head, and returns the level to enter.
    fn read_value(&self, cursor: &mut Cursor<'_>, ty: Type) -> Result<Option<Level>, Stop> {
        match ty {
            Type::Struct => Ok(Some(Level::Struct(0))),
            Type::Set | Type::List => self.read_items(cursor).map(Some),
            Type::Map => self.read_pairs(cursor).map(Some),
            _ if self.protocol == Protocol::Compact => copy_compact_value(cursor, ty).map(|()| None),
            _ => skip_binary_value(cursor, ty).map(|()| None),
        }
    }

    fn read_items(&self, cursor: &mut Cursor<'_>) -> Result<Level, Stop> {
        let [head] = cursor.array()?;
        let (ty, count) = if self.protocol == Protocol::Compact {
            let count = match head >> 4 {
                15 => cursor.compact_length()?,
                count => count.into(),
            };
            (Type::of_compact(head & 0x0F)?, count)
        } else {
            let count = cursor.length()?;
            // Some writers give an empty list no type.
            (if count == 0 { Type::Bool } else { Type::of_binary(head)? }, count)
        };
        self.check_count(count)?;
        if self.protocol == Protocol::Compact {
            cursor.binary.push(ty.to_binary());
            cursor.binary.extend((count as u32).to_be_bytes()); // bounded by the limit on elements
        }
        Ok(Level::Items(ty, count))
    }

    fn read_pairs(&self, cursor: &mut Cursor<'_>) -> Result<Level, Stop> {
        let (key, value, count) = if self.protocol == Protocol::Compact {
            let count = cursor.compact_length()?;
            self.check_count(count)?;
            let types = if count == 0 { [0x11] } else { cursor.array()? }; // an empty map has no types
            let (key, value) = (Type::of_compact(types[0] >> 4)?, Type::of_compact(types[0] & 0x0F)?);
            cursor.binary.extend([key.to_binary(), value.to_binary()]);
            cursor.binary.extend((count as u32).to_be_bytes());
            (key, value, count)
        } else {
            let [key, value] = cursor.array()?;
            let count = cursor.length()?;
            self.check_count(count)?;
            let [key, value] = if count == 0 { [2, 2] } else { [key, value] };
            (Type::of_binary(key)?, Type::of_binary(value)?, count)
        };
        Ok(Level::Pairs(key, value, count * 2))
    }

    fn check_count(&self, count: usize) -> Result<(), Fault> {
        let max = self.limits.elements_max;
        if count > max { Err(Fault::TooManyElements(max)) } else { Ok(()) }
    }
}

fn skip_binary_value(cursor: &mut Cursor<'_>, ty: Type) -> Result<(), Stop> {
    let bytes = match ty {
        Type::Bool | Type::BoolInHead(_) | Type::I8 => 1,
        Type::I16 => 2,
        Type::I32 => 4,
        Type::I64 | Type::Double => 8,
        Type::Uuid => 16,
        Type::Binary => cursor.length()?,
        Type::Struct | Type::Map | Type::Set | Type::List => 0, // entered, not skipped
    };
    cursor.skip(bytes)
}

fn copy_compact_value(cursor: &mut Cursor<'_>, ty: Type) -> Result<(), Stop> {
    match ty {
        Type::BoolInHead(value) => cursor.binary.push(value.into()),
        Type::Bool => {
            let [value] = cursor.array()?;
            cursor.binary.push((value == 1).into());
        }
        Type::I16 => {
            let value = cursor.zigzag_i16()?;
            cursor.binary.extend(value.to_be_bytes());
        }
        Type::I32 => {
            let coded = cursor.varint(u32::MAX.into())? as u32;
            cursor.binary.extend(((coded >> 1) ^ (coded & 1).wrapping_neg()).to_be_bytes());
        }
        Type::I64 => {
            let coded = cursor.varint(u64::MAX)?;
            cursor.binary.extend(((coded >> 1) ^ (coded & 1).wrapping_neg()).to_be_bytes());
        }
        Type::I8 => cursor.copy(1)?,
        Type::Double => cursor.copy(8)?,
        Type::Uuid => cursor.copy(16)?,
        Type::Binary => {
            let length = cursor.compact_length()?;
            cursor.binary.extend((length as u32).to_be_bytes());
            cursor.copy(length)?;
        }
        Type::Struct | Type::Map | Type::Set | Type::List => {} // entered, not copied
    }
    Ok(())
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// See [`Scan::binary`].
    binary: Vec<u8>,
}

impl Cursor<'_> {
    fn skip(&mut self, count: usize) -> Result<(), Stop> {
        let end = self.at + count; // both are below 2^31
        if end > self.bytes.len() {
            return Err(Stop::Need(end));
        }
        self.at = end;
        Ok(())
    }

    fn copy(&mut self, count: usize) -> Result<(), Stop> {
        let start = self.at;
        self.skip(count)?;
        self.binary.extend_from_slice(&self.bytes[start..self.at]);
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let read = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>());
        let read = *read.ok_or(Stop::Need(self.at + N))?;
        self.at += N;
        Ok(read)
    }

    /// A length or count in Binary.
    fn length(&mut self) -> Result<usize, Stop> {
        let length = i32::from_be_bytes(self.array()?);
        Ok(usize::try_from(length).map_err(|_| Fault::NegativeLength(length))?)
    }

    /// A length or count in Compact: not signed on the wire, yet a signed 32-bit number to every reader.
    fn compact_length(&mut self) -> Result<usize, Stop> {
        let length = self.varint(u32::MAX.into())? as u32 as i32;
        Ok(usize::try_from(length).map_err(|_| Fault::NegativeLength(length))?)
    }

    fn name_of(&mut self, length: impl Fn(&mut Self) -> Result<usize, Stop>) -> Result<Range<usize>, Stop> {
        let length = length(self)?;
        if length > NAME_BYTES_MAX {
            return Err(Fault::NameTooLong(length).into());
        }
        let start = self.at;
        self.skip(length)?;
        std::str::from_utf8(&self.bytes[start..self.at]).map_err(|_| Fault::NameNotUtf8)?;
        Ok(start..self.at)
    }

    fn zigzag_i16(&mut self) -> Result<i16, Stop> {
        let coded = self.varint(u16::MAX.into())? as u16;
        Ok((coded >> 1) as i16 ^ -((coded & 1) as i16))
    }

    fn varint(&mut self, max: u64) -> Result<u64, Stop> {
        let mut value: u64 = 0;
        for shift in (0..70).step_by(7) {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7F);
            // Bits that a 64-bit number has no place for.
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return if value <= max { Ok(value) } else { Err(Fault::Varint.into()) };
            }
        }
        Err(Fault::Varint.into())
    }
}
