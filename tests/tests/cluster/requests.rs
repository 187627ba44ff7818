//! Rules about requests: who is asked what, beside the client and on another node, itself and by its service.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use crate::bed::{Bed, PATIENCE, POLDER, within};
use crate::traffic::{Inside, Task};

const PORT: u16 = 7080;
/// How long an answer may take.
const ANSWERED: Duration = Duration::from_secs(5);

/// A server that says to whoever asks who it is, and remembers what was asked.
struct Web {
    asked: Arc<Mutex<Vec<String>>>,
    _task: Task,
}

impl Web {
    fn start(inside: &Inside) -> Self {
        let listener = inside.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).unwrap());
        listener.set_nonblocking(true).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        let task = Task::start(move |stop| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let Ok((stream, from)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                };
                // Whoever asks nothing is of no interest.
                if let Ok(line) = answer(stream, from) {
                    noted.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                }
            }
        });
        Self { asked, _task: task }
    }

    fn was_asked(&self, what: &str) -> bool {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|line| line.contains(what))
    }
}

fn answer(mut stream: TcpStream, from: SocketAddr) -> std::io::Result<String> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(ANSWERED))?;
    let (mut head, mut octet) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut octet)?;
        head.extend(octet);
    }
    let body = from.to_string();
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())?;
    Ok(String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned())
}

/// The status and the body of the answer, and from where it was asked; none if there was no answer.
fn ask(inside: &Inside, to: SocketAddr, target: &str) -> Option<(u16, String, SocketAddr)> {
    let stream = inside.run(|| TcpStream::connect_timeout(&to, ANSWERED).ok());
    let asked = |mut stream: TcpStream| -> std::io::Result<_> {
        stream.set_read_timeout(Some(ANSWERED))?;
        write!(stream, "GET {target} HTTP/1.1\r\nHost: server\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok((text, stream.local_addr()?))
    };
    let (text, own) = asked(stream?).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned(), own))
}

impl Bed {
    /// Creates a policy of our own kind.
    async fn polder_policy(&self, name: &str, spec: Value) {
        let kind = GroupVersionKind::gvk("polder.dev", "v1alpha1", "PolderPolicy");
        let resource = ApiResource::from_gvk_with_plural(&kind, "polderpolicies");
        let policies: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        let object = DynamicObject::new(name, &resource).data(json!({"spec": spec}));
        policies.create(&PostParams::default(), &object).await.unwrap();
    }

    /// The addresses of a service in front of a pod.
    async fn service_of(&self, pod: &str) -> SocketAddr {
        let services: Api<Service> = Api::namespaced(self.client.clone(), &self.namespace);
        let object = json!({
            "metadata": {"name": pod},
            "spec": {"selector": {"only": pod}, "ports": [{"port": 80, "targetPort": PORT}]},
        });
        let made =
            services.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
        let address: IpAddr = made.spec.and_then(|spec| spec.cluster_ip).unwrap().parse().unwrap();
        (address, 80).into()
    }

    /// Replaces the proxy of a node, as an eviction does, and waits for the next one.
    async fn replace_proxy(&self, node: &str) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), POLDER);
        let proxies = ListParams::default()
            .labels("app.kubernetes.io/component=proxy")
            .fields(&format!("spec.nodeName={node}"));
        let before = pods.list(&proxies).await.unwrap().items;
        for pod in &before {
            pods.delete(pod.metadata.name.as_deref().unwrap(), &DeleteParams::default()).await.unwrap();
        }
        within("another proxy", PATIENCE, async || {
            let now = pods.list(&proxies).await.unwrap().items;
            let is_new = |pod: &Pod| !before.iter().any(|old| old.metadata.uid == pod.metadata.uid);
            let runs =
                |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
            now.iter().any(|pod| is_new(pod) && runs(pod)).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_request_is_judged_on_any_way_to_its_server() {
    let Some(bed) = Bed::new("requests").await else { return };
    let [near, far, friend, other] = bed
        .run([
            ("near", "server", "n1"),
            ("far", "server", "n2"),
            ("friend", "friend", "n1"),
            ("other", "other", "n1"),
        ])
        .await;
    let servers = [Web::start(&near.inside), Web::start(&far.inside)];
    let mut ways = vec![near.at(PORT), far.at(PORT)];
    for pod in ["near", "far"] {
        bed.label_only(pod).await;
        ways.push(bed.service_of(pod).await);
    }
    for way in &ways {
        within("the way open", PATIENCE, async || ask(&friend.inside, *way, "/before")).await;
    }
    bed.polder_policy(
        "server",
        json!({
            "subject": {"podSelector": {"matchLabels": {"app": "server"}}},
            "ingress": [{
                "action": "Allow",
                "from": [{"pods": {"podSelector": {"matchLabels": {"app": "friend"}}}}],
                "protocols": [{"tcp": {"destinationPort": {"number": PORT}}}],
                "http": [{"methods": ["GET"], "path": {"prefix": "/public"}}],
            }],
        }),
    )
    .await;
    let refused = |answer: &Option<(u16, String, SocketAddr)>| {
        answer.as_ref().is_some_and(|(status, ..)| *status == 403)
    };
    within("the rule in force", PATIENCE, async || {
        let answers = ways.iter().map(|way| ask(&friend.inside, *way, "/secret/early"));
        answers.collect::<Vec<_>>().iter().all(refused).then_some(())
    })
    .await;
    for way in &ways {
        let (status, body, own) = ask(&friend.inside, *way, "/public/1").unwrap();
        assert_eq!((status, body), (200, own.to_string()), "{way}: by the client's own address and port");
        let answer = ask(&friend.inside, *way, "/secret/late");
        assert!(refused(&answer), "{way}: {answer:?}");
        assert_eq!(ask(&other.inside, *way, "/public/other"), None, "{way}: who may not at all");
    }
    bed.replace_proxy("n1").await;
    within("requests are read again", PATIENCE, async || {
        let answer = ask(&friend.inside, ways[0], "/public/again");
        answer.filter(|(status, ..)| *status == 200)
    })
    .await;
    assert!(refused(&ask(&friend.inside, ways[0], "/secret/again")));
    for server in &servers {
        assert!(!server.was_asked("/secret/late") && !server.was_asked("/secret/again"), "LEAK");
        assert!(!server.was_asked("/public/other"), "LEAK");
        assert!(server.was_asked("/public/1"));
    }
}
