//! A pod whose network is made by a chain of CNI plugins with `polder-cni` at its end; and what `polctl preflight` says of a
//! node on which others are at work.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use netlab::{
    Cni, Family, Greeting, Host, Lab, Outcome, Pod, Server, Sniffer, root_or_skip, tcp_connect, tool_or_skip,
};
use serde_json::{Value, json};
use tests::node::manifest::{self, WEB};
use tests::node::{Scene, program};

const BRIDGE: Cni = Cni::Bridge { br_netfilter: false };
/// How long the plugin may wait here, in seconds.
const TIMEOUT: u64 = 5;

/// Calls the plugin for a pod with these addresses; gives its exit code and its answer.
fn plugin(command: &str, socket: &Path, pod: &str, addresses: &[IpAddr], timeout: u64) -> (bool, Value) {
    let ips: Vec<Value> = addresses
        .iter()
        .map(|ip| json!({"address": format!("{ip}/{}", if ip.is_ipv4() { 24 } else { 64 })}))
        .collect();
    let configuration = json!({
        "cniVersion": "1.0.0", "name": "lab", "type": "polder-cni", "socket": socket, "timeoutSeconds": timeout,
        "prevResult": {"cniVersion": "1.0.0", "ips": ips}
    });
    let mut child = Command::new(program("polder-cni", "polder-cni").unwrap())
        .env("CNI_COMMAND", command)
        .env("CNI_ARGS", format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={pod}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(configuration.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.success(), serde_json::from_slice(&output.stdout).unwrap_or_default())
}

fn addresses(pod: &Pod) -> [IpAddr; 2] {
    [pod.ipv4().into(), pod.ipv6().into()]
}

#[test]
fn a_pod_that_the_cluster_knows_without_its_address_is_enforced_before_its_containers_start() {
    const NAME: &str =
        "a_pod_that_the_cluster_knows_without_its_address_is_enforced_before_its_containers_start";
    if !root_or_skip(NAME) {
        return;
    }
    let scene = Scene::new("cni-start", BRIDGE).unwrap();
    let _server = Server::tcp(&scene.victim, WEB, Greeting::None).unwrap();
    let mut took = Vec::new();
    for round in 0..10 {
        // As a pod that was started again: the cluster says its address of before.
        let name = format!("n{round}");
        let before = ["10.99.0.1".parse().unwrap(), "fd99::1".parse().unwrap()];
        let labels = if round % 2 == 0 { "app: a" } else { "app: z" };
        let text = manifest::pod_at("shop", &name, scene.node.name(), &before, labels);
        scene.polder.apply("new.yaml", &text).unwrap();
        let pod = scene.node.pod(&name).unwrap();
        let begun = Instant::now();
        let (ok, answer) = plugin("ADD", &scene.polder.socket(), &name, &addresses(&pod), TIMEOUT);
        took.push(begun.elapsed());
        assert!(ok, "{answer}\n{}", scene.polder.log());
        assert_eq!(answer["ips"].as_array().map(Vec::len), Some(2));
        // From here on its containers run.
        let status = scene.polder.status().unwrap();
        let endpoint =
            status.endpoints.iter().find(|one| one.pod.as_deref() == Some(&format!("shop/{name}")));
        assert_eq!(endpoint.map(|one| one.addresses.len()), Some(2), "{:?}", status.endpoints);
        for family in Family::BOTH {
            let outcome =
                tcp_connect(&pod, scene.victim.address(family), WEB, Duration::from_secs(2)).unwrap();
            let allowed = round % 2 == 0;
            assert_eq!(outcome == Outcome::Connected, allowed, "{name} {family:?}: {outcome:?}");
        }
        let (ok, _) = plugin("DEL", &scene.polder.socket(), &name, &addresses(&pod), TIMEOUT);
        assert!(ok);
        pod.delete().unwrap();
    }
    took.sort_unstable();
    println!(
        "polder-cni ADD: p50 {:?}, longest {:?}, of {}",
        took[took.len() / 2],
        took[took.len() - 1],
        took.len()
    );
}

#[test]
fn an_address_that_is_given_anew_brings_no_rights_of_the_pod_before() {
    if !root_or_skip("an_address_that_is_given_anew_brings_no_rights_of_the_pod_before") {
        return;
    }
    let scene = Scene::new("cni-reuse", BRIDGE).unwrap();
    let _server = Server::tcp(&scene.victim, WEB, Greeting::None).unwrap();
    let sandbox = scene.node.sandbox("new").unwrap();
    let given = [sandbox.ipv4().into(), sandbox.ipv6().into()];
    // The cluster still says that a friend runs with this address, and has not said any of the new pod's.
    let stale = manifest::pod_at("shop", "gone", scene.node.name(), &given, "app: a")
        + &manifest::pod_at("shop", "new", scene.node.name(), &["10.99.0.2".parse().unwrap()], "app: z");
    scene.polder.apply("stale.yaml", &stale).unwrap();
    let pod = sandbox.attach().unwrap();
    let (ok, answer) = plugin("ADD", &scene.polder.socket(), "new", &given, TIMEOUT);
    assert!(ok, "{answer}\n{}", scene.polder.log());
    let sniffer = Sniffer::at(&scene.victim, |packet: &_| netlab::Packet::is_syn(packet)).unwrap();
    for family in Family::BOTH {
        let outcome =
            tcp_connect(&pod, scene.victim.address(family), WEB, Duration::from_millis(700)).unwrap();
        assert_ne!(outcome, Outcome::Connected, "{family:?}");
    }
    assert_eq!(sniffer.settled(Duration::from_millis(200)).unwrap(), 0, "what was denied has arrived");
}

#[test]
fn a_pod_that_nobody_knows_does_not_start_and_it_is_said_why() {
    if !root_or_skip("a_pod_that_nobody_knows_does_not_start_and_it_is_said_why") {
        return;
    }
    let scene = Scene::new("cni-unknown", BRIDGE).unwrap();
    let pod = scene.node.pod("stranger").unwrap();
    let begun = Instant::now();
    let (ok, answer) = plugin("ADD", &scene.polder.socket(), "stranger", &addresses(&pod), 1);
    assert!(!ok && begun.elapsed() < Duration::from_secs(4), "{answer}");
    assert_eq!(answer["code"], 11);
    assert_eq!(answer["details"], "agent: shop/stranger: the agent has not heard of it yet");
}

#[test]
fn what_takes_polder_off_a_node_leaves_nothing_behind() {
    if !root_or_skip("what_takes_polder_off_a_node_leaves_nothing_behind") {
        return;
    }
    let mut scene = Scene::new("uninstall", BRIDGE).unwrap();
    let _server = Server::tcp(&scene.victim, WEB, Greeting::None).unwrap();
    let reaches = |scene: &Scene| {
        tcp_connect(&scene.attacker, scene.victim.ipv4().into(), WEB, Duration::from_millis(700)).unwrap()
    };
    let (bpffs, socket, lists) = (scene.polder.bpffs(), scene.polder.socket(), scene.polder.lists());
    fs::create_dir(&lists).unwrap();
    fs::write(lists.join("0123456789ab-00000001"), "").unwrap();
    let state = env::temp_dir().join(format!("polder-state-{}", std::process::id()));
    fs::create_dir_all(&state).unwrap();
    fs::write(state.join("cluster.jsonl"), "{}").unwrap();
    // Without its agent it is still in force.
    scene.polder.kill9().unwrap();
    assert_ne!(reaches(&scene), Outcome::Connected);
    assert!(bpffs.join("links").is_dir() && socket.exists());
    let output = scene
        .node
        .run(|| {
            let mut agent = Command::new(program("polder-agent", "agent").unwrap());
            agent.arg("--uninstall").arg("--bpffs").arg(&bpffs).arg("--state").arg(&state);
            Ok(agent.arg("--socket").arg(&socket).arg("--lists").arg(&lists).output()?)
        })
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(reaches(&scene), Outcome::Connected, "no program is left at the pods' interfaces");
    assert!(!bpffs.exists() && !socket.exists() && !socket.with_extension("sock.lock").exists());
    assert_eq!([&state, &lists].map(|left| fs::read_dir(left).unwrap().count()), [0, 0]);
    fs::remove_dir(&state).unwrap();
}

#[test]
fn preflight_names_who_else_is_at_the_packets() {
    let name = "preflight_names_who_else_is_at_the_packets";
    if !root_or_skip(name) || !tool_or_skip("nft", name) {
        return;
    }
    let lab = Lab::new("preflight").unwrap();
    let node = lab.node(BRIDGE, 1).unwrap();
    let pod = node.pod("a").unwrap();
    let net_d = env::temp_dir().join(format!("polder-preflight-{}", std::process::id()));
    fs::create_dir_all(&net_d).unwrap();
    fs::write(net_d.join("10-lab.conflist"), r#"{"plugins": [{"type": "bridge"}, {"type": "portmap"}]}"#)
        .unwrap();
    let look = |more: &[&str]| {
        let output = node
            .run(|| {
                let mut polctl = Command::new(program("polctl", "polctl").unwrap());
                polctl.args(["preflight", "-o", "json", "--cni-conf-dir"]).arg(&net_d).args(more);
                Ok(polctl.output()?)
            })
            .unwrap();
        let all: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), all)
    };
    let finding = |all: &Value, check: &str| {
        let found = all["findings"].as_array().unwrap().iter().find(|one| one["check"] == check).cloned();
        let found = found.unwrap_or_else(|| panic!("{check}: {all}"));
        (found["level"].as_str().unwrap().to_owned(), found["found"].as_str().unwrap().to_owned())
    };
    let (code, clean) = look(&[]);
    assert_eq!((code, &clean["ok"]), (Some(0), &json!(true)), "{clean}");
    assert_eq!(
        finding(&clean, "mark bits"),
        ("ok".into(), "bits 16 to 29 are ours alone; nobody uses any".into())
    );
    // The laboratory's uplink is a veth too, and no default route tells it from a pod's.
    assert_eq!(finding(&clean, "programs in front"), ("ok".into(), "none at 2 interfaces of pods".into()));
    assert_eq!(finding(&clean, "other engines"), ("ok".into(), "none".into()));
    assert_eq!(finding(&clean, "cni"), ("ok".into(), "10-lab.conflist: bridge, portmap".into()));

    node.nft(
        "table ip calico {\n chain cali-FORWARD {\n type filter hook forward priority 0;\n\
         meta mark set mark and 0xffffbfff\n meta mark and 0x00080000 == 0x00080000 accept\n }\n\
         chain other {\n meta mark set mark or 0x00010000\n ct mark set mark\n }\n}\n",
    )
    .unwrap();
    let run = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let output = node.run(|| Ok(Command::new(words[0]).args(&words[1..]).output()?)).unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run("ip link add cilium_host type veth peer name cilium_net");
    run(&format!("tc qdisc add dev {} clsact", pod.host_interface()));
    let bytecode =
        ["tc", "filter", "add", "dev", pod.host_interface(), "ingress", "bpf", "bytecode", "1,6 0 0 0,"];
    let output = node.run(|| Ok(Command::new(bytecode[0]).args(&bytecode[1..]).output()?)).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (code, busy) = look(&[]);
    assert_eq!((code, &busy["ok"]), (Some(0), &json!(true)), "warnings are no failures");
    let expected = "bits 16 to 29 are overwritten by calico other";
    assert_eq!(finding(&busy, "mark bits"), ("warn".into(), expected.into()));
    let expected = "Cilium (interface cilium_host); Calico (Felix) (chain cali-FORWARD)";
    assert_eq!(finding(&busy, "other engines"), ("warn".into(), expected.into()));
    let expected = format!("{} (1 clsact filters)", pod.host_interface());
    assert_eq!(finding(&busy, "programs in front"), ("warn".into(), expected));
    assert_eq!(look(&["--strict"]).0, Some(1));
    let (_, moved) = look(&["--mark-shift", "0"]);
    let expected = "bits 0 to 13 are ours alone; others use 0x94000";
    assert_eq!(finding(&moved, "mark bits"), ("ok".into(), expected.into()));

    run("nft delete table ip calico");
    run("ip rule add fwmark 0x200000/0x200000 table 100");
    let (_, routed) = look(&[]);
    assert_eq!(finding(&routed, "mark bits"), ("warn".into(), "bits 16 to 29 are read by ip rule".into()));

    fs::write(net_d.join("00-first.conf"), r#"{"type": "macvlan"}"#).unwrap();
    let (code, other) = look(&[]);
    assert_eq!((code, finding(&other, "cni").0.as_str()), (Some(1), "fail"));
    fs::remove_dir_all(&net_d).unwrap();
    // What was asked changed nothing.
    thread::sleep(Duration::from_millis(10));
    assert_eq!(look(&["--bpffs", "/proc"]).0, Some(1));
}
