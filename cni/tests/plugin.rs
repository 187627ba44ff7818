//! The plugin as a container runtime calls it, with an agent that says what the test wants.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use agent_api::frame::{Frame, Hello, line};
use agent_api::reply::Reply;
use agent_api::request::Request;
use agent_api::wait::{InForce, Pod, Wait};
use serde_json::{Value, json};

const POD: &str =
    "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-0;K8S_POD_INFRA_CONTAINER_ID=c;K8S_POD_UID=u1";

/// Answers every request with the next of these; gives what was asked.
fn agent(socket: &Path, answers: Vec<Frame>) -> Receiver<Request> {
    let listener = UnixListener::bind(socket).unwrap();
    let (asked, requests) = channel();
    thread::spawn(move || {
        for answer in answers {
            let (stream, _) = listener.accept().unwrap();
            let mut write = stream.try_clone().unwrap();
            let hello = Frame::Hello(Hello { protocol: agent_api::VERSION, agent: "test".to_owned() });
            write.write_all(&line(&hello).unwrap()).unwrap();
            let mut text = String::new();
            BufReader::new(stream).read_line(&mut text).unwrap();
            asked.send(serde_json::from_str(&text).unwrap()).unwrap();
            let is_error = matches!(answer, Frame::Error { .. });
            write.write_all(&line(&answer).unwrap()).unwrap();
            if !is_error {
                write.write_all(&line(&Frame::Done).unwrap()).unwrap();
            }
        }
    });
    requests
}

fn in_force() -> Frame {
    Frame::Reply(Box::new(Reply::InForce(InForce { interface: "veth1".to_owned(), generation: 7 })))
}

fn refused(message: &str) -> Frame {
    Frame::Error { message: message.to_owned() }
}

fn previous() -> Value {
    json!({
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "cni0"}, {"name": "veth1"}, {"name": "eth0", "sandbox": "/run/netns/x"}],
        "ips": [{"address": "10.244.1.7/24", "gateway": "10.244.1.1", "interface": 2}, {"address": "fd00::7/64"}],
        "dns": {}
    })
}

fn configuration(socket: &Path) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "net", "type": "polder-cni", "socket": socket, "timeoutSeconds": 1,
        "prevResult": previous()
    })
}

/// Exit code and what is on standard output.
fn call(command: &str, arguments: &str, input: &str) -> (Option<i32>, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_polder-cni"))
        .env_clear()
        .env("CNI_COMMAND", command)
        .env("CNI_ARGS", arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

fn error((code, text): (Option<i32>, String)) -> (u64, String) {
    assert_eq!(code, Some(1), "{text}");
    let error: Value = serde_json::from_str(&text).unwrap();
    let word = |key: &str| error[key].as_str().unwrap().to_owned();
    assert!(word("cniVersion") == "1.0.0" || word("cniVersion") == "1.1.0");
    (error["code"].as_u64().unwrap(), format!("{}: {}", word("msg"), word("details")))
}

fn scratch() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent.sock");
    (folder, socket)
}

#[test]
fn the_result_before_is_passed_on_when_the_policy_is_in_force() {
    let (_folder, socket) = scratch();
    let requests = agent(&socket, vec![in_force()]);
    let (code, text) = call("ADD", POD, &configuration(&socket).to_string());
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), previous());
    let Request::Wait(wait) = requests.recv().unwrap() else { panic!("no wait") };
    let pod = Pod { namespace: "shop".to_owned(), name: "cart-0".to_owned(), uid: "u1".to_owned() };
    let addresses = vec!["10.244.1.7".parse().unwrap(), "fd00::7".parse().unwrap()];
    assert!((900..=1000).contains(&wait.patience_ms), "{}", wait.patience_ms);
    assert_eq!(wait, Wait { pod, addresses, patience_ms: wait.patience_ms });
}

#[test]
fn a_pod_whose_policy_is_not_in_force_in_time_does_not_start_and_it_is_said_why() {
    let (_folder, socket) = scratch();
    let again = (0..30).map(|_| refused("shop/cart-0: the agent has not heard of it yet")).collect();
    let _requests = agent(&socket, again);
    let begun = Instant::now();
    let (code, text) = error(call("ADD", POD, &configuration(&socket).to_string()));
    assert!(
        (Duration::from_millis(700)..Duration::from_secs(5)).contains(&begun.elapsed()),
        "{:?}",
        begun.elapsed()
    );
    let expected = "the policy of shop/cart-0 is not in force after 1 s: agent: shop/cart-0: the agent has not heard of it yet";
    assert_eq!((code, text.as_str()), (11, expected));
}

