use std::path::PathBuf;

use clap::Parser;

use super::names::escape;
use super::twins::Picture;
use super::view::View;
use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

const MANIFESTS: &str = "
{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: shop}, spec: {replicas: 2, selector: {}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: i}]}}}}
---
{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: db, namespace: shop}, spec: {selector: {}, template: {metadata: {labels: {app: db}}, spec: {containers: [{name: c, image: i}]}}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: job, namespace: ops}, spec: {containers: [{name: c, image: i}]}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from: [{podSelector: {matchLabels: {app: web}}}]
    ports: [{port: 5432}]
";

/// Runs a claim on the connectivity of some manifests.
pub(crate) fn with(test: &str, manifests: &str, claim: impl FnOnce(&Connectivity<'_>, &Names)) {
    let directory = std::env::temp_dir().join(format!("polctl-connectivity-{test}-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path: PathBuf = directory.join("all.yaml");
    std::fs::write(&path, manifests).unwrap();
    let input = Input::load(&crate::input::Args { filename: vec![path] });
    std::fs::remove_dir_all(&directory).unwrap();
    assert!(input.accepted());
    let connectivity = Connectivity::of(&input.compiler, &input.replicas);
    let names = Names::of([&connectivity]);
    claim(&connectivity, &names);
}

#[test]
fn the_table_folds_the_whole_space_and_says_why() {
    with("table", MANIFESTS, |connectivity, names| {
        let view = View::of(&connectivity.lines().collect::<Vec<_>>(), connectivity, names, true);
        let text = anstream::adapter::strip_str(&table::wide(&view.header(), &view.cells())).to_string();
        let lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines[..3],
            [
                "SOURCE DESTINATION PORTS BECAUSE",
                "ops/job shop/web ANY no policy",
                "ops/job anywhere ANY no policy"
            ]
        );
        assert_eq!(lines[3], "shop/web ops/job ANY no policy");
        assert_eq!(lines[4], "shop/web shop/db TCP 5432 egress: no policy is against it");
        assert!(lines[5].starts_with("ingress: NetworkPolicy shop/db, spec.ingress[0] ("), "{}", lines[5]);
        assert!(lines[5].ends_with("all.yaml:15)"), "{}", lines[5]);
        assert_eq!(
            lines[6..],
            [
                "shop/web shop/web ANY no policy",
                "shop/web anywhere ANY no policy",
                "anywhere ops/job ANY no policy",
                "anywhere shop/web ANY no policy"
            ]
        );
    });
}

#[test]
fn programs_get_every_range_and_no_word_that_the_contract_lacks() {
    let icmp = "
{apiVersion: policy.networking.k8s.io/v1alpha1, kind: AdminNetworkPolicy, metadata: {name: only-icmp}, spec: {priority: 1, subject: {namespaces: {}},
 ingress: [{name: d, action: Deny, from: [{namespaces: {}}], ports: [{portRange: {protocol: TCP, start: 1, end: 65535}}, {portRange: {protocol: UDP, start: 1, end: 65535}}, {portRange: {protocol: SCTP, start: 1, end: 65535}}]}]}}";
    with("json", &format!("{MANIFESTS}---{icmp}"), |connectivity, names| {
        let text = json::list(connectivity.lines(), connectivity, names, false).unwrap();
        let list: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        let job = list.iter().find(|line| line["src"] == "ops/job" && line["dst"] == "shop/web").unwrap();
        assert_eq!((&job["allow"], &job["other"]), (&serde_json::json!([]), &serde_json::json!(true)));
        assert!(
            list.iter().any(|line| line["dst"] == "0.0.0.0/0")
                && list.iter().any(|line| line["dst"] == "::/0")
        );
        let in_lines = connectivity.lines().filter(|line| line.allow.has_ports());
        assert!(
            in_lines
                .into_iter()
                .all(|line| names.peer(&line.dst) != "shop/web" || matches!(line.src, Peer::External(_)))
        );
    });
}

#[test]
fn workloads_of_one_name_are_told_apart_by_kind() {
    let twice = "
{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: a}, spec: {selector: {}, template: {spec: {containers: []}}}}
---
{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: web, namespace: a}, spec: {selector: {}, template: {spec: {containers: []}}}}
";
    with("kinds", twice, |connectivity, names| {
        let shown: Vec<String> = connectivity.workloads().map(|workload| names.workload(workload)).collect();
        assert_eq!(shown, ["a/web[Deployment]", "a/web[StatefulSet]"]);
        assert!(
            names.find("a/web").unwrap_err().to_string().starts_with("several workloads are named `a/web`")
        );
        assert_eq!(&*names.find("a/web[StatefulSet]").unwrap().kind, "StatefulSet");
        assert!(names.find("a/wbe").unwrap_err().to_string().contains("expected NS/NAME, for example a/web"));
    });
}

