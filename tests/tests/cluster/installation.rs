//! The chart's other states: pods that wait for their policy, and a node from which everything is taken off again.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::bed::{Bed, PATIENCE, POLDER, only_friends, within};
use crate::start::starts;

/// What Polder puts on a node, but for programs at interfaces.
const LEFT: [&str; 4] = [
    "/sys/fs/bpf/polder",
    "/run/polder/agent.sock",
    "/opt/cni/bin/polder-cni",
    "/etc/cni/net.d/0-polder.conflist",
];

#[tokio::test]
async fn pods_wait_for_their_policy_behind_the_plugin_and_uninstalling_leaves_nothing() {
    let Some(bed) = Bed::new("installation").await else { return };
    let [server, other] = bed.run([("server", "server", "n1"), ("other", "other", "n2")]).await;
    let _echo = server.inside.echo(7000);
    bed.policy("friends", &only_friends()).await;
    sleep(Duration::from_secs(2)).await;
    assert!(!other.inside.connects(server.at(7000)));

    bed.helm(&["upgrade", POLDER, "CHART", "--reuse-values", "--set", "cni.mode=chained"]);
    for (node, _) in bed.cluster.nodes() {
        within("the plugin in the node's list", PATIENCE, async || {
            bed.is_there(&node, LEFT[3]).then_some(())
        })
        .await;
    }
    bed.polder_ready().await;
    for name in ["friend-0", "friend-1", "friend-2"] {
        // On the server's own node, what its very first process says arrives. (Another node hears of it from the API server.)
        let call = json!({"command": ["/bin/bash", "-c", format!(
            "exec 3<>/dev/tcp/{}/7000 && echo x >&3 && read -t 1 -u 3 word && exec sleep 600", server.address
        )]});
        bed.create_with(name, "friend", "n1", call).await;
        let friend = bed.running(name).await;
        assert!(friend.inside.connects(server.at(7000)), "{name}: {}", bed.explained(name, "server"));
        assert_eq!(bed.restarts_of(name).await, 0, "{name} could not reach the server when it started");
    }
    assert!(!other.inside.connects(server.at(7000)));
    starts(&bed, &other).await.check("with the plugin");

    bed.helm(&["upgrade", POLDER, "CHART", "--reuse-values", "--set", "uninstall=true"]);
    for (node, _) in bed.cluster.nodes() {
        within("the node without Polder", PATIENCE, async || {
            let left = LEFT.iter().any(|path| bed.is_there(&node, path));
            (!left && bed.in_front(&node).starts_with("none at ")).then_some(())
        })
        .await;
    }
    assert!(other.inside.connects(server.at(7000)), "nothing enforces any more");
    bed.helm(&["uninstall", POLDER, "--wait"]);

    bed.helm(&["install", POLDER, "CHART"]);
    within("the policy in force again", PATIENCE, async || {
        (!other.inside.connects(server.at(7000))).then_some(())
    })
    .await;
    bed.polder_ready().await;
}

impl Bed {
    fn is_there(&self, node: &str, path: &str) -> bool {
        self.cluster.exec(node, "test").unwrap().args(["-e", path]).status().unwrap().success()
    }

    /// What preflight says of programs at a node's interfaces.
    fn in_front(&self, node: &str) -> String {
        let polctl = self.cluster.programs().join("polctl");
        let mut preflight = self.cluster.exec(node, Path::to_str(&polctl).unwrap()).unwrap();
        let output = preflight.args(["preflight", "-o", "json"]).output().unwrap();
        let all: Value = serde_json::from_slice(&output.stdout).unwrap();
        let findings = all["findings"].as_array().unwrap();
        let of = findings.iter().find(|finding| finding["check"] == "programs in front").unwrap();
        of["found"].as_str().unwrap().to_owned()
    }

    async fn restarts_of(&self, pod: &str) -> i32 {
        crate::bed::restarts(&self.pods().get(pod).await.unwrap())
    }
}
