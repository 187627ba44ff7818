//! Workloads by workloads, one cell a pair.

use datapath::abi::Transport;
use policy_compiler::connectivity::{Connectivity, PortSet, WorkloadRef, ranges_text};

use super::names::{Names, escape};
use super::table;

/// A list of ports longer than this is a `p`.
const SHORT: usize = 8;
/// The cell of a pair with ports on which what is asked decides.
const BY_REQUEST: &str = "r";

/// Rows are sources, columns destinations. With a focus, its row and its column only.
pub(super) fn render(connectivity: &Connectivity<'_>, names: &Names, focus: Option<&WorkloadRef>) -> String {
    let workloads: Vec<&WorkloadRef> = connectivity.workloads().map(|workload| &**workload).collect();
    let labels: Vec<String> = workloads.iter().map(|workload| escape(&names.workload(workload))).collect();
    let cell = |src: &WorkloadRef, dst: &WorkloadRef| {
        if focus.is_some_and(|focus| focus != src && focus != dst) {
            return String::new();
        }
        if src == dst && !connectivity.has_several_pods(src) {
            return "-".to_owned();
        }
        connectivity.between(src, dst).map(text).unwrap_or_default()
    };
    let numbers: Vec<String> = (1..=workloads.len()).map(|number| number.to_string()).collect();
    let mut header = vec!["", "FROM \\ TO"];
    header.extend(numbers.iter().map(String::as_str));
    let row = |(index, src): (usize, &&WorkloadRef)| {
        let cells = workloads.iter().map(|dst| cell(src, dst));
        [numbers[index].clone(), labels[index].clone()].into_iter().chain(cells).collect::<Vec<_>>()
    };
    let rows: Vec<Vec<String>> = workloads.iter().enumerate().map(row).collect();
    let by_request = if rows.iter().flatten().any(|cell| cell == BY_REQUEST) {
        "r  what is asked decides on some ports (-o wide has which)\n"
    } else {
        ""
    };
    let legend =
        "\n.  everything\nX  nothing\np  some ports (a number is the one TCP port; -o wide has all)\n";
    format!("{}{legend}{by_request}-  it has one pod only\n", table::wide(&header, &rows))
}

fn text(ports: &PortSet) -> String {
    if ports.is_all() {
        return ".".to_owned();
    }
    if ports.is_empty() {
        return "X".to_owned();
    }
    if !ports.by_request().is_empty() {
        return BY_REQUEST.to_owned();
    }
    let mut tcp = PortSet::empty();
    for (first, last) in ports.ranges(Transport::Tcp) {
        tcp.add(Transport::Tcp, *first, *last);
    }
    let short = ranges_text(ports.ranges(Transport::Tcp));
    if tcp == *ports && short.len() <= SHORT { short } else { "p".to_owned() }
}
