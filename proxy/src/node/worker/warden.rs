//! The policy of one connection: its snapshot, taken anew whenever the generation changes.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

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

/// What requests are judged by: maps, and the lists that their rows name.
#[derive(Debug)]
pub(crate) struct Book<S> {
    pub(crate) source: S,
    pub(crate) library: Library,
}

/// What all connections are judged by.
#[derive(Debug)]
pub(crate) struct Tribunal<S> {
    book: RwLock<Arc<Book<S>>>,
    counts: Counts,
    complaints: Seldom,
}

impl<S: Source> Tribunal<S> {
    /// By maps and lists.
    pub(crate) fn new(book: Book<S>, counts: Counts) -> Self {
        Self { book: RwLock::new(Arc::new(book)), counts, complaints: Seldom::default() }
    }

    /// From now on by others: every connection is judged anew at its next request.
    pub(crate) fn follow(&self, book: Book<S>) {
        *self.book.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(book);
    }

    fn book(&self) -> Arc<Book<S>> {
        Arc::clone(&self.book.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn take(&self, ends: Ends) -> Result<Held<S>, Closed> {
        let book = self.book();
        let load = |key| {
            let told = book.library.list(key).inspect_err(|error| {
                self.counts.missing_lists.inc();
                if self.complaints.is_due() {
                    let list = lists::name(key);
                    tracing::error!(list, %error, "a list of rules cannot be read, so what it is about is closed");
                }
            });
            told.ok()
        };
        match Snapshot::take(&book.source, load, ends) {
            Ok(snapshot) => Ok(Held { snapshot: Arc::new(snapshot), book }),
            Err(closed) => {
                self.tell(&closed);
                Err(closed)
            }
        }
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

/// What a connection was judged by last.
#[derive(Debug)]
struct Held<S> {
    snapshot: Arc<Snapshot>,
    /// Where that is from.
    book: Arc<Book<S>>,
}

impl<S: Source> Held<S> {
    /// Whether it still holds.
    fn is_current(&self, tribunal: &Tribunal<S>) -> bool {
        let generation = self.book.source.generation();
        generation.is_ok_and(|generation| self.snapshot.generation() == generation)
            && self.snapshot.is_complete()
            && Arc::ptr_eq(&self.book, &tribunal.book())
    }

    /// Whether it still holds, and the same ends are asked.
    fn is_confirmed(&self, tribunal: &Tribunal<S>, ends: Ends) -> bool {
        self.snapshot.still_holds(&self.book.source, ends) && Arc::ptr_eq(&self.book, &tribunal.book())
    }
}

/// The policy of one connection.
#[derive(Debug)]
pub(crate) struct Warden<S> {
    tribunal: Arc<Tribunal<S>>,
    ends: Ends,
    held: Mutex<Result<Held<S>, Reason>>,
}

impl<S: Source> Warden<S> {
    /// Of a connection that has just come.
    ///
    /// # Errors
    ///
    /// Nothing may pass it, whatever it asks.
    pub(crate) fn new(tribunal: Arc<Tribunal<S>>, ends: Ends) -> Result<Self, Closed> {
        let held = tribunal.take(ends)?;
        Ok(Self { tribunal, ends, held: Mutex::new(Ok(held)) })
    }

    /// Looks again at who is asked, once the server's side of the connection is open: its first packet may have shown the kernel
    /// an end that was not known when the request was judged. The library judges before it connects, so it is too late to ask
    /// that end: this one connection fails, and the client's next is judged by all ends from the start.
    pub(crate) fn confirm(&self) -> io::Result<()> {
        let mut held = self.lock();
        if held.as_ref().is_ok_and(|held| held.is_confirmed(&self.tribunal, self.ends)) {
            return Ok(());
        }
        let before = held.as_ref().ok().map(|held| Arc::clone(&held.snapshot));
        *held = self.tribunal.take(self.ends).map_err(|closed| reason(&closed));
        match (before, held.as_ref()) {
            (Some(before), Ok(after)) if before.asks() == after.snapshot.asks() => Ok(()),
            _ => {
                self.tribunal.counts.changed_ends.inc();
                Err(io::ErrorKind::PermissionDenied.into())
            }
        }
    }

    /// What holds now.
    fn current(&self) -> Result<Arc<Snapshot>, Reason> {
        let mut held = self.lock();
        if !held.as_ref().is_ok_and(|held| held.is_current(&self.tribunal)) {
            *held = self.tribunal.take(self.ends).map_err(|closed| reason(&closed));
        }
        held.as_ref().map(|held| Arc::clone(&held.snapshot)).map_err(|reason| *reason)
    }

    fn decide(&self, request: &Request<'_>) -> policy::Verdict {
        verdict(match self.current() {
            Ok(snapshot) => snapshot.judge(request),
            Err(reason) => Decision { verdict: verdict::Verdict::Deny, reason, rule: None },
        })
    }

    /// A snapshot is replaced as a whole, so a panic elsewhere leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, Result<Held<S>, Reason>> {
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
        self.tribunal.book().source.generation().map_or(u64::MAX, u64::from)
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
        let tribunal =
            Arc::new(Tribunal::new(Book { source, library }, Counts::new(&mut Registry::default())));
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
        let reads = || tribunal.book().source.reads.load(Ordering::Relaxed);
        let before = reads();
        assert!(allows(&warden) && allows(&warden));
        assert_eq!(reads(), before);
        tribunal.book().source.generation.store(1, Ordering::Relaxed);
        assert!(!allows(&warden));
        assert_ne!(reads(), before);
    }

    #[test]
    fn a_confirmation_reads_who_is_asked_and_the_rest_only_if_the_generation_changed() {
        let (tribunal, warden) = warden(one_pod(), &lists());
        let warden = warden.unwrap();
        let reads = || tribunal.book().source.reads.swap(0, Ordering::Relaxed);
        let all = reads();
        assert!(warden.confirm().is_ok());
        let few = reads();
        tribunal.book().source.generation.store(2, Ordering::Relaxed);
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
        tribunal.book().source.set_flow(server(9));
        assert_eq!(warden.confirm().unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(tribunal.counts.changed_ends.get(), 1);
        tribunal.book().source.set_flow(None);
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
