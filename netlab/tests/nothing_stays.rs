//! A laboratory leaves nothing behind, however it ends.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use netlab::{Cni, Host, Lab, Server, Underlay, root_or_skip};

/// Names in `/run/netns` and mounts of namespaces that hold this text.
fn traces(of: &str) -> Vec<String> {
    let names =
        fs::read_dir("/run/netns").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    names.chain(mounts.lines().map(str::to_owned)).filter(|trace| trace.contains(of)).collect()
}

/// The namespaces that threads of this process are in, by number.
fn inhabited() -> Vec<String> {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    threads
        .filter_map(|t| fs::read_link(t.unwrap().path().join("ns/net")).ok()?.to_str().map(str::to_owned))
        .collect()
}

#[test]
fn after_a_laboratory_was_dropped() {
    if !root_or_skip("after_a_laboratory_was_dropped") {
        return;
    }
    let lab = Lab::new("drop").unwrap();
    let prefix = lab.prefix().to_owned();
    let (one, two) = (lab.node(Cni::Routed, 1).unwrap(), lab.node(Cni::Routed, 2).unwrap());
    lab.join(&[&one, &two], Underlay::Vxlan).unwrap();
    let pod = one.pod("a").unwrap();
    let number = pod.run(|| Ok(fs::read_link("/proc/thread-self/ns/net")?)).unwrap();
    let server = Server::udp(&pod, 53).unwrap();
    assert_eq!(traces(&prefix).len(), 2 * 4, "fabric, two nodes, one pod: a name and a mount each");

    drop(lab);
    assert_eq!(traces(&prefix), [""; 0]);
    assert!(one.pod("late").unwrap_err().to_string().contains("is closed"));
    assert_eq!(traces(&prefix), [""; 0]);
    drop(server);
    assert!(!inhabited().contains(&number.to_str().unwrap().to_owned()));
}

#[test]
fn after_a_test_panicked() {
    if !root_or_skip("after_a_test_panicked") {
        return;
    }
    let lab = Lab::new("panic").unwrap();
    let prefix = lab.prefix().to_owned();
    let panicked = std::thread::spawn(move || {
        let node = lab.node(Cni::Bridge { br_netfilter: false }, 1).unwrap();
        let pod = node.pod("a").unwrap();
        pod.run(|| -> anyhow::Result<()> { panic!("as intended") }).unwrap();
    });
    assert!(panicked.join().is_err());
    assert_eq!(traces(&prefix), [""; 0]);
}

/// Started again by the next test, to be killed.
#[test]
#[ignore = "is run by what_a_killed_process_left_is_removed_by_the_next"]
fn victim_of_a_kill() {
    let lab = Lab::new("killed").unwrap();
    let node = lab.node(Cni::Routed, 1).unwrap();
    let _pod = node.pod("a").unwrap();
    eprintln!("{}", lab.prefix());
    std::thread::sleep(Duration::from_secs(30));
}

#[test]
fn what_a_killed_process_left_is_removed_by_the_next() {
    if !root_or_skip("what_a_killed_process_left_is_removed_by_the_next") {
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim_of_a_kill", "--ignored", "--nocapture"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let prefix = {
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let said =
            lines.map_while(Result::ok).find(|line| line.starts_with("netlab.") && !line.contains(' '));
        said.expect("the child says its prefix")
    };
    // While it lives, another laboratory lets it be.
    drop(Lab::new("bystander").unwrap());
    assert!(!traces(&prefix).is_empty());
    child.kill().unwrap();
    child.wait().unwrap();

    // Another test's laboratory may have removed it already: that is as good.
    let started = Instant::now();
    drop(Lab::new("next").unwrap());
    assert_eq!(traces(&prefix), [""; 0]);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn laboratories_do_not_disturb_each_other() {
    if !root_or_skip("laboratories_do_not_disturb_each_other") {
        return;
    }
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(|| {
                let lab = Lab::new("same-name").unwrap();
                let node = lab.node(Cni::Bridge { br_netfilter: false }, 1).unwrap();
                let started = Instant::now();
                let pods: Vec<_> = (0..10).map(|n| node.pod(&format!("p{n}")).unwrap()).collect();
                println!("{:?} a pod, four laboratories at once", started.elapsed() / 10);
                for pod in &pods {
                    pod.delete().unwrap();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(
        traces(&format!("netlab.{}.", std::process::id())).iter().all(|trace| !trace.contains("same-name"))
    );
}

#[test]
fn the_machine_itself_is_not_touched() {
    if !root_or_skip("the_machine_itself_is_not_touched") {
        return;
    }
    let links = || {
        let mut names: Vec<_> =
            fs::read_dir("/sys/class/net").unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = links();
    let lab = Lab::new("untouched").unwrap();
    let node = lab.node(Cni::Routed, 1).unwrap();
    let _pod = node.pod("a").unwrap();
    assert_eq!(links(), before);
}
