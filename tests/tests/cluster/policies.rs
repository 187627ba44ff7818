//! Policies and labels change under load.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;

use crate::bed::{Bed, PATIENCE, is_ready, only_friends, restarts, within};

/// From the API server's answer to nothing more arriving. The aim for the agent is 50 ms; tests run on busy machines.
const IN_FORCE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_closed_namespace_leaks_nothing_and_the_kubelet_still_reaches_its_probes() {
    let Some(bed) = Bed::new("closed_namespace").await else { return };
    bed.policy("closed", &json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})).await;
    let probe =
        json!({"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1, "failureThreshold": 1});
    let server =
        json!({"args": ["netexec", "--http-port=8080"], "readinessProbe": probe, "livenessProbe": probe});
    bed.create_with("server", "server", "n1", server).await;
    let [near, far] = bed.run([("near", "client", "n1"), ("far", "client", "n2")]).await;
    let server = bed.running("server").await;
    let sink = server.inside.sink(5353);
    let began = Instant::now();
    let senders = [near.inside.metronome(server.at(5353)), far.inside.metronome(server.at(5353))];
    within("the server ready", PATIENCE, async || {
        is_ready(&bed.pods().get("server").await.unwrap()).then_some(())
    })
    .await;
    for client in [&near, &far] {
        assert!(!client.inside.connects(server.at(8080)), "{} connected", client.name);
    }
    let watched = Instant::now();
    while watched.elapsed() < Duration::from_secs(4) {
        let pod = bed.pods().get("server").await.unwrap();
        assert!(is_ready(&pod), "a probe failed {:?} after the pod was ready", watched.elapsed());
        assert_eq!(restarts(&pod), 0);
        sleep(Duration::from_millis(200)).await;
    }
    let arrived: usize = senders.iter().map(|sender| sink.count(sender.port, began)).sum();
    println!("closed_namespace: {arrived} datagrams arrived");
    assert_eq!(arrived, 0);
    bed.delete_policy("closed").await;
    for sender in &senders {
        bed.heard(&sink, sender.port).await;
    }
}

#[tokio::test]
async fn labels_and_policies_change_under_load_and_nothing_else_is_touched() {
    let Some(bed) = Bed::new("changes").await else { return };
    let [server, kept, fickle, late] = bed
        .run([
            ("server", "server", "n1"),
            ("kept", "friend", "n2"),
            ("fickle", "friend", "n1"),
            ("late", "other", "n2"),
        ])
        .await;
    let (sink, _echo) = (server.inside.sink(5353), server.inside.echo(7000));
    let stranger = late.inside.metronome(server.at(5353));
    bed.policy("friends", &only_friends()).await;
    let closed = Instant::now();
    let streams = kept.inside.keep(server.at(7000), 4);
    sleep(IN_FORCE).await;
    println!("changes: a new policy was in force after {:?}", sink.last(stranger.port, closed));

    let sender = fickle.inside.metronome(server.at(5353));
    let (mut closing, mut opening, mut open) = (Vec::new(), Vec::new(), 0);
    for round in 0..5 {
        bed.label("fickle", "other").await;
        let closed = Instant::now();
        // Another policy comes and goes meanwhile, of the same pods.
        let port = 6000 + round;
        bed.policy("noise", &json!({"podSelector": {}, "ingress": [{"ports": [{"port": port}]}]})).await;
        sleep(Duration::from_millis(800)).await;
        closing.push(sink.last(sender.port, closed));
        open += sink.count(sender.port, closed + IN_FORCE.min(Duration::from_millis(600)));
        bed.label("fickle", "friend").await;
        let opened = Instant::now();
        sleep(Duration::from_millis(800)).await;
        opening.push(sink.first(sender.port, opened));
    }
    println!(
        "changes: closed after {closing:?}, opened after {opening:?}; OPEN-ms {open}, INTR {}",
        streams.interrupted()
    );
    assert_eq!(streams.interrupted(), 0);
    assert_eq!(open, 0, "datagrams arrived long after their sender lost its label");
    assert!(opening.iter().all(Option::is_some), "a label that was given back opened nothing");
    assert_eq!(sink.count(stranger.port, closed + IN_FORCE), 0, "a stranger got through");
}
