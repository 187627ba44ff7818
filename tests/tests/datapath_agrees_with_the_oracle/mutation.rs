//! Frames, made wrong.

use crate::frames::Datagram;

/// A small generator: what is drawn depends on the seed only.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// One of `0..of`.
    pub(crate) fn roll(&mut self, of: usize) -> usize {
        // Xorshift (Marsaglia 2003).
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or_default() % of
    }

    pub(crate) fn byte(&mut self) -> u8 {
        u8::try_from(self.roll(256)).unwrap_or_default()
    }
}

/// A variant of a packet: with other headers in between, in pieces, tagged, cut, or with bytes changed.
pub(crate) fn variant(packet: &Datagram, dice: &mut Dice) -> Vec<u8> {
    let mut packet = packet.clone();
    for _ in 0..=dice.roll(2) {
        match dice.roll(6) {
            0 => packet.options = options(dice),
            1 => packet.extensions = (0..=dice.roll(8)).map(|_| extension(dice)).collect(),
            2 => {
                let offset = [0, 0, 1, 8][dice.roll(4)];
                packet.fragment = Some((5, offset, dice.roll(2) == 0));
            }
            3 => packet.protocol = dice.byte(),
            4 => packet.payload.truncate(dice.roll(packet.payload.len() + 1)),
            _ => packet.hops = dice.byte(),
        }
    }
    let mut frame = packet.bytes();
    match dice.roll(8) {
        0 => frame.truncate(dice.roll(frame.len())),
        1 => {
            let tag = [[0x81, 0x00], [0x88, 0xa8], [0x91, 0x00]][dice.roll(3)];
            frame.splice(12..12, [tag[0], tag[1], 0, 0]);
        }
        2..=4 if !frame.is_empty() => {
            for _ in 0..=dice.roll(3) {
                let at = dice.roll(frame.len());
                frame[at] = dice.byte();
            }
        }
        5 => {
            // Any bit of the headers that matter most.
            let at = 12 + dice.roll(frame.len().min(74) - 12);
            frame[at] ^= 1 << dice.roll(8);
        }
        6 => frame.iter_mut().skip(14 + dice.roll(40)).for_each(|byte| *byte = dice.byte()),
        _ => {}
    }
    frame
}

fn options(dice: &mut Dice) -> Vec<u8> {
    let words = 1 + dice.roll(10);
    let kinds = [0, 1, 7, 68, 130, 131, 137, 148];
    let mut options: Vec<u8> = (0..words * 4).map(|_| dice.byte()).collect();
    options[0] = kinds[dice.roll(kinds.len())];
    options[1] = [2, 4, 1, 40][dice.roll(4)];
    if dice.roll(2) == 0 {
        options.fill(1);
    }
    options
}

fn extension(dice: &mut Dice) -> (u8, Vec<u8>) {
    let kind = [0, 60, 43, 44, 51, 50, 59, 135, 255][dice.roll(9)];
    let mut rest: Vec<u8> = vec![0; 7];
    match kind {
        43 => (rest[1], rest[2]) = ([0, 2, 4][dice.roll(3)], u8::from(dice.roll(2) == 0)),
        44 => rest[2] = [0, 0, 0, 1, 8][dice.roll(5)],
        51 => {
            rest[0] = 1;
            rest.extend([0; 4]);
        }
        _ => rest[0] = [0, 0, 0, 0, 1, 200][dice.roll(6)],
    }
    (kind, rest)
}
