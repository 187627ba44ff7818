//! Lists of rules about requests are there as long as rules name them.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use netlab::{Greeting, Host, Outcome, Server, root_or_skip, tcp_connect};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tests::node::Scene;
use tests::node::lists::{Lists, compiled, published};
use tests::node::manifest::WEB;

use super::BRIDGE;

/// How long an attempt may take that is to be refused.
const ATTEMPT: Duration = Duration::from_millis(500);

/// Lets `app: a` ask the victim for a path, over any port.
fn policy(path: &str) -> String {
    format!(
        "apiVersion: polder.dev/v1alpha1\nkind: PolderPolicy\nmetadata: {{name: paths, namespace: shop}}\n\
         spec:\n  subject: {{podSelector: {{matchLabels: {{app: v}}}}}}\n  ingress:\n  - action: Allow\n    \
         from: [{{pods: {{podSelector: {{matchLabels: {{app: a}}}}}}}}]\n    http: [{{path: {{exact: {path}}}}}]\n---\n"
    )
}

/// The lists that the compiler makes of what is in force.
fn wanted(scene: &Scene) -> Lists {
    compiled(scene.node.name(), &scene.polder.world().unwrap()).unwrap()
}

fn found(scene: &Scene) -> Lists {
    published(&scene.polder.lists()).unwrap()
}

fn connects(scene: &Scene, from: &netlab::Pod, port: u16) -> bool {
    tcp_connect(from, scene.victim.ipv4().into(), port, ATTEMPT).unwrap() == Outcome::Connected
}

#[test]
fn a_list_is_there_while_a_policy_asks_it_and_is_put_right_if_it_is_damaged() {
    if !root_or_skip("a_list_is_there_while_a_policy_asks_it_and_is_put_right_if_it_is_damaged") {
        return;
    }
    let mut scene = Scene::new("lists", BRIDGE).unwrap();
    let _servers = [WEB, WEB + 1].map(|port| Server::tcp(&scene.victim, port, Greeting::None).unwrap());
    assert!(!scene.polder.lists().exists(), "no rule asks anything");
    scene.polder.apply("paths.yaml", &policy("/a")).unwrap();
    let first = wanted(&scene);
    assert_eq!((first.len(), found(&scene)), (1, first.clone()));
    // From others a connection is closed as by any policy, whatever is asked.
    assert!(!connects(&scene, &scene.attacker, WEB + 1));

    scene.polder.apply("paths.yaml", &policy("/b")).unwrap();
    let second = wanted(&scene);
    assert_ne!(first.keys().next(), second.keys().next());
    assert_eq!(found(&scene), second);

    // Over a restart it stays as it is; what nobody names goes, and what is damaged is put right.
    let path = scene.polder.lists().join(second.keys().next().unwrap());
    let strange = scene.polder.lists().join("0123456789ab-00000001");
    fs::write(&strange, "").unwrap();
    scene.polder.restart().unwrap();
    scene.polder.settle().unwrap();
    assert_eq!(found(&scene), second);
    fs::write(&path, "PL7").unwrap();
    scene.polder.resync().unwrap();
    assert_eq!(found(&scene), second);

    scene.polder.remove("paths.yaml").unwrap();
    scene.polder.settle().unwrap();
    assert_eq!(found(&scene), Lists::new());
    assert!(connects(&scene, &scene.friend, WEB));
    assert!(scene.polder.verify().unwrap().agrees());
}

/// A file system of 64 KiB. Taken away when it is dropped.
struct Small(PathBuf);

impl Small {
    fn at(path: PathBuf) -> Self {
        fs::create_dir(&path).unwrap();
        mount(Some("lists"), &path, Some("tmpfs"), MsFlags::empty(), Some("size=64k,mode=0755")).unwrap();
        Self(path)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.0, MntFlags::MNT_DETACH) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

#[test]
fn a_policy_whose_list_cannot_be_written_is_refused_as_a_whole_and_tried_again() {
    if !root_or_skip("a_policy_whose_list_cannot_be_written_is_refused_as_a_whole_and_tried_again") {
        return;
    }
    let scene = Scene::new("lists-full", BRIDGE).unwrap();
    let _server = Server::tcp(&scene.victim, WEB, Greeting::None).unwrap();
    let disk = Small::at(scene.polder.lists());
    let filler = disk.0.join("filler");
    fs::write(&filler, vec![0; 64 << 10]).unwrap();
    let before = scene.polder.status().unwrap();
    // With it, the victim's plain rule would go.
    scene.polder.write("paths.yaml", &policy("/a")).unwrap();
    scene.polder.remove("victim.yaml").unwrap();
    let refused = scene.polder.within("the agent to say that it cannot", |client| {
        let status = client.status()?;
        ensure!(!status.ready, "ready");
        Ok(status.reasons)
    });
    let refused = refused.unwrap();
    let says = |reason: &String| {
        reason.starts_with(&format!("writing {}/", disk.0.display()))
            && reason.contains("No space left on device")
            && reason.ends_with("; the policy that was in force stays in force")
    };
    assert!(refused.iter().any(says), "{refused:?}");
    let metrics = scene.polder.http("/metrics").unwrap();
    assert!(!metrics.contains("\npolder_map_write_failures_total 0\n"), "{metrics}");
    // It is tried again and again, and nothing of it is in force.
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(scene.polder.status().unwrap().generation, before.generation);
    assert!(connects(&scene, &scene.friend, WEB), "what was allowed");
    assert!(!connects(&scene, &scene.attacker, WEB), "what was denied");
    assert_eq!(found(&scene).into_keys().collect::<Vec<_>>(), ["filler"], "no half");

    fs::remove_file(&filler).unwrap();
    scene.polder.settle().unwrap();
    let wanted = wanted(&scene);
    assert_eq!((wanted.len(), found(&scene)), (1, wanted));
}
