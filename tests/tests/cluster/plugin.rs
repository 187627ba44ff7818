//! What `kubectl polder` answers about pods, from outside of the nodes.

use std::process::Command;

use serde_json::{Value, json};

use crate::bed::{Bed, PATIENCE, only_friends, within};

#[tokio::test]
async fn kubectl_polder_explains_pods_of_two_nodes_with_both_kernels() {
    let Some(bed) = Bed::new("plugin").await else { return };
    let [server, friend, other] =
        bed.run([("server", "server", "n1"), ("friend", "friend", "n2"), ("other", "other", "n2")]).await;
    // Whoever is isolated at egress has a judgement on its own node, too.
    bed.policy(
        "out",
        &json!({"podSelector": {"matchLabels": {"app": "friend"}}, "policyTypes": ["Egress"], "egress": [{}]}),
    )
    .await;
    bed.policy("friends", &only_friends()).await;
    let explain = |from: &str| {
        let (from, to) = (format!("{}/{from}", bed.namespace), format!("{}/server", bed.namespace));
        bed.plugin(&["explain", &from, &to, "--port", "7000", "-o", "json"])
    };
    let judged = |answer: &Value| {
        let kernels = answer["answers"][0]["kernels"].as_array().cloned().unwrap_or_default();
        kernels.iter().map(|kernel| kernel["asked"].as_u64().unwrap_or_default()).sum::<u64>()
    };
    let (code, answer) = within("both policies known", PATIENCE, async || {
        Some(explain("friend")).filter(|(_, answer)| judged(answer) == 2)
    })
    .await;
    assert_eq!(code, Some(0), "{answer}");
    let kernels = answer["answers"][0]["kernels"].as_array().unwrap();
    let agreed: Vec<_> =
        kernels.iter().map(|kernel| (kernel["node"].clone(), kernel["agrees"].clone())).collect();
    assert_eq!(agreed, [(json!("n1"), json!(true)), (json!("n2"), json!(true))], "{answer}");
    let _echo = server.inside.echo(7000);
    assert!(friend.inside.connects(server.at(7000)));

    let (code, answer) = explain("other");
    assert_eq!((code, &answer["allowed"]), (Some(1), &json!(false)), "{answer}");
    assert!(!other.inside.connects(server.at(7000)));

    for node in ["n1", "n2"] {
        let (code, status) = bed.plugin(&["status", "--node", node, "-o", "json"]);
        assert_eq!(
            (code, &status["node"], &status["ready"]),
            (Some(0), &json!(node), &json!(true)),
            "{status}"
        );
    }
    let (code, verification) = bed.plugin(&["verify", "--node", "n1", "-o", "json"]);
    assert_eq!((code, &verification["agrees"]), (Some(0), &json!(true)), "{verification}");
    let (code, verifications) = bed.plugin(&["verify", "--all-nodes", "-o", "json"]);
    let nodes = verifications.as_array().cloned().unwrap_or_default();
    let agreed: Vec<_> = nodes.iter().map(|one| (one["node"].clone(), one["agrees"].clone())).collect();
    let expected: Vec<_> =
        bed.cluster.nodes().into_iter().map(|(node, _)| (json!(node), json!(true))).collect();
    assert_eq!((code, agreed), (Some(0), expected), "{verifications}");
}

impl Bed {
    /// What the agents say of a connection between two pods, for who reads that a case failed.
    pub(crate) fn explained(&self, from: &str, to: &str) -> Value {
        let (from, to) = (format!("{}/{from}", self.namespace), format!("{}/{to}", self.namespace));
        self.plugin(&["explain", &from, &to, "--port", "7000", "-o", "json"]).1
    }

    /// `kubectl polder`, as who brought the cluster up has it: its exit code and its JSON.
    fn plugin(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let mut command = Command::new(self.cluster.programs().join("kubectl-polder"));
        command.args(arguments).env("KUBECONFIG", self.cluster.kubeconfig()).env("NO_COLOR", "1");
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let answer = serde_json::from_slice(&output.stdout);
        (
            output.status.code(),
            answer.unwrap_or_else(|error| json!({"error": error.to_string(), "said": said})),
        )
    }
}
