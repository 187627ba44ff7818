//! The local socket, as clients see it.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at what it did not expect")]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent::api::history::History;
use agent::api::socket::Socket;
use agent::api::{Answer, Call, Limits, Pieces, serve};
use agent_api::client::Client;
use agent_api::flow::{End, FlowLine, FlowVerdict};
use agent_api::judgement::Direction;
use agent_api::reply::Reply;
use agent_api::request::{Flows, Request};
use agent_api::verification::Verification;
use agent_api::world::Document;
use tempfile::TempDir;
use tokio::sync::{broadcast, mpsc};
use tokio::task::spawn_blocking;

struct Running {
    _folder: TempDir,
    socket: PathBuf,
    flows: broadcast::Sender<FlowLine>,
}

/// A server, and in the place of the agent a task that gives these documents, and a verification without differences.
fn start(documents: Vec<Document>, limits: Limits) -> Running {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("polder/agent.sock");
    let (flows, source) = broadcast::channel(64);
    let history = History::new(3);
    tokio::spawn(Arc::clone(&history).keep(source));
    let (calls, mut called) = mpsc::channel::<Call>(4);
    tokio::spawn(serve(Socket::bind(&socket).unwrap(), calls, history, limits));
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Some(Call { request, answer }) = called.recv().await {
            let answered = match request {
                Request::World => answer.send(Ok(Answer::World(Pieces::of(documents.clone().into_iter())))),
                Request::Verify => {
                    answer.send(Ok(Answer::Reply(Box::new(Reply::Verification(Verification::default())))))
                }
                Request::Judge(_) => answer.send(Err("no such pod".to_owned())),
                // Never answered.
                _ => {
                    kept.push(answer);
                    Ok(())
                }
            };
            answered.expect("somebody waits for the answer");
        }
    });
    Running { _folder: folder, socket, flows }
}

fn flow(number: u64, pod: &str) -> FlowLine {
    let end = |pod: Option<&str>| End {
        address: [10, 0, 0, 1].into(),
        port: Some(80),
        pod: pod.map(str::to_owned),
    };
    FlowLine {
        time: "2026-01-02T03:04:05.678Z".parse().unwrap(),
        direction: Direction::Ingress,
        source: end(None),
        destination: end(Some(pod)),
        protocol: "tcp".to_owned(),
        verdict: FlowVerdict::Denied,
        reason: "rule_denies".to_owned(),
        rule: None,
        repeats: number,
        request: None,
    }
}

