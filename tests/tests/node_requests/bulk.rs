//! F35, F36: whatever the interfaces do with packets, what comes out is what went in.

use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use netlab::{Cni, Family, Host, Pod, RpFilter, root_or_skip, tool_or_skip};
use tests::node::manifest::WEB;

use crate::bed::{Bed, READ_PUBLIC, Shape, policy};
use crate::http::Connection;

/// How much is sent each way. (A gigabyte takes too long on a busy machine, and shows no more.)
const OCTETS: usize = 24 << 20;

/// What stands at a place of what is sent: no two packets are alike.
fn octet(place: usize) -> u8 {
    #[expect(clippy::cast_possible_truncation, reason = "the low eight bits are wanted")]
    let octet = (place ^ place >> 8 ^ place >> 16) as u8;
    octet
}

/// Takes one upload, and gives the same back.
fn serve(pod: &Pod, listener: &TcpListener) -> Result<netlab::Task<()>> {
    let listener = listener.try_clone().context("sharing the listener")?;
    pod.spawn(move || {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut octet = [0];
            stream.read_exact(&mut octet)?;
            head.extend(octet);
        }
        let mut body = vec![0; OCTETS];
        stream.read_exact(&mut body).context("reading the upload")?;
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {OCTETS}\r\n\r\n")?;
        stream.write_all(&body).context("giving it back")?;
        // The other side ends it.
        let _end = stream.read(&mut [0])?;
        Ok(())
    })
}

fn exchange(client: &Pod, to: SocketAddr, mtu: u32) -> Result<()> {
    let mut connection = Connection::open(client, to)?;
    let (segment, headers) = (connection.segment()?, if to.is_ipv4() { 40 } else { 60 });
    // Options of TCP take up to 40 bytes of each.
    let full = mtu - headers;
    ensure!((full - 40..=full).contains(&segment), "segments of {segment} bytes");
    let body: Vec<u8> = (0..OCTETS).map(octet).collect();
    connection.send(
        format!("PUT /public/bulk HTTP/1.1\r\nHost: server\r\nContent-Length: {OCTETS}\r\n\r\n").as_bytes(),
    )?;
    connection.send(&body)?;
    let answer = connection.octets()?;
    ensure!(answer == body, "what came back is not what was sent");
    Ok(())
}

fn bulk(name: &str, cni: Cni, largest: u32, cases: &[(u32, &str)]) {
    let tools = ["nft", "nginx", "ethtool"];
    if !root_or_skip(name) || !tools.iter().all(|tool| tool_or_skip(tool, name)) {
        return;
    }
    let bed = Bed::new(name, Shape { mtu: largest, ..cni.into() });
    let rules = READ_PUBLIC.replace("GET", "PUT").replace("8080", "9090");
    bed.policies(&policy("server", "server", "ingress", &format!("{{action: Allow, {rules}}}")));
    assert_ne!(WEB, 9090, "nginx is there");
    // One for all that follows: a process that another test is about to start holds what is open here for a moment, and a port is
    // not free while it does.
    let listeners = bed.pods.each_ref().map(|pod| {
        pod.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, 9090)).context("listening")).unwrap()
    });
    for &(mtu, offload) in cases {
        for pod in [&bed.client, &bed.pods[0], &bed.pods[1]] {
            pod.ip(&format!("link set eth0 mtu {mtu}\n")).unwrap();
            let features =
                ["-K", "eth0", "tso", offload, "gso", offload, "gro", offload, "tx", offload, "rx", offload];
            pod.command("ethtool", &features, "").unwrap();
        }
        for server in [0, 1] {
            for family in Family::BOTH {
                let served = serve(&bed.pods[server], &listeners[server]).unwrap();
                let to = SocketAddr::new(bed.pods[server].address(family), 9090);
                let case = format!("mtu {mtu}, offload {offload}, server {server}, {family:?}");
                exchange(&bed.client, to, mtu).unwrap_or_else(|error| panic!("{case}: {error:#}"));
                served.join().unwrap_or_else(|error| panic!("{case}: the server: {error:#}"));
            }
        }
    }
}

const USUAL: [(u32, &str); 3] = [(1500, "on"), (1300, "on"), (1500, "off")];
const JUMBO: [(u32, &str); 2] = [(9000, "on"), (9000, "off")];

#[test]
fn f35_large_bodies_are_whole_on_a_bridge() {
    bulk("rq-bulk-bridge", Cni::Bridge { br_netfilter: false }, 1500, &USUAL);
}

#[test]
fn f35_large_bodies_are_whole_where_pods_are_routed() {
    bulk("rq-bulk-routed", Cni::Routed, 1500, &USUAL);
}

#[test]
fn f35_large_bodies_are_whole_in_jumbo_frames_on_a_bridge() {
    bulk("rq-jumbo-bridge", Cni::Bridge { br_netfilter: false }, 9000, &JUMBO);
}

#[test]
fn f35_large_bodies_are_whole_in_jumbo_frames_where_pods_are_routed() {
    bulk("rq-jumbo-routed", Cni::Routed, 9000, &JUMBO);
}

#[test]
fn f36_nodes_that_check_where_packets_come_from_change_nothing() {
    let name = "f36_nodes_that_check_where_packets_come_from_change_nothing";
    if !root_or_skip(name) || !tool_or_skip("nft", name) || !tool_or_skip("nginx", name) {
        return;
    }
    for (name, cni) in [("rq-rpf-b", Cni::Bridge { br_netfilter: false }), ("rq-rpf-r", Cni::Routed)] {
        let bed = Bed::new(name, cni);
        bed.policies(&policy("server", "server", "ingress", &format!("{{action: Allow, {READ_PUBLIC}}}")));
        for agent in &bed.agents {
            agent.node().set_rp_filter(RpFilter::Strict).unwrap();
        }
        for server in [0, 1] {
            let mut connection = Connection::open(&bed.client, bed.at(server, Family::V4, false)).unwrap();
            assert_eq!(connection.ask("GET", "/public/rpf").unwrap().status, 200, "{name}");
        }
    }
}
