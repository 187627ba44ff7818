use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use http::Response;
use hyper::body::Bytes;
use kube::client::Body;
use serde_json::json;
use tower::service_fn;

use super::*;
use crate::kubernetes::server::FOLLOWED;

/// What the server does with one request.
enum Act {
    /// Answers with these lines; `true`: and leaves the watch open.
    Lines(Vec<String>, bool),
    Status(u16, &'static str),
    /// Never answers.
    Silence,
}

/// A server that does these things in order, and notes what it was asked.
fn server(acts: Vec<Act>) -> (Client, Arc<Mutex<Vec<String>>>) {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let acts = Arc::new(Mutex::new(VecDeque::from(acts)));
    let noted = Arc::clone(&asked);
    let service = service_fn(move |request: Request<Body>| {
        noted.lock().unwrap().push(request.uri().to_string());
        let act = acts.lock().unwrap().pop_front();
        async move {
            let (code, body) = match act {
                Some(Act::Lines(all, stays)) => (200, lines(&all, stays)),
                Some(Act::Status(code, message)) => {
                    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
                        "message": message, "reason": "r"});
                    (code, lines(&[status.to_string()], false))
                }
                Some(Act::Silence) | None => std::future::pending().await,
            };
            Ok::<_, std::convert::Infallible>(Response::builder().status(code).body(body).unwrap())
        }
    });
    (Client::new(service, "default"), asked)
}

/// A body that gives its text, and then ends or stays.
struct Text {
    text: Option<String>,
    stays: bool,
}

fn lines(lines: &[String], stays: bool) -> Text {
    Text { text: Some(lines.join("\n") + "\n"), stays }
}

impl http_body::Body for Text {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        match self.text.take() {
            Some(text) => std::task::Poll::Ready(Some(Ok(http_body::Frame::data(text.into())))),
            None if self.stays => std::task::Poll::Pending,
            None => std::task::Poll::Ready(None),
        }
    }
}

fn event(kind: &str, name: &str, version: u32) -> String {
    let object =
        json!({"metadata": {"name": name, "namespace": "n", "resourceVersion": version.to_string()}});
    json!({"type": kind, "object": object}).to_string()
}

fn mark(version: u32, ends: bool) -> String {
    let notes = if ends { json!({"k8s.io/initial-events-end": "true"}) } else { json!({}) };
    let metadata = json!({"resourceVersion": version.to_string(), "annotations": notes});
    json!({"type": "BOOKMARK", "object": {"kind": "x", "apiVersion": "v1", "metadata": metadata}}).to_string()
}

/// What is told, until so many things were, one word each.
async fn told(client: Client, kind: Kind, count: usize) -> Vec<String> {
    let what = *FOLLOWED.iter().find(|one| one.kind == kind).unwrap();
    let (heard, mut hearing) = mpsc::channel(100);
    let follower = tokio::spawn(Follower::new(client, what, Patience::default(), heard).run());
    let mut all = Vec::new();
    while all.len() < count {
        let (_, seen) = timeout(Duration::from_hours(1), hearing.recv()).await.unwrap().unwrap();
        let name = |text: &str| live::version(text).unwrap().name;
        all.push(match &seen {
            Seen::Object(text) => name(text),
            Seen::Gone(text) => format!("-{}", name(text)),
            Seen::Trouble(why) => format!("trouble: {why}"),
            Seen::Version(version) => format!("@{version}"),
            other => format!("{other:?}"),
        });
    }
    // It would notice only when it has something to say.
    follower.abort();
    all
}

/// The parameter of a request.
fn asked_for(asked: &Mutex<Vec<String>>, parameter: &str) -> Vec<Option<String>> {
    let value = |uri: &String| {
        let pairs = uri.split_once('?').map_or("", |(_, query)| query).split('&');
        let mut found = pairs.filter_map(|pair| pair.split_once('=')).filter(|(key, _)| *key == parameter);
        found.next().map(|(_, value)| value.to_owned())
    };
    asked.lock().unwrap().iter().map(value).collect()
}

