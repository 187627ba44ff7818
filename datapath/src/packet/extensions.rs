//! IPv6 extension headers (RFC 8200 section 4), walked with a bound.

use super::{Frame, Headers, part};
use crate::family::Ipv6;
use crate::fault::Fault;

/// How many extension headers are walked. RFC 8200 section 4.1 has six kinds, one of which may occur twice.
const MOST: usize = 7;
/// How many bytes all of them may have together; longer chains have no use but to hide what follows.
const MOST_BYTES: usize = 512;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;
const HOST_IDENTITY: u8 = 139;
const SHIM6: u8 = 140;
const NONE: u8 = 59;

/// What a walk over the extension headers ends with.
pub(super) struct Walked {
    /// How many bytes follow the last extension header.
    pub(super) left: usize,
    /// Offset of the fragment, in units of eight bytes.
    pub(super) offset: u16,
}

/// Walks from the fixed header, behind which there are `length` bytes, to the transport header; fills in protocol, payload,
/// part and identification.
#[inline(never)]
pub(super) fn walk<F: Frame>(frame: &F, headers: &mut Headers<Ipv6>, length: usize) -> Result<Walked, Fault> {
    let begin = usize::from(headers.payload);
    let (mut walked, mut offset, mut fragmented) = (0_usize, 0_u16, false);
    for step in 0..=MOST {
        match headers.protocol {
            // Only at the very beginning (RFC 8200 section 4.1).
            HOP_BY_HOP if step > 0 => return Err(Fault::Headers),
            HOP_BY_HOP | DESTINATION | AUTHENTICATION => {}
            ROUTING => {
                let [_, _, kind, left] = frame.bytes(begin + walked).ok_or(Fault::Malformed)?;
                // Type 0 is forbidden (RFC 5095); with segments left, the destination is not the one judged here.
                if kind == 0 || left != 0 {
                    return Err(Fault::Headers);
                }
            }
            FRAGMENT => {
                // Twice in one packet: for no other use than to deceive.
                if fragmented || length < walked + 8 {
                    return Err(Fault::Headers);
                }
                let header: [u8; 8] = frame.bytes(begin + walked).ok_or(Fault::Malformed)?;
                let field = u16::from_be_bytes([header[2], header[3]]);
                (fragmented, offset) = (true, field >> 3);
                headers.id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
                headers.part = part(field & 1 != 0, offset);
                headers.protocol = header[0];
                headers.extended = true;
                walked += 8;
                if offset != 0 {
                    break;
                }
                continue;
            }
            MOBILITY | HOST_IDENTITY | SHIM6 | NONE => return Err(Fault::Headers),
            _ => break,
        }
        if step == MOST {
            return Err(Fault::Headers);
        }
        let [next, size] = frame.bytes(begin + walked).ok_or(Fault::Malformed)?;
        // In units of eight bytes beyond the first eight, for authentication of four beyond the first eight (RFC 4302).
        let size = usize::from(size);
        let own = if headers.protocol == AUTHENTICATION { size * 4 + 8 } else { size * 8 + 8 };
        walked += own;
        if walked > MOST_BYTES || walked > length {
            return Err(if walked > length { Fault::Malformed } else { Fault::Headers });
        }
        headers.protocol = next;
        headers.extended = true;
    }
    #[expect(clippy::cast_possible_truncation, reason = "at most 54 and 520")]
    let payload = (begin + walked) as u16;
    headers.payload = payload;
    Ok(Walked { left: length.saturating_sub(walked), offset })
}
