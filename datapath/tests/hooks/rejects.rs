//! What the sender of a rejected packet is told, to the byte, and read by a parser that is not ours.

use std::net::IpAddr;

use datapath::abi::Direction;
use datapath::family::{Ipv4, Ipv6};
use datapath::hook::{Act, Work};
use datapath::packet::{Headers, Readable};
use datapath::reject::{Answering, LONGEST, answer};
use datapath::verdict::Action;
use etherparse::{Icmpv4Type, Icmpv6Type, NetSlice, SlicedPacket, TransportSlice, icmpv4, icmpv6};

use crate::frames::{ACK, Datagram, FIN, PSH, RST, SYN, icmp, mac, ping, pong, sctp, tcp, udp};
use crate::world::{Bytes, OUTSIDE, World, four, six};

fn read<A: Readable>(frame: &[u8], empty: A) -> Headers<A> {
    let mut headers = Work::new(empty).headers;
    A::any(&Bytes(frame), &mut headers).unwrap();
    headers
}

fn told_by<A: Readable + Answering>(frame: &[u8], empty: A) -> Option<Vec<u8>> {
    let mut told = [0xaa; LONGEST];
    let length = answer(&Bytes(frame), &read(frame, empty), &mut told)?;
    Some(told[..length].to_vec())
}

fn told(packet: &Datagram) -> Option<Vec<u8>> {
    let frame = packet.bytes();
    if packet.source.is_ipv4() { told_by(&frame, Ipv4(0)) } else { told_by(&frame, Ipv6([0; 4])) }
}

/// Checks Ethernet and IP, and the checksum of whatever is in it.
fn checked<'a>(frame: &'a [u8], about: &Datagram) -> SlicedPacket<'a> {
    let parsed = SlicedPacket::from_ethernet(frame).unwrap();
    assert_eq!(frame[..6], about.mac);
    assert_eq!(frame[6..12], mac(about.destination));
    match (parsed.net.as_ref().unwrap(), about.source, about.destination) {
        (NetSlice::Ipv4(ip), IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header = ip.header();
            assert_eq!((header.source_addr(), header.destination_addr()), (destination, source));
            assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
            assert_eq!(usize::from(header.total_len()), frame.len() - 14);
            assert!(header.dont_fragment() && header.ttl() == 64);
        }
        (NetSlice::Ipv6(ip), IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = ip.header();
            assert_eq!((header.source_addr(), header.destination_addr()), (destination, source));
            assert_eq!(usize::from(header.payload_length()), frame.len() - 54);
            assert_eq!(header.hop_limit(), 64);
        }
        other => panic!("{other:?}"),
    }
    parsed
}

/// A segment with sequence number 0x1000, acknowledgement 0x2000 and so much data.
fn segment(own: IpAddr, peer: IpAddr, flags: u8, data: usize) -> Datagram {
    let mut packet = tcp((own, 40_000), (peer, 80), flags);
    packet.payload.resize(20 + data, 7);
    packet
}

fn reset_to(packet: &Datagram) -> (u32, u32, bool) {
    let frame = told(packet).unwrap();
    let parsed = checked(&frame, packet);
    let Some(TransportSlice::Tcp(tcp)) = parsed.transport else { panic!("{parsed:?}") };
    assert_eq!((tcp.source_port(), tcp.destination_port()), (80, 40_000));
    let (header, payload) = (tcp.to_header(), tcp.payload());
    let sum = match parsed.net.unwrap() {
        NetSlice::Ipv4(ip) => header.calc_checksum_ipv4(&ip.header().to_header(), payload).unwrap(),
        NetSlice::Ipv6(ip) => header.calc_checksum_ipv6(&ip.header().to_header(), payload).unwrap(),
        NetSlice::Arp(_) => panic!("not IP"),
    };
    assert_eq!(tcp.checksum(), sum);
    assert!(tcp.rst() && !tcp.syn() && !tcp.fin() && payload.is_empty() && tcp.data_offset() == 5);
    (tcp.sequence_number(), tcp.acknowledgment_number(), tcp.ack())
}

#[test]
fn a_syn_is_reset_by_acknowledging_it() {
    for (own, peer) in [(four(1), OUTSIDE[0]), (six(1), OUTSIDE[1])] {
        assert_eq!(reset_to(&segment(own, peer, SYN, 0)), (0, 0x1001, true));
        assert_eq!(reset_to(&segment(own, peer, SYN, 100)), (0, 0x1065, true), "with data (RFC 7413)");
    }
}

#[test]
fn a_segment_in_the_middle_is_reset_at_the_sequence_number_that_its_sender_expects() {
    for (own, peer) in [(four(1), OUTSIDE[0]), (six(1), OUTSIDE[1])] {
        for flags in [ACK, ACK | PSH, ACK | FIN, SYN | ACK] {
            assert_eq!(reset_to(&segment(own, peer, flags, 33)), (0x2000, 0, false));
        }
    }
}

#[test]
fn padding_of_a_short_frame_is_not_acknowledged() {
    let packet = segment(four(1), OUTSIDE[0], SYN, 0);
    let mut frame = packet.bytes();
    frame.resize(60, 0);
    let told = told_by(&frame, Ipv4(0)).unwrap();
    let parsed = checked(&told, &packet);
    let Some(TransportSlice::Tcp(tcp)) = parsed.transport else { panic!("{parsed:?}") };
    assert_eq!(tcp.acknowledgment_number(), 0x1001);
}

