//! Proof that the verbs that ask the agent speak its protocol, and end with the codes that they promise.
#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use agent_api::VERSION;
use agent_api::flow::{End, FlowLine, FlowVerdict};
use agent_api::frame::{Frame, Hello, line};
use agent_api::judgement::{Answer, Direction, Verdict};
use agent_api::reply::Reply;
use agent_api::request::Request;
use agent_api::status::Status;
use agent_api::verification::Verification;
use agent_api::world::{Document, World};

const STATUS: &str = r#"{"node": "n1", "version": "0.1.0", "abi": 1, "started": "2026-01-02T03:04:05Z", "ready": true,
  "reasons": [], "generation": 5, "policies": 0, "problems": [], "outside": [], "hooks": [], "maps": [], "counters": [],
  "reconcile": null, "shares": [],
  "endpoints": [{"pod": "shop/a", "interface": "vetha", "interface_index": 4, "addresses": ["10.0.0.1"],
                 "state": "enforced", "ingress": null, "egress": null, "why": null}]}"#;

const WORLD: &str = "
{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: shop}, spec: {containers: [{name: c}]},
 status: {phase: Running, podIPs: [{ip: 10.0.0.1}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: b, namespace: shop}, spec: {containers: [{name: c}]},
 status: {phase: Running, podIPs: [{ip: 10.0.0.2}]}}
";

/// What the fake agent does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Well,
    NotReady,
    KernelDenies,
    Disagrees,
    /// Ends the connection after the flows, though they are followed.
    GoesAway,
}

struct Agent {
    folder: PathBuf,
    requests: Receiver<Request>,
}

impl Agent {
    fn new(name: &str, way: Way) -> Self {
        let folder = std::env::temp_dir().join(format!("polctl-asks-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let listener = UnixListener::bind(folder.join("agent.sock")).unwrap();
        let (sender, requests) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let hello = Frame::Hello(Hello { protocol: VERSION, agent: "0.1.0".to_owned() });
                stream.write_all(&line(&hello).unwrap()).unwrap();
                for text in BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok) {
                    let request: Request = serde_json::from_str(&text).unwrap();
                    let goes_on = answer(&mut stream, &request, way);
                    let _nobody_asks = sender.send(request);
                    if !goes_on {
                        break;
                    }
                }
            }
        });
        Self { folder, requests }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_polctl"));
        command.args(words).arg("--socket").arg(self.folder.join("agent.sock")).env_remove("CLICOLOR_FORCE");
        command
    }

    /// Exit code, standard output, standard error.
    fn run(&self, words: &[&str]) -> (i32, String, String) {
        said(&self.command(words).output().unwrap())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn said(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// Answers; says whether the connection goes on.
fn answer(stream: &mut UnixStream, request: &Request, way: Way) -> bool {
    let replies = match request {
        Request::Status | Request::Resync => {
            let mut status: Status = serde_json::from_str(STATUS).unwrap();
            status.ready = way != Way::NotReady;
            vec![Reply::Status(Box::new(status))]
        }
        Request::Wait(_) | Request::Release(_) => unreachable!("only the CNI plugin asks that"),
        Request::World => {
            let whole = WORLD.split_at(WORLD.len() / 2);
            let piece = |text: &str, continues| {
                let document = Document { name: "all.yaml".to_owned(), text: text.to_owned() };
                Reply::World(World { documents: vec![document], continues })
            };
            vec![piece(whole.0, false), piece(whole.1, true)]
        }
        Request::Judge(questions) => {
            let answer = |_| Answer {
                verdict: if way == Way::KernelDenies { Verdict::Deny } else { Verdict::Allow },
                reason: if way == Way::KernelDenies { "rule_denies" } else { "no_policy" }.to_owned(),
                rule_set: 0,
                rank: None,
                generation: 5,
            };
            vec![Reply::Answers(questions.iter().map(answer).collect())]
        }
        Request::Verify => vec![Reply::Verification(Verification {
            generation: 5,
            more_differences: u64::from(way == Way::Disagrees),
            ..Verification::default()
        })],
        Request::Flows(_) => vec![Reply::Flow(flow()), Reply::Lost { lines: 2 }],
    };
    for reply in replies {
        // Who hangs up early has seen enough.
        if stream.write_all(&line(&Frame::Reply(Box::new(reply))).unwrap()).is_err() {
            return false;
        }
    }
    match request {
        Request::Flows(flows) if flows.follow => way != Way::GoesAway,
        _ => stream.write_all(&line(&Frame::Done).unwrap()).is_ok(),
    }
}

fn flow() -> FlowLine {
    let end = |last, pod: Option<&str>| End {
        address: [10, 0, 0, last].into(),
        port: Some(80),
        pod: pod.map(str::to_owned),
    };
    FlowLine {
        time: "2026-01-02T03:04:05.678Z".parse().unwrap(),
        direction: Direction::Ingress,
        source: end(9, None),
        destination: end(1, Some("shop/a")),
        protocol: "tcp".to_owned(),
        verdict: FlowVerdict::Denied,
        reason: "rule_denies".to_owned(),
        rule: None,
        repeats: 2,
        request: None,
    }
}

const FLOW: &str =
    "2026-01-02T03:04:05.678Z 10.0.0.9:80 -> shop/a:80 tcp DENIED at ingress, rule_denies x2\n";

#[test]
fn status_ends_with_0_if_ready_and_with_1_if_not() {
    let agent = Agent::new("status", Way::Well);
    let (code, out, err) = agent.run(&["status"]);
    assert_eq!((code, &*err), (0, ""), "{out}");
    assert!(out.starts_with("node n1: ready, generation 5, 0 policies\n"), "{out}");
    assert!(!out.contains('\u{1b}'), "a pipe gets no colours");
    let (_, json, _) = agent.run(&["status", "-o", "json"]);
    assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), serde_json::from_str(STATUS).unwrap());
    assert!(agent.run(&["status", "-o", "yaml"]).1.starts_with("node: n1\nversion: \"0.1.0\"\n"));
    let agent = Agent::new("status-not", Way::NotReady);
    assert_eq!(agent.run(&["status", "-o", "wide"]).0, 1);
}