async fn blocking<T: Send + 'static>(task: impl FnOnce() -> T + Send + 'static) -> T {
    spawn_blocking(task).await.unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn requests_are_answered_one_after_the_other_on_one_connection() {
    let long = Document { name: "long.yaml".to_owned(), text: "\u{e4}\n".repeat(4 << 20) };
    let running = start(vec![long.clone()], Limits::default());
    assert_eq!((mode(&running.socket), mode(running.socket.parent().unwrap())), (0o600, 0o700));
    let socket = running.socket.clone();
    blocking(move || {
        let mut client = Client::connect(&socket).unwrap();
        assert!(client.verify().unwrap().agrees());
        assert_eq!(client.judge(Vec::new()).unwrap_err().to_string(), "agent: no such pod");
        assert!(client.world().unwrap() == [long]);
        // An answer that was left half-way does not become that of the next request.
        drop(client.request(&Request::World).unwrap().next());
        assert!(client.verify().unwrap_err().to_string().contains("not read to its end"));
    })
    .await;
}

#[tokio::test]
async fn what_is_no_request_is_told_and_what_is_too_long_ends_the_connection() {
    let running = start(Vec::new(), Limits::default());
    let socket = running.socket.clone();
    let said = blocking(move || {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(b"{\"request\":\"stauts\"}\n").unwrap();
        stream.write_all(&vec![b'x'; agent_api::frame::REQUEST_LENGTH + 1]).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        said
    })
    .await;
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert!(lines[0].starts_with(r#"{"frame":"hello""#));
    assert!(lines[1].contains("cannot be understood: unknown variant `stauts`"), "{said}");
    assert!(lines[2].contains("longer than 1048576 bytes"), "{said}");
}

#[tokio::test]
async fn another_user_is_told_that_it_may_not_ask_even_if_the_file_lets_it() {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("POLDER_STRICT").is_none_or(|strict| strict != "1"), "this needs root");
        eprintln!("SKIPPED: only root can be another user");
        return;
    }
    let running = start(Vec::new(), Limits::default());
    let socket = running.socket.clone();
    for (path, mode) in [
        (socket.parent().unwrap().parent().unwrap(), 0o755),
        (socket.parent().unwrap(), 0o755),
        (&socket, 0o666),
    ] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let asked = std::thread::spawn(move || {
        let keep: libc::c_long = -1;
        // SAFETY: three numbers; the bare call changes the user of this thread only, and the thread ends with it.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, keep, 65_534 as libc::c_long, keep) }, 0);
        Client::connect(&socket).map(drop).unwrap_err().to_string()
    });
    let said = blocking(move || asked.join().unwrap()).await;
    assert_eq!(said, "agent: user 65534 may not ask the agent; expected root");
}

#[tokio::test]
async fn a_silent_control_task_and_silent_clients_are_not_waited_for() {
    let short = Duration::from_millis(100);
    let running = start(Vec::new(), Limits { answer: short, read: short, ..Limits::default() });
    let socket = running.socket.clone();
    blocking(move || {
        let mut client = Client::connect(&socket).unwrap();
        let error = client.status().unwrap_err().to_string();
        assert!(error.contains("the agent is busy"), "{error}");
        let mut silent = UnixStream::connect(&socket).unwrap();
        silent.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut said = String::new();
        silent.read_to_string(&mut said).unwrap();
        assert_eq!(said.lines().count(), 1, "a hello, and the end: {said}");
    })
    .await;
}

#[tokio::test]
async fn connections_above_the_bound_are_turned_away_and_have_room_again_later() {
    let running = start(Vec::new(), Limits { connections: 2, ..Limits::default() });
    let socket = running.socket.clone();
    blocking(move || {
        let two = [Client::connect(&socket).unwrap(), Client::connect(&socket).unwrap()];
        let error = Client::connect(&socket).unwrap_err().to_string();
        assert_eq!(error, "agent: 2 clients are connected already; expected fewer: try again");
        drop(two);
        let mut tries = 0;
        while let Err(error) = Client::connect(&socket) {
            tries += 1;
            assert!(tries < 100, "{error}");
            std::thread::sleep(Duration::from_millis(20));
        }
    })
    .await;
}

#[tokio::test]
async fn flows_are_remembered_up_to_a_bound_filtered_and_followed() {
    let running = start(Vec::new(), Limits::default());
    for number in 1..=5 {
        running.flows.send(flow(number, if number == 4 { "a/other" } else { "a/pod" })).unwrap();
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let socket = running.socket.clone();
    let repeats = |reply: Reply| match reply {
        Reply::Flow(flow) => flow.repeats,
        other => panic!("{other:?}"),
    };
    let mut client = blocking(move || Client::connect(&socket).unwrap()).await;
    let client = blocking(move || {
        let of_pod = Flows { pod: Some("a/pod".to_owned()), ..Flows::default() };
        let seen: Vec<_> =
            client.request(&Request::Flows(of_pod)).unwrap().map(|reply| repeats(reply.unwrap())).collect();
        assert_eq!(seen, [3, 5], "of the last three, those of the pod");
        client
    })
    .await;
    let (sent, mut seen) = mpsc::channel(16);
    let mut following = client;
    std::thread::spawn(move || {
        let since = Some("2026-01-01T00:00:00Z".parse().unwrap());
        let follow = Flows { follow: true, since, ..Flows::default() };
        for reply in following.request(&Request::Flows(follow)).unwrap() {
            if sent.blocking_send(repeats(reply.unwrap())).is_err() {
                return;
            }
        }
    });
    for expected in [3, 4, 5] {
        assert_eq!(seen.recv().await, Some(expected));
    }
    running.flows.send(flow(6, "a/pod")).unwrap();
    assert_eq!(seen.recv().await, Some(6));
}

#[tokio::test]
async fn a_slow_follower_is_told_how_many_lines_it_lost() {
    let running = start(Vec::new(), Limits::default());
    let socket = running.socket.clone();
    let mut client = blocking(move || Client::connect(&socket).unwrap()).await;
    let (go, gone) = std::sync::mpsc::channel();
    let follower = spawn_blocking(move || {
        let follow = Flows { follow: true, ..Flows::default() };
        let mut replies = client.request(&Request::Flows(follow)).unwrap();
        gone.recv().unwrap();
        let (mut lines, mut lost) = (0, 0);
        while lines + lost < 20_000 {
            match replies.next().unwrap().unwrap() {
                Reply::Flow(_) => lines += 1,
                Reply::Lost { lines } => lost += lines,
                other => panic!("{other:?}"),
            }
        }
        (lines, lost)
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    for number in 0..20_000 {
        running.flows.send(flow(number, "a/pod")).unwrap();
        // The source itself is never behind here.
        if number % 32 == 0 {
            tokio::task::yield_now().await;
        }
    }
    go.send(()).unwrap();
    let (lines, lost) = follower.await.unwrap();
    assert!(lost > 0 && lines + lost == 20_000, "{lines} lines, {lost} lost");
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_or_another_file_is_not() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("agent.sock");
    drop(UnixListener::bind(&path).unwrap());
    let first = Socket::bind(&path).unwrap();
    let error = Socket::bind(&path).unwrap_err().to_string();
    assert!(error.contains("an agent listens at") && error.contains("already"), "{error}");
    drop(first);
    assert!(!path.exists(), "its own socket is removed");
    // Somebody else's, without the lock.
    let other = UnixListener::bind(&path).unwrap();
    assert!(Socket::bind(&path).unwrap_err().to_string().contains("already"));
    drop(other);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    assert!(Socket::bind(&path).unwrap_err().to_string().contains("is no socket"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn a_directory_that_others_may_write_to_is_refused() {
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = Socket::bind(&folder.path().join("agent.sock")).unwrap_err().to_string();
    assert!(error.contains("has mode 777; expected one that only its owner can write to"), "{error}");
}
