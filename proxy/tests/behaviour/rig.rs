//! What the tests put around a proxy: rules, an observer, a client, and a server that keeps every octet.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use prometheus_client::registry::Registry;
use proxy::connection::Proxy;
use proxy::limits::Limits;
use proxy::log::{Ends, Observer, Outcome, Protocol, Record};
use proxy::policy::{Head, Policy, Protocols, RuleId, Verdict};

/// Allows what is below `/public/` on the host `good`, from users; on TLS the name `good.example`.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) protocols: Protocols,
    /// 0: as above. Beyond: nothing is allowed, as of that generation.
    generation: AtomicU64,
    open: AtomicU64,
}

pub(crate) const ALLOWS: RuleId = RuleId(1);
pub(crate) const DENIES: RuleId = RuleId(2);

impl Rules {
    pub(crate) fn http1() -> Self {
        Rules::of(Protocols { http1: true, http2: false, tls: false })
    }

    pub(crate) fn of(protocols: Protocols) -> Self {
        Rules { protocols, generation: AtomicU64::new(1), open: AtomicU64::new(1) }
    }

    /// New rules: the same ones, or none that allow anything.
    pub(crate) fn change(&self, open: bool) {
        self.open.store(u64::from(open), Ordering::SeqCst);
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    fn verdict(&self, allowed: bool) -> Verdict {
        if allowed && self.open.load(Ordering::SeqCst) == 1 {
            Verdict::Allow { rule: ALLOWS }
        } else {
            Verdict::Deny { rule: DENIES, text: "denied by policy".into() }
        }
    }
}

impl Policy for Rules {
    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    fn protocols(&self) -> Protocols {
        self.protocols
    }

    fn judge(&self, head: &Head<'_>) -> Verdict {
        let mut roles = head.headers.iter().filter(|(name, _)| *name == b"x-role");
        let user = roles.all(|(_, value)| *value == b"user");
        self.verdict(head.host == b"good" && head.path.starts_with(b"/public/") && user)
    }

    fn judge_name(&self, name: Option<&[u8]>) -> Verdict {
        self.verdict(name == Some(b"good.example"))
    }

    fn names_header(&self, name: &[u8]) -> bool {
        name == b"x-role"
    }
}

/// A record that outlives its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) protocol: Protocol,
    pub(crate) request: String,
    pub(crate) status: Option<u16>,
    pub(crate) outcome: Outcome,
}

/// Keeps what it is told.
#[derive(Debug, Default)]
pub(crate) struct Keeper(Mutex<Vec<Kept>>);

impl Keeper {
    pub(crate) fn take(&self) -> Vec<Kept> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Observer for Keeper {
    fn record(&self, record: &Record<'_>) {
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let request = format!("{} {}{}", text(record.method), text(record.host), text(record.path));
        let Record { protocol, status, outcome, .. } = *record;
        self.0.lock().unwrap().push(Kept { protocol, request, status, outcome });
    }
}

/// A proxy whose records are kept.
pub(crate) fn proxy(limits: Limits) -> (Proxy, Arc<Keeper>) {
    let keeper = Arc::new(Keeper::default());
    (Proxy::new(limits, keeper.clone(), &mut Registry::default()), keeper)
}

pub(crate) fn ends() -> Ends {
    let address = |last| SocketAddr::from(([10, 0, 0, last], 8080));
    Ends { client: address(1), server: address(2) }
}
