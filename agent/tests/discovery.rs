//! Discovery of endpoints in real network namespaces: needs root and iproute2.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at what it did not expect")]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use agent::endpoint::monitor::{Handle, Monitor, Settings};
use agent::endpoint::role::{Classifier, Options, Role};
use agent::endpoint::snapshot::{Snapshot, Veth};

/// Namespaces of one test, gone with it.
struct Lab {
    prefix: String,
    made: Vec<String>,
}

impl Lab {
    /// None without root, which `POLDER_STRICT=1` does not accept.
    fn new(test: &str) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            assert_ne!(std::env::var("POLDER_STRICT").as_deref(), Ok("1"), "{test} needs root");
            eprintln!("!!! SKIPPED: {test} needs root: nothing about discovery was tested");
            return None;
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Some(Self { prefix: format!("polder-disc-{}-{count}", std::process::id()), made: Vec::new() })
    }

    fn name(&self, short: &str) -> String {
        format!("{}-{short}", self.prefix)
    }

    fn namespace(&mut self, short: &str) {
        let name = self.name(short);
        ip(&["netns", "add", &name]);
        self.made.push(name);
    }

    fn remove(&mut self, short: &str) {
        let name = self.name(short);
        ip(&["netns", "del", &name]);
        self.made.retain(|made| *made != name);
    }

    /// Runs `ip` commands inside a namespace; `@x` stands for the full name of namespace `x`.
    fn batch(&self, short: &str, commands: &str) {
        let commands = commands.replace('@', &format!("{}-", self.prefix));
        let mut child = Command::new("ip")
            .args(["-n", &self.name(short), "-batch", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("ip");
        child.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "ip -batch in {short}:\n{commands}");
    }

    /// A pod as a CNI makes it: from inside its namespace, then addressed, then up.
    fn pod(&mut self, node: &str, pod: &str, host_name: &str, addresses: &[&str]) {
        self.namespace(pod);
        self.batch(pod, &format!("link add eth0 type veth peer name {host_name} netns @{node}\n"));
        self.batch(node, &format!("link set {host_name} up\n"));
        let added: Vec<String> =
            addresses.iter().map(|address| format!("addr add {address} dev eth0\n")).collect();
        self.batch(pod, &format!("link set lo up\nlink set eth0 up\n{}", added.concat()));
    }

    fn watch(&self, node: &str, settings: Settings) -> Handle {
        let netns = File::open(format!("/run/netns/{}", self.name(node))).unwrap();
        Monitor::spawn_in(netns.into(), settings).unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in &self.made {
            let removed = Command::new("ip").args(["netns", "del", name]).status();
            if !removed.is_ok_and(|status| status.success()) {
                eprintln!("namespace {name} is left behind");
            }
        }
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("ip");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Waits until the latest snapshot is as wanted.
fn until(handle: &Handle, within: Duration, what: &str, wanted: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
    let begun = Instant::now();
    loop {
        let snapshot = handle.snapshot();
        if wanted(&snapshot) {
            return snapshot;
        }
        assert!(begun.elapsed() < within, "{what}: not within {within:?}: {snapshot:#?}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn veth<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a Veth> {
    snapshot.veths.values().find(|veth| veth.name == name)
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

const SOON: Duration = Duration::from_secs(2);

/// With events from the pods' namespaces and without.
fn both_ways() -> [Settings; 2] {
    [true, false].map(|listen_everywhere| Settings { listen_everywhere, ..Settings::default() })
}

#[test]
fn pods_appear_with_addresses_and_mac_and_those_of_another_node_never_do() {
    for settings in both_ways() {
        let Some(mut lab) = Lab::new("pods_appear") else { return };
        lab.namespace("node");
        lab.namespace("other");
        lab.pod("node", "early", "veth-early", &["10.9.0.2/24"]);
        let handle = lab.watch("node", settings);
        assert_eq!(
            veth(&handle.snapshot(), "veth-early").unwrap().addresses,
            addresses(&["10.9.0.2"]),
            "the first snapshot is whole"
        );
        lab.pod("other", "foreign", "veth-foreign", &["10.9.1.2/24"]);
        lab.pod("node", "late", "veth-late", &["10.9.0.3/24", "fd00:9::3/64"]);
        lab.batch("late", "link set eth0 address 02:00:00:00:09:03\n");
        let wanted = addresses(&["10.9.0.3", "fd00:9::3"]);
        let resync = handle.counters().listens_everywhere.load(Ordering::Relaxed);
        if !resync {
            handle.resync().unwrap();
        }
        let snapshot = until(&handle, SOON, "late pod", |snapshot| {
            veth(snapshot, "veth-late").is_some_and(|veth| {
                veth.addresses == wanted
                    && veth.mac == Some([2, 0, 0, 0, 9, 3])
                    && veth.up
                    && !veth.link_local.is_empty()
            })
        });
        assert_eq!(snapshot.veths.len(), 2);
        assert!(snapshot.devices.values().all(|device| device.name != "veth-foreign"));
        assert_eq!(handle.counters().reopened.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn a_pod_that_goes_and_comes_back_under_the_same_name_is_another_interface() {
    let Some(mut lab) = Lab::new("a_pod_that_goes") else { return };
    lab.namespace("node");
    let handle = lab.watch("node", Settings::default());
    let seen = |snapshot: &Snapshot| veth(snapshot, "veth1").is_some_and(|veth| !veth.addresses.is_empty());
    lab.pod("node", "pod", "veth1", &["10.9.0.2/24"]);
    let first = until(&handle, SOON, "pod", seen);
    lab.remove("pod");
    until(&handle, SOON, "pod gone", |snapshot| snapshot.veths.is_empty());
    lab.pod("node", "pod", "veth1", &["10.9.0.7/24"]);
    let second = until(&handle, SOON, "pod again", seen);
    let (first, second) = (veth(&first, "veth1").unwrap(), veth(&second, "veth1").unwrap());
    assert_ne!(first.interface, second.interface);
    assert_eq!(second.addresses, addresses(&["10.9.0.7"]));

    lab.batch("node", "link del veth1\n");
    until(&handle, SOON, "veth gone", |snapshot| snapshot.devices.len() == 1);
}

#[test]
fn an_address_that_changes_later_and_an_end_that_moves_are_followed() {
    let Some(mut lab) = Lab::new("an_address_that_changes") else { return };
    lab.namespace("node");
    lab.namespace("elsewhere");
    let handle = lab.watch("node", Settings::default());
    // Made here and moved, the other way in which CNIs do it.
    lab.batch("node", "link add veth1 type veth peer name tmp1\n");
    until(&handle, SOON, "pair", |snapshot| snapshot.devices.len() == 3 && snapshot.veths.is_empty());
    lab.namespace("pod");
    lab.batch("node", "link set tmp1 netns @pod\n");
    until(&handle, SOON, "moved", |snapshot| snapshot.veths.len() == 1 && snapshot.devices.len() == 2);
    lab.batch("pod", "addr add 10.9.0.2/24 dev tmp1\n");
    let at = |address: &'static str| {
        move |snapshot: &Snapshot| {
            veth(snapshot, "veth1").is_some_and(|veth| veth.addresses == addresses(&[address]))
        }
    };
    until(&handle, SOON, "first address", at("10.9.0.2"));
    lab.batch("pod", "addr del 10.9.0.2/24 dev tmp1\naddr add 10.9.0.3/24 dev tmp1\n");
    until(&handle, SOON, "second address", at("10.9.0.3"));
    lab.batch("pod", "link set tmp1 netns @elsewhere\n");
    until(&handle, SOON, "moved on", |snapshot| {
        veth(snapshot, "veth1").is_some_and(|veth| veth.addresses.is_empty())
    });
    lab.batch("elsewhere", "addr add 10.9.0.4/24 dev tmp1\n");
    until(&handle, SOON, "address there", at("10.9.0.4"));
    lab.batch("elsewhere", "link set tmp1 netns @node\n");
    until(&handle, SOON, "back", |snapshot| snapshot.veths.is_empty() && snapshot.devices.len() == 3);
}

#[test]
fn a_burst_of_veths_through_a_tiny_buffer_ends_complete() {
    let Some(mut lab) = Lab::new("a_burst_of_veths") else { return };
    lab.namespace("node");
    for settings in both_ways() {
        lab.namespace("pods");
        let handle = lab.watch("node", Settings { receive_buffer: 2304, ..settings });
        let commands: Vec<String> = (0..500)
            .map(|pod| {
                let address = format!("10.9.{}.{}", pod / 250, pod % 250 + 1);
                format!(
                    "link add p{pod} type veth peer name h{pod} netns @node\naddr add {address}/32 dev p{pod}\n"
                )
            })
            .collect();
        lab.batch("pods", &commands.concat());
        let begun = Instant::now();
        let snapshot = until(&handle, SOON, "500 veths with addresses", |snapshot| {
            snapshot.veths.len() == 500 && snapshot.veths.values().all(|veth| veth.addresses.len() == 1)
        });
        let distinct: BTreeSet<IpAddr> =
            snapshot.veths.values().flat_map(|veth| veth.addresses.clone()).collect();
        assert_eq!(distinct.len(), 500);
        let counters = handle.counters();
        eprintln!("complete {:?} after the last: {counters:?}", begun.elapsed());

        lab.remove("pods");
        until(&handle, SOON, "none left", |snapshot| snapshot.devices.len() == 1);
        // That was one transaction of the kernel's, faster than anyone can read.
        assert!(counters.lost_messages.load(Ordering::Relaxed) > 0, "the buffer was meant to be too small");
    }
}

#[test]
fn a_new_veth_is_shown_when_it_is_announced() {
    let Some(mut lab) = Lab::new("a_new_veth_is_shown") else { return };
    lab.namespace("node");
    lab.namespace("pods");
    let handle = lab.watch("node", Settings::default());
    let mut receiver = handle.subscribe();
    let mut latencies = Vec::new();
    for pod in 0..20 {
        std::thread::sleep(Duration::from_millis(30));
        receiver.mark_unchanged();
        // The command ends after the kernel announced the veth, so this counts from before the event.
        let begun = Instant::now();
        lab.batch("pods", &format!("link add p{pod} type veth peer name h{pod} netns @node\n"));
        let command = begun.elapsed();
        let name = format!("h{pod}");
        until(&handle, SOON, &name, |snapshot| veth(snapshot, &name).is_some());
        latencies.push(begun.elapsed().saturating_sub(command));
    }
    latencies.sort();
    eprintln!("shown after the command's end: median {:?}, most {:?}", latencies[10], latencies[19]);
    // 1 ms on an idle machine; a dump would come after many seconds.
    assert!(latencies[10] < Duration::from_millis(500), "{latencies:?}");
}

#[test]
fn uplinks_tunnels_and_bridges_have_their_roles_and_lose_them() {
    let Some(mut lab) = Lab::new("uplinks_tunnels") else { return };
    lab.namespace("node");
    lab.pod("node", "fabric", "eth0", &["192.168.50.1/24"]);
    lab.pod("node", "pod", "veth1", &["10.244.0.2/24"]);
    lab.batch(
        "node",
        "link set lo up\n\
         addr add 192.168.50.2/24 dev eth0\n\
         link add flannel.1 type vxlan id 1 dev eth0 dstport 8472 nolearning\n\
         link add cni0 type bridge\n\
         link set veth1 master cni0\n\
         addr add 10.244.0.1/24 dev cni0\n\
         link add near0 type veth peer name near1\n",
    );
    let handle = lab.watch("node", Settings::default());
    let mut classifier = Classifier::new(&Options::default()).unwrap();
    let named = |classifier: &Classifier, snapshot: &Snapshot| -> Vec<(String, Role)> {
        let roles = classifier.roles(snapshot);
        let mut named: Vec<_> =
            roles.iter().map(|(index, role)| (snapshot.devices[index].name.clone(), *role)).collect();
        named.sort();
        named
    };
    let expected = |eth0: Role| {
        [
            ("cni0", Role::Internal),
            ("eth0", eth0),
            ("flannel.1", Role::Outside),
            ("lo", Role::Internal),
            ("near0", Role::Internal),
            ("near1", Role::Internal),
            ("veth1", Role::Pod),
        ]
        .map(|(name, role)| (name.to_owned(), role))
    };
    let first = handle.snapshot();
    assert_eq!(named(&classifier, &first), expected(Role::Pod));
    let tunnel = first.devices.values().find(|device| device.name == "flannel.1").unwrap();
    assert_eq!((tunnel.kind.as_str(), tunnel.tunnel_port), ("vxlan", Some(8472)));
    assert!(first.own_addresses.is_superset(&addresses(&["127.0.0.1", "10.244.0.1"]).into_iter().collect()));
    let cni0 = first.devices.values().find(|device| device.name == "cni0").unwrap().interface;
    assert_eq!(veth(&first, "veth1").unwrap().master, Some(cni0));

    classifier.set_node_addresses(addresses(&["192.168.50.2"]).into_iter().collect());
    assert_eq!(named(&classifier, &first), expected(Role::Outside));
    classifier.set_node_addresses(BTreeSet::new());
    let eth0 = |snapshot: &Snapshot| -> bool {
        snapshot.devices.values().any(|device| device.name == "eth0" && device.has_default_route)
    };
    lab.batch("node", "route add default via 192.168.50.1\n");
    let routed = until(&handle, SOON, "default route", eth0);
    assert_eq!(named(&classifier, &routed), expected(Role::Outside));
    // The kernel does not announce that this takes the route away.
    lab.batch("node", "link set eth0 down\n");
    until(&handle, SOON, "no default route", |snapshot| !eth0(snapshot));
}