#[test]
fn other_protocols_are_told_that_it_is_prohibited() {
    for (own, peer) in [(four(1), OUTSIDE[0]), (six(1), OUTSIDE[1])] {
        let packets = [
            udp((own, 40_000), (peer, 53)),
            sctp((own, 40_000), (peer, 53)),
            ping(own, peer, 7),
            Datagram::new(own, peer, 112, vec![5; 40]),
        ];
        for packet in packets {
            let frame = told(&packet).unwrap();
            let parsed = checked(&frame, &packet);
            let quoted = if own.is_ipv4() { 28 } else { 48 };
            let about = &packet.bytes()[14..14 + quoted];
            match parsed.transport.unwrap() {
                TransportSlice::Icmpv4(icmp) => {
                    let prohibited = icmpv4::DestUnreachableHeader::FilterProhibited;
                    assert_eq!(icmp.icmp_type(), Icmpv4Type::DestinationUnreachable(prohibited));
                    assert_eq!(icmp.payload(), about);
                    let expected = icmp.icmp_type().calc_checksum(icmp.payload());
                    assert_eq!(icmp.checksum(), expected);
                }
                TransportSlice::Icmpv6(icmp) => {
                    let prohibited = icmpv6::DestUnreachableCode::Prohibited;
                    assert_eq!(icmp.icmp_type(), Icmpv6Type::DestinationUnreachable(prohibited));
                    assert_eq!(icmp.payload(), about);
                    let NetSlice::Ipv6(ip) = parsed.net.unwrap() else { panic!("not IPv6") };
                    let (source, destination) = (ip.header().source(), ip.header().destination());
                    let sum = icmp.icmp_type().calc_checksum(source, destination, icmp.payload()).unwrap();
                    assert_eq!(icmp.checksum(), sum);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_datagram_behind_options_or_extension_headers_is_answered_too() {
    let mut packet = udp((four(1), 40_000), (OUTSIDE[0], 53));
    packet.options = vec![0x94, 4, 0, 0];
    checked(&told(&packet).unwrap(), &packet);
    let mut packet = segment(six(1), OUTSIDE[1], SYN, 5);
    packet.extensions = vec![(60, vec![0, 1, 4, 0, 0, 0, 0])];
    assert_eq!(reset_to(&packet), (0, 0x1006, true));
}

#[test]
fn a_quote_of_a_packet_with_options_holds_its_ports() {
    // Without the options, so that the receiver finds the ports behind twenty bytes.
    let mut packet = udp((four(1), 40_000), (OUTSIDE[0], 53));
    packet.options = vec![0x94, 4, 0, 0];
    let frame = told(&packet).unwrap();
    let quote = &frame[14 + 28..];
    assert_eq!((quote[0], &quote[20..24]), (0x45, &[0x9c, 0x40, 0, 53][..]));
}

#[test]
fn nothing_is_told_about_errors_resets_answers_later_fragments_and_what_many_get() {
    for (own, peer) in [(four(1), OUTSIDE[0]), (six(1), OUTSIDE[1])] {
        let many: IpAddr = if own.is_ipv4() { "224.0.0.1" } else { "ff02::1" }.parse().unwrap();
        let errors: &[u8] = if own.is_ipv4() { &[3, 4, 5, 11, 12] } else { &[1, 2, 3, 4, 137] };
        let mut silent: Vec<Datagram> = errors.iter().map(|kind| icmp(own, peer, *kind, &[0; 40])).collect();
        silent.extend([
            tcp((own, 40_000), (peer, 80), RST),
            tcp((own, 40_000), (peer, 80), RST | ACK),
            pong(own, peer, 7),
            udp((own, 40_000), (many, 53)),
            tcp((own, 40_000), (many, 80), SYN),
            Datagram::new(own, peer, 17, vec![0; 64]).fragment(5, 8, false),
        ]);
        for packet in silent {
            assert_eq!(told(&packet), None, "{packet:?}");
        }
    }
    assert_eq!(told(&udp((four(1), 40_000), ("255.255.255.255".parse().unwrap(), 53))), None);
    assert_eq!(told(&udp(("0.0.0.0".parse().unwrap(), 40_000), (OUTSIDE[0], 53))), None);
}

#[test]
fn a_rule_that_rejects_says_so_and_the_answer_passes_the_hook_of_the_pod_it_speaks_for() {
    use datapath::mark::Mark;
    for (own, peer) in [(four(1), OUTSIDE[0]), (six(1), OUTSIDE[1])] {
        let mut world = World::new(1);
        world.close(1);
        for direction in Direction::ALL {
            world.rule((1, direction), Some(peer), None, Action::Reject);
        }
        let sent = udp((own, 40_000), (peer, 53));
        let seen = world.out_of(1, &sent.bytes());
        assert_eq!(
            (seen.act, seen.cause.and_then(datapath::fault::Cause::name)),
            (Act::Reject, Some("rule_rejects"))
        );
        let back = told(&sent).unwrap();
        assert!(world.to_pod(1, &back, Mark::Judged(1)).passed());
        let got = tcp((peer, 40_000), (own, 80), SYN);
        assert_eq!(world.to_pod(1, &got.bytes(), Mark::Outside).act, Act::Reject);
    }
}
