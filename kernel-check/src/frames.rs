//! Frames of the kinds that a pod sends, and some that none should.

/// Ethernet addresses, without the type: to `02:..:02` from `02:..:01`.
const ETHERNET: [u8; 12] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

/// A frame that most programs have something to do with.
pub(crate) fn plain() -> Vec<u8> {
    ipv4(TCP, 0, &tcp())
}

/// Every kind, with its name.
pub(crate) fn all() -> Vec<(&'static str, Vec<u8>)> {
    let vlan = [&ETHERNET[..], &[0x81, 0x00, 0x00, 0x05], &plain()[12..]].concat();
    let mut extended = ipv6(0, &[&[TCP, 0, 1, 4, 0, 0, 0, 0][..], &tcp()].concat());
    extended.truncate(14 + 40 + 8 + 20);
    let changed = |at: usize, to: u8| {
        let mut frame = ipv4(TCP, 0, &[]);
        frame[at] = to;
        frame
    };
    vec![
        ("TCP", plain()),
        ("UDP", ipv4(UDP, 0, &udp())),
        ("SCTP", ipv4(SCTP, 0, &sctp())),
        ("ICMP", ipv4(ICMP, 0, &[8, 0, 0, 0, 0, 1, 0, 1])),
        ("first fragment", ipv4(UDP, 0x2000, &udp())),
        ("later fragment", ipv4(UDP, 185, &udp())),
        ("TCP over IPv6", ipv6(TCP, &tcp())),
        ("UDP over IPv6", ipv6(UDP, &udp())),
        ("neighbour solicitation", ipv6(ICMPV6, &[&[135, 0, 0, 0, 0, 0, 0, 0][..], &[0xfd; 16]].concat())),
        ("extension header", extended),
        ("ARP", ethernet(0x0806, &[&[0, 1, 8, 0, 6, 4, 0, 1][..], &[10; 20]].concat())),
        ("VLAN", vlan),
        ("options cut off", changed(14, 0x4f)),
        ("wrong version", changed(14, 0x65)),
        ("TCP without a header", ipv4(TCP, 0, &[])),
        ("TCP over IPv6 without a header", ipv6(TCP, &[])),
        ("unknown type", ethernet(0x88b5, &[0; 46])),
    ]
}

fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    [&ETHERNET[..], &kind.to_be_bytes(), payload].concat()
}

fn ipv4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    #[expect(clippy::cast_possible_truncation, reason = "payloads here are short")]
    let length = 20 + payload.len() as u16;
    let mut header = vec![0x45, 0];
    header.extend(length.to_be_bytes());
    header.extend([0, 1]);
    header.extend(fragment.to_be_bytes());
    header.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    let sum = checksum(&header).to_be_bytes();
    header[10..12].copy_from_slice(&sum);
    ethernet(0x0800, &[&header[..], payload].concat())
}

/// The internet checksum of a header whose own checksum is zero (RFC 1071).
fn checksum(header: &[u8]) -> u16 {
    let mut sum: u32 = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    while let high @ 1.. = sum >> 16 {
        sum = (sum & 0xffff) + high;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the loop ends when nothing is left above 16 bits")]
    let sum = sum as u16;
    !sum
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    #[expect(clippy::cast_possible_truncation, reason = "payloads here are short")]
    let length = (payload.len() as u16).to_be_bytes();
    let address = |last: u8| [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    let header = [&[0x60, 0, 0, 0][..], &length, &[next, 64], &address(1), &address(2)].concat();
    ethernet(0x86dd, &[&header[..], payload].concat())
}

/// Port 40000 to port 80.
const PORTS: [u8; 4] = [0x9c, 0x40, 0, 80];

fn tcp() -> Vec<u8> {
    [&PORTS[..], &[0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]].concat()
}

fn udp() -> Vec<u8> {
    [&PORTS[..], &[0, 12, 0, 0, 1, 2, 3, 4]].concat()
}

fn sctp() -> Vec<u8> {
    [&PORTS[..], &[0; 8], &[1, 0, 0, 20], &[0; 16]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_with_its_checksum_sums_to_nothing() {
        assert_eq!(checksum(&plain()[14..34]), 0);
    }

    #[test]
    fn every_frame_is_one_that_kernels_take_for_a_run() {
        // `bpf_prog_test_run_skb` refuses less than an Ethernet header, and newer ones an IP type without an IP header.
        for (kind, frame) in all() {
            let least = match frame[12..14] {
                [0x08, 0x00] => 34,
                [0x86, 0xdd] => 54,
                _ => 15,
            };
            assert!(frame.len() >= least, "{kind}");
        }
    }
}
