//! How long a new pod waits for its policy, and that nothing of it passes before.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::bed::{Bed, Running};

const PORT: u16 = 5354;
/// Pods that may send, and as many that may not.
const PODS: usize = 8;
/// How long after the last pod was created it is listened.
const LISTENED: Duration = Duration::from_secs(25);

/// From a container's first command to the arrival of the first datagram that its pod may send, in order.
pub(crate) struct Starts {
    pub(crate) delays: Vec<Duration>,
    /// Datagrams of pods that may send nothing.
    pub(crate) leaked: usize,
}

/// Creates pods one after the other, each of which sends from its first moment, beside policies that are in force already.
/// `server` is somebody whom no policy selects.
pub(crate) async fn starts(bed: &Bed, server: &Running) -> Starts {
    let outbound = |app: &str, egress| json!({"podSelector": {"matchLabels": {"app": app}}, "policyTypes": ["Egress"], "egress": egress});
    bed.policy("may-send", &outbound("may", json!([{"ports": [{"port": PORT, "protocol": "UDP"}]}]))).await;
    bed.policy("may-not", &outbound("may-not", json!([]))).await;
    let socket = server.inside.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).unwrap());
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    // The time at which it began is in each of its datagrams; one each millisecond or so.
    let script = format!(
        "begun=$EPOCHREALTIME; for ((i = 0; i < 15000; i++)); do echo $1 $begun > /dev/udp/{}/{PORT}; \
         busybox usleep 1000; done; busybox sleep 600",
        server.address
    );
    for number in 0..PODS {
        for app in ["may", "may-not"] {
            let command = json!({"command": ["bash", "-c", script, "bash", app]});
            bed.create_with(&format!("{app}-{number}"), app, "n1", command).await;
        }
    }
    tokio::task::spawn_blocking(move || listen(&socket)).await.unwrap()
}

fn listen(socket: &UdpSocket) -> Starts {
    let (mut first, mut leaked) = (BTreeMap::<IpAddr, Duration>::new(), 0);
    let begun = Instant::now();
    let mut bytes = [0; 128];
    while begun.elapsed() < LISTENED {
        let (length, from) = match socket.recv_from(&mut bytes) {
            Ok(received) => received,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(error) => unreachable!("a server: {error}"),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let text = String::from_utf8_lossy(&bytes[..length]);
        match text.trim().split_once(' ') {
            Some(("may", at)) => {
                let at = Duration::from_secs_f64(at.parse().unwrap());
                first.entry(from.ip()).or_insert(now.saturating_sub(at));
            }
            _ => leaked += 1,
        }
    }
    let mut delays: Vec<Duration> = first.into_values().collect();
    delays.sort_unstable();
    Starts { delays, leaked }
}

impl Starts {
    /// Fails unless every pod that may send did, and none that may not.
    pub(crate) fn check(&self, how: &str) {
        let middle = self.delays.get(self.delays.len() / 2);
        println!(
            "start: {how}: from a container's first command to its first datagram {middle:?}, at most {:?}; leaked {}",
            self.delays.last(),
            self.leaked
        );
        assert_eq!((self.delays.len(), self.leaked), (PODS, 0), "{how}");
    }
}

#[tokio::test]
async fn a_new_pod_sends_nothing_that_its_policy_denies() {
    let Some(bed) = Bed::new("start").await else { return };
    let [server] = bed.run([("server", "server", "n2")]).await;
    starts(&bed, &server).await.check("without the plugin");
}
