//! Pods and namespaces go, and their addresses come again.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use kube::ResourceExt;
use serde_json::json;
use tokio::time::sleep;

use crate::bed::{Bed, PATIENCE, only_friends, within};
use crate::traffic::Inside;

/// Where the plugin `host-local` keeps which address it gave last.
const LAST_ADDRESS: &str = "/var/lib/cni/networks/kubelab/last_reserved_ip.0";

#[tokio::test]
async fn a_pod_that_gets_the_address_of_another_gets_nothing_of_its_rights() {
    let Some(bed) = Bed::new("address_reuse").await else { return };
    let [server] = bed.run([("server", "server", "n2")]).await;
    bed.policy("friends", &only_friends()).await;
    let sink = server.inside.sink(5353);
    let (mut reused, mut leaked, mut used): (u32, usize, Vec<Ipv4Addr>) = (0, 0, Vec::new());
    for round in 0..6 {
        // Addresses are given in order; forgetting the last one makes the lowest free one the next.
        bed.cluster.exec("n1", "rm").unwrap().args(["-f", LAST_ADDRESS]).status().unwrap();
        let (name, app) = (format!("p{round}"), if round % 2 == 0 { "friend" } else { "other" });
        let pod = bed.create(&name, app, "n1").await;
        let began = Instant::now();
        // From before its container runs: the sandbox has its network first.
        let inside = within("a process of the pod", PATIENCE, async || {
            bed.cluster.pod_process("n1", &pod.uid().unwrap()).unwrap().map(Inside::of)
        })
        .await;
        let sender = inside.metronome(server.at(5353));
        let running = bed.running(&name).await;
        reused += u32::from(used.contains(&running.address));
        used.push(running.address);
        if app == "friend" {
            within("the friend heard", PATIENCE, async || sink.first(sender.port, began)).await;
        } else {
            sleep(Duration::from_secs(1)).await;
            leaked += sink.count(sender.port, began);
        }
        drop(sender);
        bed.delete(&name).await;
        within("the pod gone", PATIENCE, async || {
            bed.pods().get_opt(&name).await.unwrap().is_none().then_some(())
        })
        .await;
    }
    println!("address_reuse: {reused} of 6 pods had an address of another; OPEN-ms {leaked}");
    assert!(reused >= 2, "too few addresses came again to prove anything: {used:?}");
    assert_eq!(leaked, 0);
}

#[tokio::test]
async fn a_namespace_stays_closed_until_its_last_pod_is_gone() {
    let Some(bed) = Bed::new("namespace_deletion").await else { return };
    // Pods that end slowly, in a namespace whose policies are deleted before them.
    let slow = json!({"command": ["/bin/bash", "-c", "trap '' TERM; while :; do sleep 1; done"]});
    bed.create_with("victim", "victim", "n1", slow).await;
    let victim = bed.running("victim").await;
    let other = format!("{}-other", bed.namespace);
    bed.make_namespace(&other).await;
    let outside = bed.pod_elsewhere(&other, "sender", "n2").await;
    let sink = victim.inside.sink(5353);
    let sender = outside.inside.metronome(victim.at(5353));
    bed.heard(&sink, sender.port).await;
    bed.policy("closed", &json!({"podSelector": {}, "policyTypes": ["Ingress"]})).await;
    sleep(Duration::from_secs(2)).await;
    let began = Instant::now();
    assert!(!outside.inside.connects(victim.at(5353)));
    bed.delete_namespace(&bed.namespace).await;
    let gone = within("the namespace's pods gone", PATIENCE, async || {
        bed.pods().get_opt("victim").await.unwrap().is_none().then(Instant::now)
    })
    .await;
    let leaked = sink.count(sender.port, began);
    println!("namespace_deletion: {:?} until its pod was gone; OPEN-ms {leaked}", gone - began);
    bed.delete_namespace(&other).await;
    assert_eq!(leaked, 0);
}
