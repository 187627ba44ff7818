//! Frames to send through a program.

use datapath::abi::{Address, Direction, Transport};

/// Where the IPv4 header begins, behind Ethernet.
const IP: usize = 14;

/// A frame between the pod and a peer, to a destination port.
pub(super) fn frame(direction: Direction, peer: Address, transport: Transport, port: u16) -> Vec<u8> {
    let mut frame = vec![0; 12];
    match peer {
        Address::V4(peer) => {
            let pod = [192, 0, 2, 200];
            let (source, destination) = ends(direction, peer, pod);
            frame.extend([0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, transport.ip_protocol(), 0, 0]);
            frame.extend(source);
            frame.extend(destination);
        }
        Address::V6(peer) => {
            let pod = [0xfd; 16];
            let (source, destination) = ends(direction, peer, pod);
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, transport.ip_protocol(), 64]);
            frame.extend(source);
            frame.extend(destination);
        }
    }
    frame.extend(40_000_u16.to_be_bytes());
    frame.extend(port.to_be_bytes());
    frame.extend([0; 16]);
    frame
}

fn ends<T>(direction: Direction, peer: T, pod: T) -> (T, T) {
    match direction {
        Direction::Ingress => (peer, pod),
        Direction::Egress => (pod, peer),
    }
}

/// Frames that the programs cannot judge, and that must therefore not pass.
pub(super) fn unreadable() -> Vec<(&'static str, Vec<u8>)> {
    let good = frame(Direction::Ingress, Address::V4([10, 0, 0, 7]), Transport::Tcp, 80);
    let changed = |at: usize, to: u8| {
        let mut frame = good.clone();
        frame[at] = to;
        frame
    };
    let mut extension = frame(Direction::Ingress, Address::V6([0xfd; 16]), Transport::Tcp, 80);
    extension[IP + 6] = 0;
    let mut vlan = good.clone();
    vlan.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
    vec![
        ("ARP", changed(13, 0x06)),
        ("a frame with a VLAN tag", vlan),
        ("ICMP", changed(IP + 9, 1)),
        ("a first fragment", changed(IP + 6, 0x20)),
        ("a later fragment", changed(IP + 7, 185)),
        ("a version that is not its type's", changed(IP, 0x65)),
        ("a header shorter than a header", changed(IP, 0x44)),
        ("an IPv4 packet without ports", good[..IP + 20].to_vec()),
        ("an IPv6 extension header", extension),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_the_peer_at_its_end_of_the_direction() {
        let peer = [10, 0, 0, 7];
        let to_pod = frame(Direction::Ingress, Address::V4(peer), Transport::Udp, 53);
        assert_eq!((to_pod.len(), &to_pod[IP + 12..IP + 16], to_pod[IP + 9]), (54, &peer[..], 17));
        let from_pod = frame(Direction::Egress, Address::V4(peer), Transport::Udp, 53);
        assert_eq!((&from_pod[IP + 16..IP + 20], &from_pod[IP + 22..IP + 24]), (&peer[..], &[0, 53][..]));
    }
}
