//! Writes a reply in the form of its call.

use bytes::{BufMut, BytesMut};
use pilota::{
    FastStr,
    thrift::{
        ApplicationException, Message, TMessageIdentifier, TMessageType, TOutputProtocol, ThriftException,
        binary::TBinaryProtocol, compact::TCompactOutputProtocol,
    },
};
use volo_gen::rpc::{ImServicePullResultSend, ImServiceSendResultSend};

use super::{
    call::kind,
    form::Protocol,
    receive::{Envelope, ReplyTo},
    theader, ttheader,
};

/// What a call is answered with.
#[derive(Debug)]
pub enum Answer {
    /// Send's result.
    Send(ImServiceSendResultSend),
    /// Pull's result.
    Pull(ImServicePullResultSend),
    /// Why there is none.
    Exception(ApplicationException),
}

impl Answer {
    /// About how much memory it takes, in bytes.
    pub fn bytes(&self) -> usize {
        let Self::Pull(ImServicePullResultSend::Ok(page)) = self else { return 0 };
        let text = |text: &Option<FastStr>| text.as_ref().map_or(0, |text| text.len());
        page.messages.iter().flatten().map(|m| 128 + text(&m.chat) + text(&m.text) + text(&m.sender)).sum()
    }

    fn kind(&self) -> u8 {
        if matches!(self, Self::Exception(_)) { kind::EXCEPTION } else { kind::REPLY }
    }
}

/// Appends the reply to `out`.
///
/// # Errors
/// Never for a scanned call; the type is the encoder's.
pub fn write(out: &mut BytesMut, to: &ReplyTo, answer: &Answer) -> Result<(), ThriftException> {
    match to.envelope {
        Envelope::None => write_message(out, to, answer),
        Envelope::Frame => with_length(out, |out| write_message(out, to, answer)),
        Envelope::THeader(header) => with_length(out, |out| {
            theader::write(out, &header);
            write_message(out, to, answer)
        }),
        Envelope::TTHeader(header, framed) => with_length(out, |out| {
            ttheader::write(out, &header, answer.kind());
            if framed { with_length(out, |out| write_message(out, to, answer)) } else { write_message(out, to, answer) }
        }),
    }
}

/// Writes what `content` writes, and its length in front of it.
fn with_length<E>(out: &mut BytesMut, content: impl FnOnce(&mut BytesMut) -> Result<(), E>) -> Result<(), E> {
    let start = out.len();
    out.put_u32(0);
    content(out)?;
    let length = (out.len() - start - 4) as u32; // replies are bounded by the page's budget, far below 4 GiB
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn write_message(out: &mut BytesMut, to: &ReplyTo, answer: &Answer) -> Result<(), ThriftException> {
    let message_type = if answer.kind() == kind::REPLY { TMessageType::Reply } else { TMessageType::Exception };
    let ident = TMessageIdentifier::new(to.name.clone(), message_type, to.sequence_id);
    match to.protocol {
        Protocol::Binary => write_body(&mut TBinaryProtocol::new(out, false), Some(&ident), answer),
        Protocol::Compact => write_body(&mut TCompactOutputProtocol::new(out, false), Some(&ident), answer),
        Protocol::OldBinary => {
            out.put_u32(to.name.len() as u32); // the call's name, which was no longer
            out.put_slice(to.name.as_bytes());
            out.put_u8(answer.kind());
            out.put_i32(to.sequence_id);
            write_body(&mut TBinaryProtocol::new(out, false), None, answer)
        }
    }
}

fn write_body<T: TOutputProtocol>(
    out: &mut T,
    ident: Option<&TMessageIdentifier>,
    answer: &Answer,
) -> Result<(), ThriftException> {
    if let Some(ident) = ident {
        out.write_message_begin(ident)?;
    }
    match answer {
        Answer::Send(result) => result.encode(out),
        Answer::Pull(result) => result.encode(out),
        Answer::Exception(e) => e.encode(out),
    }
}
