//! Who is asked about a connection: each end of it that is a pod of this node, as the packets that began it were judged there.

use std::io;
use std::net::{IpAddr, SocketAddr};

use datapath::abi::{Address, Direction, Transport};
use datapath::flow::{Flow, Side};
use datapath::interface::Interface;
use datapath::lookup::{Origin, Query};

use crate::kernel::tables::Source;

/// A question to the policy of one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    /// Whose policy: the number of its interface.
    pub(crate) interface: u32,
    /// What is asked.
    pub(crate) query: Query,
}

/// The ends that are asked, the client's first. None if the flow says that the server began: nothing was judged of what the client
/// would ask it.
pub(crate) fn asks<S: Source>(
    source: &S,
    flow: &Flow,
    side: Side,
    client: SocketAddr,
    server: SocketAddr,
) -> io::Result<Vec<Ask>> {
    if flow.began() != side {
        return Ok(Vec::new());
    }
    let from = flow.end(side).interface;
    let to = match flow.end(side.other()).interface {
        0 => source.local(address(server.ip()))?,
        judged => judged,
    };
    let row = if from == 0 { None } else { source.interface(from)? };
    let port = Some((Transport::Tcp, server.port()));
    let mut asks = Vec::with_capacity(2);
    if from != 0 {
        let is_own = from == to || row.is_some_and(|row| is_own(&row, server.ip()));
        let origin = if is_own { Origin::OwnAddress } else { Origin::Elsewhere };
        // A service shows its own address only where its backend is the node itself, and policy is about the backend.
        let (peer, port) = match source.backend(server)? {
            Some(backend) => (address(backend.ip()), Some((Transport::Tcp, backend.port()))),
            None => (address(server.ip()), port),
        };
        let query = Query { direction: Direction::Egress, peer, port, origin };
        asks.push(Ask { interface: from, query });
    }
    if to != 0 {
        let origin = match () {
            () if flow.is_of_node() => Origin::OwnNode,
            () if from == to => Origin::OwnAddress,
            () => Origin::Elsewhere,
        };
        // The node may have given the packet another source address on its way; policy is about the pod.
        let peer = row.and_then(|row| own(&row, client.ip())).unwrap_or_else(|| address(client.ip()));
        let query = Query { direction: Direction::Ingress, peer, port, origin };
        asks.push(Ask { interface: to, query });
    }
    Ok(asks)
}

/// As the maps key it.
fn address(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(ip) => Address::V4(ip.octets()),
        IpAddr::V6(ip) => Address::V6(ip.octets()),
    }
}

/// The interface's own address of a family.
fn own(row: &Interface, family: IpAddr) -> Option<Address> {
    match family {
        IpAddr::V4(_) => (row.ipv4 != [0; 4]).then_some(Address::V4(row.ipv4)),
        IpAddr::V6(_) => (row.ipv6 != [0; 16]).then_some(Address::V6(row.ipv6)),
    }
}

