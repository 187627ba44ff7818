//! What is counted beside what the library counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

type Labels = [(&'static str, &'static str); 1];

/// Counters, each made beforehand.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    /// Connections that were accepted.
    pub(crate) accepted: Counter,
    /// The kernel knows no flow of a connection.
    pub(crate) no_flow: Counter,
    /// No end of a connection is a pod of this node.
    pub(crate) no_end: Counter,
    /// The rules changed faster than they could be read.
    pub(crate) unsettled: Counter,
    /// A map could not be read.
    pub(crate) failed_reads: Counter,
    /// A list could not be read.
    pub(crate) missing_lists: Counter,
    /// Another end became known while the way to the server was opened.
    pub(crate) changed_ends: Counter,
    /// Accepting failed.
    pub(crate) failed_accepts: Counter,
    /// The way to a server could not be opened because the client's address and port are in use here, or refused to us.
    pub(crate) failed_binds: Counter,
    /// A connection's task panicked.
    pub(crate) panics: Counter,
    /// Lines of the access log that were not written because its reader is too slow.
    pub(crate) lost_lines: Counter,
    /// Requests that were not told to who reads the streams because it is too slow.
    pub(crate) lost_news: Counter,
}

impl Counts {
    /// Makes them known to a registry.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let accepted = Counter::default();
        registry.register("l7_accepted", "Connections that were accepted", accepted.clone());
        let problems = Family::<Labels, Counter>::default();
        let help = "What went wrong with a connection beside what its ends do, by kind";
        registry.register("l7_problems", help, problems.clone());
        let problem = |name| problems.get_or_create_owned(&[("problem", name)]);
        Self {
            accepted,
            no_flow: problem("no_flow"),
            no_end: problem("no_end"),
            unsettled: problem("rules_unsettled"),
            failed_reads: problem("rules_unreadable"),
            missing_lists: problem("list_missing"),
            changed_ends: problem("ends_changed"),
            failed_accepts: problem("accept_failed"),
            failed_binds: problem("bind_failed"),
            panics: problem("panic"),
            lost_lines: problem("log_line_lost"),
            lost_news: problem("request_not_told"),
        }
    }
}
