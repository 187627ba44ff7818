//! Content to number: the ids of rule sets and identities are derived from what they stand for, so that a compile from
//! nothing, an incremental one and one after a restart arrive at the same tables.

use std::hash::Hash;

use siphasher::sip128::{Hasher128, SipHasher13};

/// A digest of 128 bits: equal digests are taken for equal content.
pub(crate) type Digest = u128;

/// The digest of a value.
pub(crate) fn digest<T: Hash + ?Sized>(value: &T) -> Digest {
    let mut hasher = SipHasher13::new();
    value.hash(&mut hasher);
    hasher.finish128().as_u128()
}

/// A number of `bits` bits for content with this digest.
///
/// `attempt` is raised by the caller when the number is taken by other live content. That needs a collision of the low
/// bits of a digest, so in practice it stays 0, and the number depends on the content alone.
pub(crate) fn number(content: Digest, attempt: u32, bits: u32) -> u64 {
    let mixed = if attempt == 0 { content } else { digest(&(content, attempt)) };
    #[expect(clippy::cast_possible_truncation, reason = "the low 64 bits are wanted")]
    let low = mixed as u64;
    low & (u64::MAX >> (64 - bits))
}
