use bytes::Bytes;
use pages::{Answers, Page, Status};
use proxy_api::request::{Outcome, Protocol};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;

const SOON: Duration = Duration::from_secs(10);

/// A proxy that tells what a test says.
struct Proxy {
    notable: broadcast::Sender<Bytes>,
    plain: broadcast::Sender<Bytes>,
}

impl Answers for Proxy {
    async fn page(&self, path: &str) -> Page {
        let from = match path {
            NOTABLE => &self.notable,
            PLAIN => &self.plain,
            _ => return Page::text(Status::NOT_FOUND, String::new()),
        };
        Page::lines(futures::stream::unfold(from.subscribe(), async |mut lines| {
            Some((lines.recv().await.ok()?, lines))
        }))
    }
}

impl Proxy {
    /// At a socket, in the place of whoever was there. What it accepts it serves to the end, also when it is aborted.
    fn start(socket: &Path) -> (Arc<Self>, JoinHandle<()>) {
        let _nobody = std::fs::remove_file(socket);
        let proxy = Arc::new(Self { notable: broadcast::channel(64).0, plain: broadcast::channel(64).0 });
        let listener = UnixListener::bind(socket).unwrap();
        let serving = tokio::spawn(pages::serve(listener, Arc::clone(&proxy)));
        (proxy, serving)
    }

    async fn tell(&self, news: &News<'_>) {
        let to = match news {
            News::Request(request) if request.outcome == Outcome::Allowed => &self.plain,
            _ => &self.notable,
        };
        wait(|| to.receiver_count() > 0).await;
        let mut line = serde_json::to_vec(news).unwrap();
        line.push(b'\n');
        to.send(line.into()).unwrap();
    }
}

fn request(generation: u64, outcome: Outcome) -> News<'static> {
    News::Request(Request {
        time: "2026-01-02T03:04:05Z".parse().unwrap(),
        client: ([10, 0, 0, 1], 4000).into(),
        server: ([10, 0, 0, 2], 80).into(),
        protocol: Protocol::Http1,
        method: "GET".into(),
        host: "shop".into(),
        path: "/a".into(),
        status: None,
        outcome,
        fault: None,
        reason: None,
        rule_set: None,
        rank: None,
        generation,
        seconds: 0.0,
    })
}

async fn wait(mut holds: impl FnMut() -> bool) {
    let come = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, come).await.unwrap();
}

struct Rig {
    folder: TempDir,
    history: Arc<History>,
    heard: mpsc::Receiver<Vec<Request<'static>>>,
}

impl Rig {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let history = History::new(16);
        let (requests, heard) = mpsc::channel(4);
        let rig = Self { folder, history, heard };
        tokio::spawn(Proxies::new(&rig.socket(), Arc::clone(&rig.history), requests).run());
        rig
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("proxy.sock")
    }

    /// The generation of the next request, which names it here.
    async fn next(&mut self) -> u64 {
        loop {
            let batch = timeout(SOON, self.heard.recv()).await.unwrap().unwrap();
            if let [one, ..] = &batch[..] {
                return one.generation;
            }
        }
    }
}

#[tokio::test]
async fn a_proxy_may_come_late_and_come_again() {
    let mut rig = Rig::new();
    for round in 0..3 {
        let (proxy, serving) = Proxy::start(&rig.socket());
        proxy.tell(&request(round, Outcome::Denied)).await;
        assert_eq!(rig.next().await, round);
        serving.abort();
    }
}

#[tokio::test]
async fn whoever_came_before_is_heard_to_the_end_beside_who_came_after() {
    let mut rig = Rig::new();
    let (first, _serving) = Proxy::start(&rig.socket());
    first.tell(&request(2, Outcome::Denied)).await;
    assert_eq!(rig.next().await, 2);
    // Another proxy at the same path.
    let (second, _serving) = Proxy::start(&rig.socket());
    second.tell(&request(3, Outcome::Denied)).await;
    assert_eq!(rig.next().await, 3);
    first.tell(&request(4, Outcome::Denied)).await;
    assert_eq!(rig.next().await, 4);
    assert_eq!((first.notable.receiver_count(), second.notable.receiver_count()), (1, 1));
}

#[tokio::test]
async fn what_was_allowed_is_asked_for_only_while_somebody_follows_and_holes_are_told() {
    let mut rig = Rig::new();
    let (proxy, _serving) = Proxy::start(&rig.socket());
    proxy.tell(&request(1, Outcome::Denied)).await;
    assert_eq!((rig.next().await, proxy.plain.receiver_count()), (1, 0));
    let follower = rig.history.demand().follow();
    let (_, mut live) = rig.history.follow();
    proxy.tell(&request(2, Outcome::Allowed)).await;
    assert_eq!(rig.next().await, 2);
    proxy.tell(&News::Lost(7)).await;
    let lost = timeout(SOON, live.recv()).await.unwrap().unwrap();
    assert!(matches!(lost, crate::api::history::News::Lost(7)), "{lost:?}");
    drop(follower);
    wait(|| proxy.plain.receiver_count() == 0).await;
    assert_eq!(proxy.notable.receiver_count(), 1);
}
