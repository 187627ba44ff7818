//! What it costs: memory, bytes, and the time from the server's commit to the kernel. Prints a table; ignored because it
//! takes minutes: `cargo test --release -p tests --test agent_watch scale -- --ignored --nocapture`, with
//! `POLDER_PODS=1000,10000`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use agent_api::judgement::{Direction, Protocol, Question, Verdict};
use futures::StreamExt as _;
use futures::stream;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use netlab::{Host as _, Node};
use serde_json::json;

use super::cluster::{pod, running};
use super::only_from;
use super::packets::Scene;

/// How many are made at a time.
const AT_ONCE: usize = 32;
/// How many changes are timed.
const CHANGES: usize = 100;

/// The address of the pod of a number, in a network of its own.
fn address(number: u32) -> IpAddr {
    Ipv4Addr::from(0x0a80_0000 + number).into()
}

/// Makes pods of a few hundred workloads on other nodes.
fn fill(scene: &Scene, from: u32, to: u32) {
    let api: Api<Pod> = Api::namespaced(scene.cluster.client.clone(), "shop");
    scene.cluster.runtime.block_on(async {
        stream::iter(from..to)
            .for_each_concurrent(AT_ONCE, |number| {
                let api = api.clone();
                async move {
                    let name = format!("web-{number}");
                    let node = format!("other-{}", number / 100);
                    let mut object = pod(&name, &format!("app-{}", number % 300), &node);
                    // As large as a real one is on the wire: what is dropped on arrival has to be read.
                    object["metadata"]["annotations"] = json!({"padding": "x".repeat(1500)});
                    let object = serde_json::from_value(object).unwrap();
                    api.create(&PostParams::default(), &object).await.unwrap();
                    let status = Patch::Merge(json!({"status": running(&[address(number).to_string()])}));
                    api.patch_status(&name, &PatchParams::default(), &status).await.unwrap();
                }
            })
            .await;
    });
}

/// A number of the agent's process, in KiB: `VmRSS`, `VmHWM`.
fn memory(pid: u32, what: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// CPU time of the agent's process.
fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// A metric of the agent.
fn metric(node: &Node, name: &str) -> u64 {
    let mut stream = node.run(|| Ok(TcpStream::connect("127.0.0.1:9469")?)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// How long until the kernel says this of a peer of the victim.
fn until(scene: &Scene, peer: IpAddr, wanted: Verdict, since: Instant) -> Duration {
    let question = Question {
        pod: "shop/v".to_owned(),
        direction: Direction::Ingress,
        peer,
        port: Some((Protocol::Tcp, super::WEB)),
    };
    let mut client = scene.agent.client().unwrap();
    loop {
        let answers = client.judge(vec![question.clone()]).unwrap();
        if answers[0].verdict == wanted {
            return since.elapsed();
        }
        assert!(since.elapsed() < Duration::from_secs(20), "{answers:?}\n{}", scene.agent.log());
    }
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100]
}

#[test]
#[ignore = "takes minutes, and prints figures"]
fn scale() {
    let Some(mut scene) = Scene::start_or_skip("aw-scale") else { return };
    let sizes = std::env::var("POLDER_PODS").unwrap_or_else(|_| "1000".to_owned());
    println!(
        "| pods | RSS MiB | peak MiB | bytes read MiB | start s | start CPU s | policy p50 ms | p99 | pod p50 ms | p99 |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let mut there = 0;
    for size in sizes.split(',').map(|size| size.parse::<u32>().unwrap()) {
        fill(&scene, there, size);
        there = size;
        // A start reads everything.
        scene.agent.start().unwrap();
        let begun = Instant::now();
        scene.is_enforced(3);
        let start = begun.elapsed();
        let pid = scene.agent.pid();
        let start_cpu = cpu(pid);
        std::thread::sleep(Duration::from_secs(12));
        let (resident, peak) = (memory(pid, "VmRSS"), memory(pid, "VmHWM"));
        let bytes = metric(&scene.node, "polder_api_received_bytes_total");

        let attacker: IpAddr = scene.attacker.ipv4().into();
        let policies: Api<k8s_openapi::api::networking::v1::NetworkPolicy> =
            Api::namespaced(scene.cluster.client.clone(), "shop");
        let mut policy = Vec::new();
        for round in 0..CHANGES {
            let (from, wanted) = if round % 2 == 0 { ("b", Verdict::Allow) } else { ("a", Verdict::Deny) };
            let patch = Patch::Merge(json!({"spec": only_from("v", from)}));
            let parameters = PatchParams::default();
            let patched = policies.patch("victim", &parameters, &patch);
            scene.cluster.runtime.block_on(patched).unwrap();
            policy.push(until(&scene, attacker, wanted, Instant::now()));
        }
        let pods: Api<Pod> = Api::namespaced(scene.cluster.client.clone(), "shop");
        let mut changed = Vec::new();
        let peer = address(5);
        for round in 0..CHANGES {
            let (app, wanted) = if round % 2 == 0 { ("a", Verdict::Allow) } else { ("app-5", Verdict::Deny) };
            let patch = Patch::Merge(json!({"metadata": {"labels": {"app": app}}}));
            scene.cluster.runtime.block_on(pods.patch("web-5", &PatchParams::default(), &patch)).unwrap();
            changed.push(until(&scene, peer, wanted, Instant::now()));
        }
        let ms = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1000.0);
        let mib = |kib: u64| format!("{}.{}", kib >> 10, ((kib & 1023) * 10) >> 10);
        println!(
            "| {size} | {} | {} | {} | {:.2} | {:.2} | {} | {} | {} | {} |",
            mib(resident),
            mib(peak),
            mib(bytes >> 10),
            start.as_secs_f64(),
            start_cpu.as_secs_f64(),
            ms(percentile(&mut policy, 50)),
            ms(percentile(&mut policy, 99)),
            ms(percentile(&mut changed, 50)),
            ms(percentile(&mut changed, 99)),
        );
    }
}