#[test]
fn the_matrix_has_a_row_and_a_column_for_each_workload() {
    with("matrix", MANIFESTS, |connectivity, names| {
        let text = anstream::adapter::strip_str(&matrix::render(connectivity, names, None)).to_string();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            lines[..4],
            [
                vec!["FROM", "\\", "TO", "1", "2", "3"],
                vec!["1", "ops/job", "-", "X", "."],
                vec!["2", "shop/db", "X", "-", "X"],
                vec!["3", "shop/web", ".", "5432", "."]
            ]
        );
    });
}

#[test]
fn what_connects_alike_is_one_box_of_the_picture() {
    let pod = |n| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: p{n}, namespace: a}}, spec: {{containers: []}}}}\n---\n"
        )
    };
    let pods = (0..30).map(pod).collect::<Vec<_>>().concat();
    with("twins", &pods, |connectivity, names| {
        let view = View::of(&connectivity.lines().collect::<Vec<_>>(), connectivity, names, false);
        let picture = Picture::of(&view);
        let sizes: Vec<usize> = picture.groups.iter().map(|group| group.members.len()).collect();
        assert_eq!((sizes, picture.edges.len()), (vec![30, 1], 1));
        let text = svg::render(&view).unwrap();
        assert!(text.contains("<svg") && text.contains("and 18 more") && text.contains("(each other: ANY)"));
    });
}

#[test]
fn the_graph_has_a_cluster_for_each_namespace_and_one_edge_for_two_equal_directions() {
    with("dot", MANIFESTS, |connectivity, names| {
        let text =
            dot::render(&View::of(&connectivity.lines().collect::<Vec<_>>(), connectivity, names, false));
        assert!(
            text.contains("subgraph \"cluster_shop\"")
                && text.contains("\"anywhere\" [shape=ellipse, style=dashed];")
        );
        assert!(text.contains("\"ops/job\" -> \"shop/web\" [label=\"ANY\", dir=both];"), "{text}");
        assert!(text.contains("\"shop/web\" -> \"shop/db\" [label=\"TCP 5432\"];"), "{text}");
    });
}

#[test]
fn names_cannot_steer_a_terminal_nor_break_a_table() {
    assert_eq!(escape("a\u{1b}[31m\u{202e}b"), "a\\u{1b}[31m\\u{202e}b");
    let row = vec!["a|b<c".to_owned(), "say \"hi\", you".to_owned()];
    assert_eq!(table::csv(&["X", "Y"], std::slice::from_ref(&row)), "x,y\na|b<c,\"say \"\"hi\"\", you\"\n");
    assert_eq!(
        table::markdown(&["X", "Y"], &[row]),
        "| X | Y |\n| --- | --- |\n| a\\|b&lt;c | say \"hi\", you |\n"
    );
}

#[test]
fn every_format_has_a_name() {
    for output in ["wide", "json", "jsonl", "csv", "md", "dot", "svg", "matrix"] {
        Cli::try_parse_from(["x", "-f", ".", "-o", output]).map(|cli| cli.args.output).unwrap();
    }
}