#[tokio::test(start_paused = true)]
async fn a_list_is_streamed_and_the_watch_goes_on_where_it_ended() {
    let first = vec![event("ADDED", "a", 3), mark(5, true), event("MODIFIED", "a", 6), mark(9, false)];
    let (client, asked) =
        server(vec![Act::Lines(first, false), Act::Lines(vec![event("DELETED", "a", 12)], true)]);
    let all = told(client, Kind::NetworkPolicy, 9).await;
    assert_eq!(all, ["Begun", "a", "Listed", "@5", "a", "@6", "@9", "-a", "@12"]);
    assert_eq!(asked_for(&asked, "sendInitialEvents"), [Some("true".to_owned()), None]);
    assert_eq!(asked_for(&asked, "resourceVersion"), [Some(String::new()), Some("9".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_stream_lists_in_pages() {
    let page = |names: &[&str], rest: &str| {
        let items: Vec<_> = names.iter().map(|name| json!({"metadata": {"name": name}})).collect();
        json!({"kind": "PodList", "metadata": {"resourceVersion": "7", "continue": rest}, "items": items})
            .to_string()
    };
    // Of a server without the feature, and of one whose etcd (3.4) cannot tell how far it is.
    for refusal in [
        Act::Status(422, "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch"),
        Act::Status(500, "watch stream does not support RequestWatchProgress"),
    ] {
        let (client, asked) = server(vec![
            refusal,
            Act::Lines(vec![page(&["a", "b"], "more")], false),
            Act::Lines(vec![page(&["c"], "")], false),
            Act::Lines(vec![event("ADDED", "d", 8)], true),
        ]);
        assert_eq!(told(client, Kind::Pod, 6).await, ["Begun", "a", "b", "c", "Listed", "d"]);
        assert_eq!(asked_for(&asked, "continue"), [None, None, Some("more".to_owned()), None]);
        assert_eq!(asked_for(&asked, "resourceVersion").last().unwrap().as_deref(), Some("7"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_too_old_leads_to_a_new_list() {
    let gone = json!({"type": "ERROR", "object": {"code": 410, "status": "Failure", "message": "m", "reason": "Expired"}});
    let (client, asked) = server(vec![
        Act::Lines(vec![event("ADDED", "a", 3), mark(5, true), gone.to_string()], true),
        Act::Lines(vec![event("ADDED", "b", 9), mark(9, true)], true),
    ]);
    assert_eq!(told(client, Kind::Pod, 6).await, ["Begun", "a", "Listed", "Begun", "b", "Listed"]);
    assert_eq!(asked_for(&asked, "sendInitialEvents").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_silent_watch_is_replaced_and_bookmarks_are_no_silence() {
    let (client, asked) =
        server(vec![Act::Lines(vec![mark(5, true)], true), Act::Lines(vec![event("ADDED", "a", 6)], true)]);
    let begun = Instant::now();
    let all = told(client, Kind::Pod, 3).await;
    assert_eq!(all, ["Begun", "Listed", "a"]);
    assert!(begun.elapsed() < Duration::from_secs(76), "{:?}", begun.elapsed());
    assert_eq!(asked_for(&asked, "resourceVersion"), [Some(String::new()), Some("5".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn failures_are_said_and_tried_again_with_pauses_that_grow_to_a_bound() {
    let mut acts: Vec<Act> = (0..20).map(|_| Act::Status(500, "no")).collect();
    acts.push(Act::Silence);
    acts.push(Act::Lines(vec![mark(5, true)], true));
    let (client, asked) = server(acts);
    let begun = Instant::now();
    let all = told(client, Kind::Pod, 24).await;
    assert_eq!(all[0], "trouble: pods: the server answers 500 r: no");
    assert_eq!(all[20], "trouble: pods: the server does not answer within 30s");
    assert_eq!(all[21..], ["Begun", "Listed", "Well"]);
    assert_eq!(asked.lock().unwrap().len(), 22);
    // 0.2 + 0.4 + 0.8 + 1.6 + 3.2 + 16 times 5, each by half at most less, and the 30.
    let took = begun.elapsed().as_secs_f64() - 30.0;
    assert!((43.0..=87.0).contains(&took), "{took} s");
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_missing_is_asked_for_again_and_one_that_was_there_is_not_given_up_at_once() {
    let (client, asked) = server(vec![
        Act::Status(404, "no such kind"),
        Act::Lines(vec![event("ADDED", "a", 3), mark(5, true)], false),
        Act::Status(404, "no such kind"),
        Act::Status(404, "no such kind"),
        Act::Status(404, "no such kind"),
        Act::Status(404, "no such kind"),
    ]);
    let begun = Instant::now();
    let all = told(client, Kind::AdminNetworkPolicy, 6).await;
    assert_eq!(all, ["Absent", "Begun", "a", "Listed", "@5", "Absent"]);
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(17), "{took:?}");
    assert!((5..=6).contains(&asked.lock().unwrap().len()), "{:?}", asked.lock().unwrap());
}
