//! The policy of one connection: its snapshot, taken anew whenever the generation changes.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datapath::http::{ClientHello, Head, Request, Version};
use datapath::lookup::Decision;
use datapath::verdict::{self, Reason};
use proxy::log::Ends;
use proxy::policy::{self, Policy, Protocols};

use super::counts::Counts;
use super::lists::{self, Library};
use super::ruling::verdict;
use super::seldom::Seldom;
use super::snapshot::{Closed, Snapshot};
use crate::kernel::tables::Source;

/// What all connections are judged by.
#[derive(Debug)]
pub(crate) struct Tribunal<S> {
    source: S,
    library: Library,
    counts: Counts,
    complaints: Seldom,
}

impl<S: Source> Tribunal<S> {
    /// Over maps and lists.
    pub(crate) fn new(source: S, library: Library, counts: Counts) -> Self {
        Self { source, library, counts, complaints: Seldom::default() }
    }

    fn take(&self, ends: Ends) -> Result<Arc<Snapshot>, Closed> {
        let load = |key| {
            let told = self.library.list(key).inspect_err(|error| {
                self.counts.missing_lists.inc();
                if self.complaints.is_due() {
                    let list = lists::name(key);
                    tracing::error!(list, %error, "a list of rules cannot be read, so what it is about is closed");
                }
            });
            told.ok()
        };
        let taken = Snapshot::take(&self.source, load, ends);
        taken.map(Arc::new).inspect_err(|closed| self.tell(closed))
    }

    fn tell(&self, closed: &Closed) {
        let (counter, problem) = match closed {
            Closed::NoFlow => (&self.counts.no_flow, None),
            Closed::NoEnd => (&self.counts.no_end, None),
            Closed::Unsettled => {
                (&self.counts.unsettled, Some("the rules changed faster than they could be read".to_owned()))
            }
            Closed::Failed(error) => (&self.counts.failed_reads, Some(error.to_string())),
        };
        counter.inc();
        if let Some(problem) = problem
            && self.complaints.is_due()
        {
            tracing::error!(problem, "the rules cannot be read, so nothing passes");
        }
    }
}

/// The policy of one connection.
#[derive(Debug)]
pub(crate) struct Warden<S> {
    tribunal: Arc<Tribunal<S>>,
    ends: Ends,
    held: Mutex<Result<Arc<Snapshot>, Reason>>,
}

impl<S: Source> Warden<S> {
    /// Of a connection that has just come.
    ///
    /// # Errors
    ///
    /// Nothing may pass it, whatever it asks.
    pub(crate) fn new(tribunal: Arc<Tribunal<S>>, ends: Ends) -> Result<Self, Closed> {
        let snapshot = tribunal.take(ends)?;
        Ok(Self { tribunal, ends, held: Mutex::new(Ok(snapshot)) })
    }

    /// Looks again at who is asked, once the server's side of the connection is open: its first packet may have shown the kernel
    /// an end that was not known when the request was judged. The library judges before it connects, so it is too late to ask
    /// that end: this one connection fails, and the client's next is judged by all ends from the start.
    pub(crate) fn confirm(&self) -> io::Result<()> {
        let mut held = self.lock();
        let before = held.as_ref().ok().cloned();
        if before.as_ref().is_some_and(|before| before.still_holds(&self.tribunal.source, self.ends)) {
            return Ok(());
        }
        *held = self.tribunal.take(self.ends).map_err(|closed| reason(&closed));
        match (before, held.as_ref()) {
            (Some(before), Ok(after)) if before.asks() == after.asks() => Ok(()),
            _ => {
                self.tribunal.counts.changed_ends.inc();
                Err(io::ErrorKind::PermissionDenied.into())
            }
        }
    }

    /// What holds now.
    fn current(&self) -> Result<Arc<Snapshot>, Reason> {
        let generation = self.tribunal.source.generation();
        let mut held = self.lock();
        match (generation, held.as_ref()) {
            (Ok(generation), Ok(snapshot))
                if snapshot.generation() == generation && snapshot.is_complete() => {}
            _ => *held = self.tribunal.take(self.ends).map_err(|closed| reason(&closed)),
        }
        held.clone()
    }

    fn decide(&self, request: &Request<'_>) -> policy::Verdict {
        verdict(match self.current() {
            Ok(snapshot) => snapshot.judge(request),
            Err(reason) => Decision { verdict: verdict::Verdict::Deny, reason, rule: None },
        })
    }

    /// A snapshot is replaced as a whole, so a panic elsewhere leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, Result<Arc<Snapshot>, Reason>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn reason(closed: &Closed) -> Reason {
    match closed {
        Closed::NoFlow | Closed::NoEnd => Reason::UnknownEndpoint,
        Closed::Unsettled | Closed::Failed(_) => Reason::CorruptTable,
    }
}

