//! IPv6 extension headers (RFC 8200 section 4), walked with a bound.

use super::{Frame, Headers, Reached, part};
use crate::family::Ipv6;
use crate::fault::Fault;

/// Where the last of them ends at most; longer chains have no use but to hide what follows.
const MOST: u16 = 54 + 512;

const HOP_BY_HOP: u8 = 0;
/// Stands for [`HOP_BY_HOP`] where it is allowed; the number is reserved (IANA).
const HOP_BY_HOP_FIRST: u8 = 255;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;
const HOST_IDENTITY: u8 = 139;
const SHIM6: u8 = 140;
const NONE: u8 = 59;

/// Walks from the fixed header to the transport header; fills in protocol, payload, part and identification.
///
/// How far the walk came is kept in the headers themselves, of whose values the verifier knows nothing: on the stack it
/// would follow each combination of extension headers apart from all others.
#[inline(never)]
pub(super) fn walk<F: Frame>(frame: &F, headers: &mut Headers<Ipv6>) -> Result<(), Fault> {
    // Only at the very beginning (RFC 8200 section 4.1).
    match headers.protocol {
        HOP_BY_HOP => headers.protocol = HOP_BY_HOP_FIRST,
        // What stands for something else here must not come from outside.
        HOP_BY_HOP_FIRST => return Err(Fault::Headers),
        _ => {}
    }
    // Written out, not a loop: kernels before 6.3 refuse a loop whose head is reached by falling through from its end
    // ("back-edge"), and where the compiler puts a loop's head cannot be said here.
    let mut reached = one(frame, headers);
    reached = reached.and_then(|| one(frame, headers));
    reached = reached.and_then(|| one(frame, headers));
    reached = reached.and_then(|| one(frame, headers));
    reached = reached.and_then(|| one(frame, headers));
    reached = reached.and_then(|| one(frame, headers));
    reached = reached.and_then(|| one(frame, headers));
    reached = reached.and_then(|| one(frame, headers));
    reached.finish()
}

/// Walks over one extension header.
#[inline(never)]
fn one<F: Frame>(frame: &F, headers: &mut Headers<Ipv6>) -> Reached {
    let at = usize::from(headers.payload);
    let size = match headers.protocol {
        HOP_BY_HOP | MOBILITY | HOST_IDENTITY | SHIM6 | NONE => return Reached::Bad(Fault::Headers),
        HOP_BY_HOP_FIRST | DESTINATION | AUTHENTICATION | ROUTING => {
            let Some([_, size, kind, segments]) = frame.bytes(at) else {
                return Reached::Bad(Fault::Malformed);
            };
            // Type 0 is forbidden (RFC 5095); with segments left, the destination is not the one judged here.
            if headers.protocol == ROUTING && (kind == 0 || segments != 0) {
                return Reached::Bad(Fault::Headers);
            }
            // In units of eight bytes beyond the first eight, for authentication of four beyond the first eight
            // (RFC 4302 section 2.2).
            let size = u16::from(size);
            if headers.protocol == AUTHENTICATION { size * 4 + 8 } else { size * 8 + 8 }
        }
        FRAGMENT => {
            // Twice in one packet: for no other use than to deceive.
            if headers.fragmented {
                return Reached::Bad(Fault::Headers);
            }
            let Some([_, _, high, low, a, b, c, d]) = frame.bytes(at) else {
                return Reached::Bad(Fault::Malformed);
            };
            let field = u16::from_be_bytes([high, low]);
            headers.fragmented = true;
            headers.offset = field >> 3;
            headers.id = u32::from_be_bytes([a, b, c, d]);
            headers.part = part(field & 1 != 0, headers.offset);
            8
        }
        _ => return Reached::End,
    };
    if u32::from(size) > headers.left {
        return Reached::Bad(Fault::Malformed);
    }
    let Some([next]) = frame.bytes(at) else { return Reached::Bad(Fault::Malformed) };
    if next == HOP_BY_HOP_FIRST {
        return Reached::Bad(Fault::Headers);
    }
    headers.left -= u32::from(size);
    headers.protocol = next;
    headers.extended = true;
    headers.payload += size;
    if headers.payload > MOST {
        return Reached::Bad(Fault::Headers);
    }
    // What follows in a later fragment is not a header.
    if headers.offset == 0 { Reached::Next } else { Reached::End }
}