#[test]
fn an_agent_that_is_not_there_is_2_for_every_verb() {
    for words in [&["status"][..], &["verify"], &["flows"], &["explain", "a", "b"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_polctl"))
            .args(words)
            .args(["--socket", "/nonexistent/agent.sock"])
            .output()
            .unwrap();
        let (code, out, err) = said(&output);
        assert_eq!((code, &*out), (2, ""), "{words:?}");
        assert!(err.contains("no agent answers at /nonexistent/agent.sock: there is no such file"), "{err}");
    }
}

#[test]
fn verify_ends_with_0_if_the_kernel_agrees_and_with_1_if_not() {
    let agent = Agent::new("verify", Way::Well);
    let (code, out, _) = agent.run(&["verify", "--resync"]);
    assert_eq!(code, 0, "{out}");
    assert!(out.starts_with("kernel: AGREES (generation 5)\n"), "{out}");
    assert_eq!(agent.requests.try_iter().collect::<Vec<_>>(), [Request::Resync, Request::Verify]);
    let agent = Agent::new("verify-not", Way::Disagrees);
    let (code, json, _) = agent.run(&["verify", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["agrees"], &json["generation"]), (1, &false.into(), &5.into()));
}

#[test]
fn explain_says_whether_the_kernel_agrees() {
    let agent = Agent::new("explain", Way::Well);
    let (code, out, err) = agent.run(&["explain", "a", "b", "-n", "shop", "--port", "80"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("80/TCP: ALLOWED"), "{out}");
    assert!(
        out.ends_with("kernel: agrees (generation 5)\n  not asked: ingress of shop/b: not on node n1\n"),
        "{out}"
    );
    let agent = Agent::new("explain-not", Way::KernelDenies);
    let (code, out, err) = agent.run(&["explain", "shop/a", "shop/b", "--port", "80"]);
    assert_eq!(code, 3, "{out}{err}");
    assert!(
        out.contains("kernel: DIFFERS: egress of shop/a to 10.0.0.2, 80/TCP: the policies say allow"),
        "{out}"
    );
    assert!(err.starts_with("error: the kernel does not do what the policies say"), "{err}");
    let asked: Vec<_> = agent.requests.try_iter().collect();
    assert_eq!(asked.len(), 9, "three times seen, before it is believed: {asked:?}");
    let (_, json, _) = agent.run(&["explain", "shop/a", "shop/b", "--port", "80", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["answers"][0]["kernels"][0]["agrees"], false);
}

#[test]
fn explain_of_files_asks_no_agent() {
    let agent = Agent::new("explain-files", Way::KernelDenies);
    let file = agent.folder.join("all.yaml");
    std::fs::write(&file, WORLD).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_polctl"));
    let output =
        command.args(["explain", "shop/a", "shop/b", "-o", "json", "-f"]).arg(&file).output().unwrap();
    let (code, out, _) = said(&output);
    assert_eq!((code, out.contains("\"kernel\"")), (0, false), "{out}");
    let both = agent.command(&["explain", "shop/a", "shop/b", "-f", "x"]).output().unwrap();
    assert_eq!(both.status.code(), Some(2), "files and an agent at once");
    assert!(agent.requests.try_recv().is_err());
}

#[test]
fn flows_are_told_to_their_end() {
    let agent = Agent::new("flows", Way::Well);
    let (code, out, err) = agent.run(&["flows"]);
    assert_eq!((code, &*err), (0, ""));
    assert_eq!(out, format!("{FLOW}-- 2 lines are lost here: they came faster than they were read\n"));
    let (_, json, _) = agent.run(&["flows", "-o", "json"]);
    assert_eq!(
        serde_json::from_str::<Vec<serde_json::Value>>(&json).unwrap()[1],
        serde_json::json!({"lost": 2})
    );
}

#[test]
fn an_agent_that_goes_away_while_flows_are_followed_is_2() {
    let agent = Agent::new("gone", Way::GoesAway);
    let (code, out, err) = agent.run(&["flows", "-f"]);
    assert_eq!(code, 2, "{err}");
    assert!(out.starts_with(FLOW) && err.contains("is gone"), "{out}{err}");
}

#[test]
fn an_interrupt_ends_the_following_of_flows_with_0() {
    let agent = Agent::new("interrupt", Way::Well);
    let mut child = agent.command(&["flows", "-f"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
    assert_eq!(first, FLOW);
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    assert_eq!(ended(&mut child), Some(0));
}

/// The exit code of a child that ends in time.
fn ended(child: &mut Child) -> Option<i32> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    panic!("it does not end");
}
