//! What the datapath costs.
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "quick")]
mod cases;
mod policy;
mod programs;
mod test_run;

use std::path::PathBuf;
use std::collections::BTreeMap;
use std::net::IpAddr;
use agent::dataplane::{Dataplane, Options, PodInterface, Sizes};
use anyhow::{Result, ensure, Context};
use netlab::{Cni, Host as _, Lab, Pod, Family};
use policy_compiler::object::PodKey;
use policy_compiler::plan::plan_between;
use policy_compiler::tables::Tables;
use policy::Policy;
use programs::Programs;
use cases::{Pods, Repeated};

fn key(pod: &Pod) -> PodKey { PodKey::new("bench", pod.name()) }

fn main() -> Result<()> {
    use nix::mount::{MsFlags, mount};
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), None::<&str>)?;
    let lab = Lab::new("bench")?;
    let node = lab.node(Cni::Bridge { br_netfilter: false }, 1)?;
    let pods = Pods { first: node.pod("first")?, second: node.pod("second")?, free: node.pod("free")? };
    node.run(|| measure(&pods))
}

fn measure(pods: &Pods) -> Result<()> {
    let object = PathBuf::from(std::env::var("POLDER_BPF_OBJECT").unwrap_or_else(|_| "../target/bpf/bpfel-unknown-none/release/polder".into()));
    let root = PathBuf::from("/sys/fs/bpf/polder");
    let mut dataplane = Dataplane::open(&Options { bpffs: root.clone(), object: Some(object.clone()), sizes: Sizes::default(), ..Options::default() })?;
    let maps = std::fs::read_dir(&root)?.filter_map(Result::ok).map(|e| e.path()).find(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with('v'))).context("no maps")?;
    let mut programs = Programs::load(&object, &maps)?;
    let mut settings = dataplane.settings()?;
    settings.flow_share = 1 << 18;
    settings.events = u32::MAX;
    dataplane.configure(&settings)?;
    let all = [&pods.first, &pods.second, &pods.free];
    let addressed: Vec<(PodKey, [IpAddr; 2])> = [&pods.first, &pods.second].map(|p| (key(p), [p.ipv4().into(), p.ipv6().into()])).to_vec();
    let mut before = Tables::default();
    let mut results: BTreeMap<(Policy2, String, usize), Vec<u32>> = BTreeMap::new();
    let rounds: usize = std::env::var("ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(3);
    for _ in 0..rounds {
        for identities in [10] {
            for rules in [100] {
                let policy = Policy { identities, rules };
                let interfaces: Vec<u32> = all.iter().map(|p| p.host_interface_index()).collect::<Result<_>>()?;
                dataplane.remove(&interfaces)?;
                for pod in all {
                    dataplane.bind(&key(pod), &PodInterface { interface: pod.host_interface_index()?, mac: pod.mac().0, ipv4: Some(pod.ipv4()), ipv6: Some(pod.ipv6()), link_local: None })?;
                }
                let tables = policy.tables(&addressed, &key(&pods.free));
                let steps = plan_between(&before, &tables, dataplane.generation()).expect("plan");
                let t = std::time::Instant::now();
                dataplane.perform(&steps)?;
                eprintln!("{identities} {rules}: {} steps {:?}", steps.len(), t.elapsed());
                before = tables;
                let mut cases = cases::all(&programs, pods, &policy, Family::V4)?;
                cases.extend(cases::all(&programs, pods, &policy, Family::V6)?);
                for turn in 0..40_u16 {
                    for case in &mut cases {
                        let (program, times) = match case.repeated {
                            Repeated::Same => (programs.plain(case.entry), 500),
                            Repeated::Anew => {
                                let at = if case.family == Family::V4 { 34 } else { 54 };
                                case.packet.frame[at..at + 2].copy_from_slice(&(turn * 400 + 1).to_ne_bytes());
                                (programs.turning(case.entry, case.family), std::env::var("BURST").ok().and_then(|r| r.parse().ok()).unwrap_or(400))
                            }
                        };
                        let run = test_run::run(program, &case.packet, times)?;
                        ensure!(run.returned == case.returns, "{} {}", case.name, run.returned);
                        results.entry((Policy2(identities, rules), case.name.into(), case.family as usize)).or_default().push(run.nanoseconds);
                        programs.drain();
                    }
                }
            }
        }
    }
    eprintln!("{:?}", dataplane.tallies()?);
    println!("{:>8} {:>6} {:<34} | v4 min med ratio | v6 min med ratio", "ident", "rules", "case");
    let names = ["empty program", "established, ingress", "established, egress", "same node, from pod", "same node, to pod", "SYN allowed, entry made", "SYN allowed, entry made, egress", "SYN allowed, re-judged", "SYN denied, each an event", "SYN denied, same again", "no policy, ingress", "no policy, egress"];
    for name in names {
        for identities in [10] {
            for rules in [100] {
                print!("{identities:>8} {rules:>6} {name:<34}");
                for family in 0..2 {
                    let get = |name: &str| { let v = results.get_mut(&(Policy2(identities, rules), name.into(), family)).map(|v| { v.sort_unstable(); (v[0], v[v.len() / 2]) }); v.unwrap() };
                    let mut get = get;
                    let (min, med) = get(name);
                    let (e, _) = get("empty program");
                    print!(" | {min:>5} {med:>5} {:>5.1}", f64::from(min) / f64::from(e));
                }
                println!();
            }
        }
    }
    Ok(())
}
#[derive(PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
struct Policy2(u32, u32);