#[test]
fn an_agent_that_starts_in_time_is_waited_for() {
    let (_folder, socket) = scratch();
    let later = socket.clone();
    let starting = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        agent(&later, vec![in_force()])
    });
    let (code, text) = call("ADD", POD, &configuration(&socket).to_string());
    assert_eq!(code, Some(0), "{text}");
    starting.join().unwrap();
}

#[test]
fn without_an_agent_no_pod_starts_and_every_pod_can_be_taken_down() {
    let (_folder, socket) = scratch();
    let configuration = configuration(&socket).to_string();
    let (code, text) = error(call("ADD", POD, &configuration));
    assert_eq!(code, 11);
    assert!(text.contains("expected a running polder-agent"), "{text}");
    assert_eq!(error(call("CHECK", POD, &configuration)).0, 11);
    assert_eq!(error(call("STATUS", "", &configuration)).0, 50);
    for (arguments, input) in [(POD, configuration.as_str()), ("", "{}")] {
        assert_eq!(call("DEL", arguments, input), (Some(0), String::new()));
    }
}

#[test]
fn a_pod_that_is_taken_down_is_told_to_the_agent() {
    let (_folder, socket) = scratch();
    let requests = agent(&socket, vec![Frame::Reply(Box::new(Reply::Released))]);
    assert_eq!(call("DEL", POD, &configuration(&socket).to_string()), (Some(0), String::new()));
    let pod = Pod { namespace: "shop".to_owned(), name: "cart-0".to_owned(), uid: "u1".to_owned() };
    assert_eq!(requests.recv().unwrap(), Request::Release(pod));
}

#[test]
fn check_asks_once_and_does_not_wait() {
    let (_folder, socket) = scratch();
    let requests = agent(&socket, vec![in_force()]);
    assert_eq!(call("CHECK", POD, &configuration(&socket).to_string()), (Some(0), String::new()));
    let Request::Wait(wait) = requests.recv().unwrap() else { panic!("no wait") };
    assert_eq!(wait.patience_ms, 0);
}

#[test]
fn what_is_wrong_is_said_with_the_code_of_the_specification() {
    let (_folder, socket) = scratch();
    let with = |change: fn(&mut Value)| {
        let mut configuration = configuration(&socket);
        change(&mut configuration);
        configuration.to_string()
    };
    let good = with(|_| {});
    let old = with(|configuration| configuration["cniVersion"] = json!("0.2.0"));
    let (code, text) = call("ADD", POD, &old);
    assert_eq!(code, Some(1));
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((told["code"].as_u64(), told["cniVersion"].as_str()), (Some(1), Some("0.2.0")));
    for (command, arguments, input, code, expected) in [
        ("ADD", "K8S_POD_NAME=a", good.clone(), 4, "no K8S_POD_NAMESPACE"),
        ("ADD", "", good.clone(), 4, "no K8S_POD_NAMESPACE"),
        ("MOVE", POD, good, 4, "expected ADD, DEL, CHECK, STATUS, GC or VERSION"),
        ("ADD", POD, "{".to_owned(), 6, "EOF"),
        ("ADD", POD, with(|all| all["prevResult"] = Value::Null), 7, "prevResult: found none"),
        ("ADD", POD, with(|all| all["prevResult"]["ips"] = json!([])), 7, "prevResult.ips: found none"),
        ("ADD", POD, with(|all| all["prevResult"]["ips"][0]["address"] = json!("x")), 6, "invalid IP"),
        ("ADD", POD, with(|all| all["timeoutSeconds"] = json!(3600)), 7, "found 3600, expected 1 to 20"),
    ] {
        let (found, text) = error(call(command, arguments, &input));
        assert_eq!(found, code, "{text}");
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn versions_are_told_and_garbage_is_none_of_its_business() {
    let (code, text) = call("VERSION", "", r#"{"cniVersion": "1.1.0"}"#);
    assert_eq!(code, Some(0));
    let versions: Value = serde_json::from_str(&text).unwrap();
    let supported = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
    assert_eq!(versions, json!({"cniVersion": "1.1.0", "supportedVersions": supported}));
    let (_folder, socket) = scratch();
    assert_eq!(call("GC", "", &configuration(&socket).to_string()), (Some(0), String::new()));
}
