use super::*;
use crate::connectivity::tests::with;

const PODS: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: a, labels: {app: web}}, spec: {containers: []}}
---
{apiVersion: v1, kind: Pod, metadata: {name: db, namespace: a, labels: {app: db}}, spec: {containers: []}}
---
";

fn policy(port: u16) -> String {
    format!(
        "{PODS}apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: db, namespace: a}}
spec:
  podSelector: {{matchLabels: {{app: db}}}}
  ingress:
  - from: [{{podSelector: {{}}}}]
    ports: [{{port: {port}}}]
"
    )
}

fn text(test: &str, before: &str, after: &str) -> String {
    let mut text = String::new();
    with(&format!("{test}-before"), before, |before, _| {
        with(&format!("{test}-after"), after, |after, _| {
            text =
                anstream::adapter::strip_str(&report::text(&Difference::between(before, after))).to_string();
        });
    });
    // The files are in a directory of the test's own.
    let bare = |line: &str| {
        line.split_once(" (/").map_or(line.to_owned(), |(start, end)| {
            format!("{start} ({}", end.rsplit_once('/').map_or(end, |(_, file)| file))
        })
    };
    text.lines().map(bare).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_port_that_moves_is_told_with_the_rules_of_both_sides() {
    assert_eq!(
        text("port", &policy(80), &policy(81)),
        "~ a/web => a/db: gains TCP 81, loses TCP 80
    before denied by ingress: NetworkPolicy a/db isolates the pod, and no rule allows it (all.yaml:6)
    before allowed by ingress: NetworkPolicy a/db, spec.ingress[0] (all.yaml:12)
    now allowed by ingress: NetworkPolicy a/db, spec.ingress[0] (all.yaml:12)
    now denied by ingress: NetworkPolicy a/db isolates the pod, and no rule allows it (all.yaml:6)
0 added, 0 removed, 1 changed; 0 new workloads, 0 gone."
    );
}

#[test]
fn a_policy_that_connects_no_one_differently_is_no_difference() {
    assert_eq!(
        text(
            "same",
            &policy(80),
            &policy(80).replace("name: db, namespace: a}\nspec", "name: x, namespace: a}\nspec")
        ),
        "No connection changes."
    );
}

#[test]
fn a_workload_that_appears_is_said_to_and_its_pairs_name_it() {
    let more = format!(
        "{}---\n{{apiVersion: v1, kind: Pod, metadata: {{name: new, namespace: a}}, spec: {{containers: []}}}}\n",
        policy(80)
    );
    let text = text("new", &policy(80), &more);
    assert!(text.starts_with("+ workload a/new\n"), "{text}");
    let pair = "+ a/new => a/db: TCP 80\n    a/new is new\n    now allowed by ingress: NetworkPolicy a/db, spec.ingress[0] (all.yaml:12)\n";
    assert!(text.contains(pair), "{text}");
}