impl<S: Source + Send + Sync> Policy for Warden<S> {
    fn generation(&self) -> u64 {
        // No generation has this number: whoever asks again is told that nothing passes.
        self.tribunal.source.generation().map_or(u64::MAX, u64::from)
    }

    fn protocols(&self) -> Protocols {
        let everything = Protocols { http1: true, http2: true, tls: true };
        self.current().map_or(everything, |snapshot| snapshot.protocols())
    }

    fn judge(&self, head: &policy::Head<'_>) -> policy::Verdict {
        let protocol = match head.version {
            policy::Version::Http1 => Version::Http1,
            policy::Version::Http2 => Version::Http2,
        };
        let policy::Head { method, host, path, headers, .. } = *head;
        self.decide(&Request::Http(Head { protocol, method, host, path, headers }))
    }

    fn judge_name(&self, name: Option<&[u8]>) -> policy::Verdict {
        self.decide(&Request::Tls(ClientHello { server_name: name.unwrap_or_default() }))
    }

    fn names_header(&self, name: &[u8]) -> bool {
        // What is closed is denied, whatever its headers are called.
        self.current().is_ok_and(|snapshot| snapshot.names_header(name))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::sync::atomic::Ordering;

    use datapath::flow::{End, Flow, Side};
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::worker::fake::Fake;
    use crate::worker::snapshot::tests::{KEY, ends, list_bytes, one_pod};

    /// A connection to the one pod, before lists in a directory.
    fn warden(
        source: Fake,
        lists: &tempfile::TempDir,
    ) -> (Arc<Tribunal<Fake>>, Result<Warden<Fake>, Closed>) {
        let library = Library::new(File::open(lists.path()).unwrap().into());
        let tribunal = Arc::new(Tribunal::new(source, library, Counts::new(&mut Registry::default())));
        let warden = Warden::new(Arc::clone(&tribunal), ends());
        (tribunal, warden)
    }

    fn lists() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(lists::name(KEY)), list_bytes()).unwrap();
        folder
    }

    fn allows(warden: &Warden<Fake>) -> bool {
        let head = policy::Head {
            version: policy::Version::Http1,
            method: b"GET",
            host: b"a",
            path: b"/",
            headers: &[],
        };
        matches!(warden.judge(&head), policy::Verdict::Allow { .. })
    }

    #[test]
    fn a_request_reads_no_map_unless_the_generation_changed() {
        let (tribunal, warden) = warden(one_pod(), &lists());
        let warden = warden.unwrap();
        let reads = || tribunal.source.reads.load(Ordering::Relaxed);
        let before = reads();
        assert!(allows(&warden) && allows(&warden));
        assert_eq!(reads(), before);
        tribunal.source.generation.store(1, Ordering::Relaxed);
        assert!(!allows(&warden));
        assert_ne!(reads(), before);
    }

    #[test]
    fn a_confirmation_reads_who_is_asked_and_the_rest_only_if_the_generation_changed() {
        let (tribunal, warden) = warden(one_pod(), &lists());
        let warden = warden.unwrap();
        let reads = || tribunal.source.reads.swap(0, Ordering::Relaxed);
        let all = reads();
        assert!(warden.confirm().is_ok());
        let few = reads();
        tribunal.source.generation.store(2, Ordering::Relaxed);
        assert!(warden.confirm().is_ok());
        assert_eq!((few, reads()), (1, few + all));
        assert!(allows(&warden));
        assert_eq!(reads(), 0);
    }

    #[test]
    fn an_end_that_becomes_known_too_late_to_be_asked_fails_the_connection() {
        let fake = one_pod();
        let server = |interface| {
            let flow = Flow::begun_by(Side::Low).judged(Side::High, End { interface, judged: 0 }, 1);
            Some((flow, Side::Low))
        };
        let (tribunal, warden) = warden(fake, &lists());
        let warden = warden.unwrap();
        assert!(warden.confirm().is_ok());
        tribunal.source.set_flow(server(9));
        assert_eq!(warden.confirm().unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(tribunal.counts.changed_ends.get(), 1);
        tribunal.source.set_flow(None);
        assert!(warden.confirm().is_err());
    }

    #[test]
    fn a_list_that_comes_late_is_read_by_the_next_request() {
        let folder = tempfile::tempdir().unwrap();
        let (tribunal, warden) = warden(one_pod(), &folder);
        let warden = warden.unwrap();
        assert!(!allows(&warden));
        assert_eq!(tribunal.counts.missing_lists.get(), 2);
        fs::write(folder.path().join(lists::name(KEY)), list_bytes()).unwrap();
        assert!(allows(&warden));
    }

    #[test]
    fn without_a_flow_there_is_no_warden() {
        let fake = one_pod();
        fake.set_flow(None);
        let (tribunal, warden) = warden(fake, &lists());
        assert!(matches!(warden, Err(Closed::NoFlow)));
        assert_eq!(tribunal.counts.no_flow.get(), 1);
    }
}