fn is_own(row: &Interface, ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => row.ipv4 == ip.octets(),
        IpAddr::V6(ip) => row.ipv6 == ip.octets() || row.link_local == ip.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::fake::Fake;
    use datapath::flow::End;

    const CLIENT: [u8; 4] = [10, 0, 0, 1];
    const SERVER: [u8; 4] = [10, 0, 0, 2];

    fn ends() -> (SocketAddr, SocketAddr) {
        (SocketAddr::from((CLIENT, 4000)), SocketAddr::from((SERVER, 80)))
    }

    fn judged(flow: Flow, side: Side, interface: u32) -> Flow {
        flow.judged(side, End { interface, judged: 1 }, 0)
    }

    fn asked(source: &Fake, flow: &Flow) -> Vec<Ask> {
        let (client, server) = ends();
        asks(source, flow, Side::Low, client, server).unwrap()
    }

    fn egress(interface: u32, origin: Origin) -> Ask {
        let (direction, peer) = (Direction::Egress, Address::V4(SERVER));
        Ask { interface, query: Query { direction, peer, port: Some((Transport::Tcp, 80)), origin } }
    }

    fn ingress(interface: u32, peer: [u8; 4], origin: Origin) -> Ask {
        let (direction, peer) = (Direction::Ingress, Address::V4(peer));
        Ask { interface, query: Query { direction, peer, port: Some((Transport::Tcp, 80)), origin } }
    }

    #[test]
    fn a_pod_that_asks_outside_is_asked_alone() {
        let source = Fake::new().with_interface(7, CLIENT);
        let flow = judged(Flow::begun_by(Side::Low), Side::Low, 7);
        assert_eq!(asked(&source, &flow), [egress(7, Origin::Elsewhere)]);
    }

    #[test]
    fn a_service_of_the_node_itself_is_asked_about_as_its_backend() {
        let source = Fake::new().with_interface(7, CLIENT);
        *source.backend.lock().unwrap() = Some(SocketAddr::from(([192, 0, 2, 1], 6443)));
        let flow = judged(Flow::begun_by(Side::Low), Side::Low, 7);
        let [Ask { query, .. }] = asked(&source, &flow)[..] else { panic!("one end") };
        assert_eq!(query.peer, Address::V4([192, 0, 2, 1]));
        assert_eq!(query.port, Some((Transport::Tcp, 6443)));
    }

    #[test]
    fn both_pods_are_asked_if_both_are_here_even_before_the_server_saw_a_packet() {
        let source = Fake::new().with_interface(7, CLIENT).with_interface(8, SERVER);
        let flow = judged(Flow::begun_by(Side::Low), Side::Low, 7);
        let both = [egress(7, Origin::Elsewhere), ingress(8, CLIENT, Origin::Elsewhere)];
        assert_eq!(asked(&source, &flow), both);
        assert_eq!(asked(&source, &judged(flow, Side::High, 8)), both);
    }

    #[test]
    fn a_client_elsewhere_is_known_by_its_address() {
        let source = Fake::new().with_interface(8, SERVER);
        let flow = judged(Flow::begun_by(Side::Low), Side::High, 8);
        assert_eq!(asked(&source, &flow), [ingress(8, CLIENT, Origin::Elsewhere)]);
    }

    #[test]
    fn a_masqueraded_pod_is_known_by_its_own_address() {
        let source = Fake::new().with_interface(7, [10, 0, 0, 9]).with_interface(8, SERVER);
        let flow = judged(judged(Flow::begun_by(Side::Low), Side::Low, 7), Side::High, 8);
        assert_eq!(asked(&source, &flow)[1], ingress(8, [10, 0, 0, 9], Origin::Elsewhere));
    }

    #[test]
    fn the_own_node_and_the_own_pod_are_told_as_packets_tell_them() {
        let source = Fake::new().with_interface(8, SERVER);
        let flow = judged(Flow::begun_by(Side::Low).of_node(true), Side::High, 8);
        assert_eq!(asked(&source, &flow), [ingress(8, CLIENT, Origin::OwnNode)]);
        let source = Fake::new().with_interface(8, CLIENT);
        let flow = judged(judged(Flow::begun_by(Side::Low), Side::Low, 8), Side::High, 8);
        let own = [egress(8, Origin::OwnAddress), ingress(8, CLIENT, Origin::OwnAddress)];
        assert_eq!(asked(&source, &flow), own);
        let source = Fake::new().with_interface(7, SERVER);
        let flow = judged(Flow::begun_by(Side::Low), Side::Low, 7);
        assert_eq!(asked(&source, &flow)[0], egress(7, Origin::OwnAddress));
    }

    #[test]
    fn nobody_is_asked_about_a_connection_that_the_server_began() {
        let source = Fake::new().with_interface(7, CLIENT).with_interface(8, SERVER);
        let flow = judged(judged(Flow::begun_by(Side::High), Side::Low, 7), Side::High, 8);
        assert_eq!(asked(&source, &flow), []);
    }
}
