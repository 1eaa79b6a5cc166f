//! CloudWeGo's TTHeader, which Kitex and Volo speak.
//!
//! ```text
//!  0  length of all that follows, 4 bytes
//!  4  magic, 10 00
//!  6  flags, 2 bytes
//!  8  sequence id, 4 bytes
//! 12  length of the header from 14 on, in words of 4 bytes, 2 bytes
//! 14  protocol id, 1 byte; count of transforms, 1 byte; transforms, 1 byte each
//!     infos: 01 key-value (count 2; length 2, key, length 2, value), 10 int-key-value (count 2; key 2, length 2,
//!     value), 11 token (length 2, value), 00 padding
//!     payload: a message, bare or framed
//! ```
//!
//! Source: <https://www.cloudwego.io/docs/kitex/reference/transport_protocol_ttheader/>

use bytes::{Buf, BufMut, Bytes, BytesMut, TryGetError};

use super::Fault;

/// What a reply repeats of its call's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TTHeader {
    flags: u16,
    sequence_id: i32,
    protocol_id: u8,
}

const MAGIC: u16 = 0x1000;
/// The key of the message's type among the infos with numbers as keys.
const MESSAGE_TYPE: u16 = 22;

mod info {
    pub const PADDING: u8 = 0x00;
    pub const KEY_VALUE: u8 = 0x01;
    pub const INT_KEY_VALUE: u8 = 0x10;
    pub const TOKEN: u8 = 0x11;
}

/// Takes the header off a frame whose length was taken off already, and leaves the payload.
pub fn read(frame: &mut Bytes) -> Result<TTHeader, Fault> {
    let (header, mut infos) = read_fixed(frame).map_err(|_: TryGetError| Fault::Header("it ends early"))??;
    while infos.has_remaining() {
        skip_info(&mut infos).map_err(|_| Fault::Header("an info ends early"))??;
    }
    Ok(header)
}

fn read_fixed(frame: &mut Bytes) -> Result<Result<(TTHeader, Bytes), Fault>, TryGetError> {
    frame.try_get_u16()?; // the magic, by which the form was told
    let flags = frame.try_get_u16()?;
    let sequence_id = frame.try_get_i32()?;
    let length = usize::from(frame.try_get_u16()?) * 4;
    if length > frame.len() {
        return Ok(Err(Fault::Header("it is longer than its frame")));
    }
    let mut infos = frame.split_to(length);
    let protocol_id = infos.try_get_u8()?;
    let transforms = usize::from(infos.try_get_u8()?);
    if transforms > 0 {
        return Ok(Err(Fault::Header("TTHeader has no transforms that are in use")));
    }
    Ok(Ok((TTHeader { flags, sequence_id, protocol_id }, infos)))
}

fn skip_info(infos: &mut Bytes) -> Result<Result<(), Fault>, TryGetError> {
    match infos.try_get_u8()? {
        info::PADDING => {}
        info::KEY_VALUE => {
            for _ in 0..infos.try_get_u16()? {
                skip_value(infos)?;
                skip_value(infos)?;
            }
        }
        info::INT_KEY_VALUE => {
            for _ in 0..infos.try_get_u16()? {
                infos.try_get_u16()?;
                skip_value(infos)?;
            }
        }
        info::TOKEN => skip_value(infos)?,
        _ => return Ok(Err(Fault::Header("an info of an unknown kind"))),
    }
    Ok(Ok(()))
}

fn skip_value(infos: &mut Bytes) -> Result<(), TryGetError> {
    let requested = usize::from(infos.try_get_u16()?);
    if requested > infos.len() {
        return Err(TryGetError { requested, available: infos.len() });
    }
    infos.advance(requested);
    Ok(())
}

/// Writes a reply's header up to its payload; the length in front of it is the caller's to write.
pub fn write(out: &mut BytesMut, call: &TTHeader, message_type: u8) {
    out.put_u16(MAGIC);
    out.put_u16(call.flags);
    out.put_i32(call.sequence_id);
    let digits = [b'0' + message_type];
    out.put_u16(3); // words from here on: 2 + 3 + 5 bytes and 2 of padding
    out.put_slice(&[call.protocol_id, 0, info::INT_KEY_VALUE, 0, 1]);
    out.put_u16(MESSAGE_TYPE);
    out.put_u16(digits.len() as u16);
    out.put_slice(&digits);
    out.put_slice(&[info::PADDING; 2]);
}
