//! Apache Thrift's THeader.
//!
//! ```text
//!  0  length of all that follows, 4 bytes
//!  4  magic, 0F FF
//!  6  flags, 2 bytes
//!  8  sequence id, 4 bytes
//! 12  length of the header from 14 on, in words of 4 bytes, 2 bytes
//! 14  protocol id (0 Binary, 2 Compact), count of transforms, transforms (1 zlib): varints
//!     infos: not read
//!     payload: a message, through the transforms
//! ```
//!
//! Source: Apache Thrift's `doc/specs/HeaderFormat.md`.

use std::io::Read;

use bytes::{Buf, BufMut, Bytes, BytesMut, TryGetError};
use flate2::read::ZlibDecoder;

use super::Fault;

/// What a reply repeats of its call's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct THeader {
    flags: u16,
    sequence_id: i32,
    protocol_id: u8,
}

const MAGIC: u16 = 0x0FFF;
const ZLIB: u32 = 1;

/// What is inflated at a time.
const INFLATE_STEP_BYTES: u64 = 64 << 10;

/// Takes the header off a frame whose length was taken off already, and leaves the payload, at most `bytes_max` of
/// it once it is inflated.
pub fn read(frame: &mut Bytes, bytes_max: usize) -> Result<THeader, Fault> {
    let (header, transforms) = read_fixed(frame).map_err(|_: TryGetError| Fault::Header("it ends early"))??;
    for transform in transforms {
        if transform != ZLIB {
            return Err(Fault::Transform(transform));
        }
        *frame = inflate(frame, bytes_max)?;
    }
    Ok(header)
}

fn read_fixed(frame: &mut Bytes) -> Result<Result<(THeader, Vec<u32>), Fault>, TryGetError> {
    frame.try_get_u16()?; // the magic, by which the form was told
    let flags = frame.try_get_u16()?;
    let sequence_id = frame.try_get_i32()?;
    let length = usize::from(frame.try_get_u16()?) * 4;
    if length > frame.len() {
        return Ok(Err(Fault::Header("it is longer than its frame")));
    }
    let mut rest = frame.split_to(length);
    let protocol_id = varint(&mut rest)?;
    let Ok(protocol_id @ (0 | 2)) = u8::try_from(protocol_id) else {
        return Ok(Err(Fault::Header("a protocol that is neither Binary nor Compact")));
    };
    let transforms = (0..varint(&mut rest)?).map(|_| varint(&mut rest)).take(2).collect::<Result<Vec<_>, _>>()?;
    if transforms.len() > 1 {
        return Ok(Err(Fault::Header("more than one transform")));
    }
    Ok(Ok((THeader { flags, sequence_id, protocol_id }, transforms)))
}

fn varint(bytes: &mut Bytes) -> Result<u32, TryGetError> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let byte = bytes.try_get_u8()?;
        value |= u32::from(byte & 0x7F).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(TryGetError { requested: 1, available: 0 })
}

fn inflate(payload: &Bytes, bytes_max: usize) -> Result<Bytes, Fault> {
    let mut inflated = Vec::new();
    let beyond = bytes_max as u64 + 1;
    let mut payload = ZlibDecoder::new(&payload[..]).take(beyond);
    let mut step = || payload.by_ref().take(INFLATE_STEP_BYTES).read_to_end(&mut inflated).map_err(|_| Fault::Zlib);
    while step()? as u64 == INFLATE_STEP_BYTES {
        // Megabytes take milliseconds, and others wait for this core.
        std::thread::yield_now();
    }
    if inflated.len() > bytes_max { Err(Fault::MessageTooLong(bytes_max)) } else { Ok(inflated.into()) }
}

/// Writes a reply's header up to its payload; the length in front of it is the caller's to write.
pub fn write(out: &mut BytesMut, call: &THeader) {
    out.put_u16(MAGIC);
    out.put_u16(call.flags);
    out.put_i32(call.sequence_id);
    out.put_u16(1); // words from here on
    out.put_slice(&[call.protocol_id, 0, 0, 0]);
}
