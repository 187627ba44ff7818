//! Flows that are over: without waiting for minutes, as their entries are made older.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::ensure;
use aya::maps::{HashMap, Map, MapData};
use netlab::{Family, Host, Pod, root_or_skip};
use tests::node::Scene;
use tests::node::manifest::DNS;

use super::{BRIDGE, takeover};

/// Where `seen` and `lifetime` stand in a flow's entry (`datapath::flow::Flow`).
const SEEN: usize = 16;
const LIFETIME: usize = 20;
const FLOW: usize = 32;

/// A socket of a pod that waits for an answer only so long.
fn socket(pod: &Pod, family: Family, port: u16) -> UdpSocket {
    let socket = pod.run(|| Ok(UdpSocket::bind(SocketAddr::new(pod.address(family), port))?)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    socket
}

/// Whether a datagram from one socket arrives at the other.
fn arrives(from: &UdpSocket, to: &UdpSocket) -> bool {
    from.send_to(b"F25", to.local_addr().unwrap()).unwrap();
    let (mut buffer, from) = ([0; 8], from.local_addr().unwrap());
    // What came late before is not this one.
    to.recv_from(&mut buffer).is_ok_and(|(length, source)| (length, source) == (3, from))
}

/// Makes every flow of a family so old that it is over a moment ago; gives how many there were, and the longest lifetime.
fn age<const KEY: usize>(scene: &Scene, map: &str) -> (usize, u32)
where
    [u8; KEY]: aya::Pod,
{
    let bpffs = scene.polder.bpffs();
    let sets = takeover::sets(&bpffs);
    let path = bpffs.join(&sets[0]).join(map);
    let mut flows: HashMap<_, [u8; KEY], [u8; FLOW]> =
        HashMap::try_from(Map::HashMap(MapData::from_pin(path).unwrap())).unwrap();
    let entries: Vec<_> = flows.iter().map(Result::unwrap).collect();
    let mut longest = 0;
    for (key, mut flow) in entries.clone() {
        let word = |at: usize| u32::from_ne_bytes(flow[at..at + 4].try_into().unwrap());
        let (seen, lifetime) = (word(SEEN), word(LIFETIME));
        longest = longest.max(lifetime);
        flow[SEEN..SEEN + 4].copy_from_slice(&seen.wrapping_sub(lifetime + 1).to_ne_bytes());
        flows.insert(key, flow, 0).unwrap();
    }
    (entries.len(), longest)
}

#[test]
fn f25_an_answer_passes_only_to_the_very_question_and_only_for_a_time() {
    if !root_or_skip("f25_an_answer_passes_only_to_the_very_question_and_only_for_a_time") {
        return;
    }
    let scene = Scene::new("lf25", BRIDGE).unwrap();
    for family in Family::BOTH {
        let victim = socket(&scene.victim, family, 41_000);
        let [server, elsewhere] = [DNS, DNS + 1].map(|port| socket(&scene.attacker, family, port));
        assert!(!arrives(&server, &victim), "{family:?}: not asked");
        assert!(arrives(&victim, &server), "{family:?}: what the victim sends");
        assert!(!arrives(&elsewhere, &victim), "{family:?}: from another port");
        assert!(arrives(&server, &victim), "{family:?}: the answer");
        let (map, aged) = match family {
            Family::V4 => ("flows4", age::<16>(&scene, "flows4")),
            Family::V6 => ("flows6", age::<40>(&scene, "flows6")),
        };
        let begun = Instant::now();
        assert_eq!(aged.0, 1, "{family:?}: one flow");
        assert!(!arrives(&server, &victim), "{family:?}: after the flow's time");
        let gone = scene.polder.within("the flow to be removed", |client| {
            let status = client.status()?;
            let used = |map| status.maps.iter().find(|one| one.name == map).map_or(0, |one| one.used);
            ensure!(used(map) == 0, "{} flows", used(map));
            let shares: u64 = status.shares.iter().map(|share| share.used).sum();
            ensure!(shares == used("flows4") + used("flows6"), "{:?}", status.shares);
            Ok(())
        });
        gone.unwrap();
        println!("F25 {family:?}: lifetime {} ticks; removed {:?} after its end", aged.1, begun.elapsed());
        assert!(!arrives(&server, &victim), "{family:?}: removed");
        assert!(arrives(&victim, &server) && arrives(&server, &victim), "{family:?}: a new question");
    }
}
