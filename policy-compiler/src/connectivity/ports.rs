//! Sets of protocols and destination ports.

use std::fmt;

use datapath::abi::Transport;

/// The first and the last port that a packet can be for. (Port 0 is reserved: RFC 6335, section 6.)
const WHOLE: (u16, u16) = (1, u16::MAX);

/// A set of protocols and ports, in the one way it can be written: equal sets are equal values.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortSet {
    /// By transport: first and last port; sorted, apart, never side by side.
    ranges: [Vec<(u16, u16)>; 3],
    /// Everything that has no ports: ICMP and all protocols but the three.
    other: bool,
    /// Ports of TCP on which what is asked decides; none of them is in `ranges`.
    by_request: Vec<(u16, u16)>,
}

/// The operations on sets that are made range by range.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

impl PortSet {
    /// Nothing.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Every port of every protocol, and the protocols without ports.
    pub fn all() -> Self {
        let ranges = [const { WHOLE }; 3].map(|whole| vec![whole]);
        Self { ranges, other: true, by_request: Vec::new() }
    }

    /// The ranges of one protocol: first and last port, sorted, apart from each other.
    pub fn ranges(&self, transport: Transport) -> &[(u16, u16)] {
        &self.ranges[transport as usize]
    }

    /// The ports of TCP on which what is asked decides: there, some requests are allowed.
    pub fn by_request(&self) -> &[(u16, u16)] {
        &self.by_request
    }

    /// The same ports of TCP, and on each of them what is asked decides.
    pub(super) fn limited(&self) -> Self {
        Self { by_request: self.ranges(Transport::Tcp).to_vec(), ..Self::empty() }
    }

    /// Whether the protocols without ports (ICMP) are in it.
    pub fn other(&self) -> bool {
        self.other
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        !self.other && !self.has_ports()
    }

    /// Whether everything is in it.
    pub fn is_all(&self) -> bool {
        self.other && Transport::ALL.into_iter().all(|transport| self.is_whole(transport))
    }

    /// Whether any port is in it, be it for some requests only.
    pub fn has_ports(&self) -> bool {
        !self.by_request.is_empty() || self.ranges.iter().any(|ranges| !ranges.is_empty())
    }

    /// Whether all ports of a protocol are in it.
    pub fn is_whole(&self, transport: Transport) -> bool {
        self.ranges(transport) == [WHOLE]
    }

    /// Whether a port is in it, whatever is asked; without a port, whether the protocols without ports are.
    pub fn contains(&self, port: Option<(Transport, u16)>) -> bool {
        let Some((transport, port)) = port else { return self.other };
        self.ranges(transport).iter().any(|(first, last)| (*first..=*last).contains(&port))
    }

    /// Adds ports `first` to `last`.
    pub fn add(&mut self, transport: Transport, first: u16, last: u16) {
        let ranges = &mut self.ranges[transport as usize];
        *ranges = combine(ranges, &[(first.max(WHOLE.0), last)], Operation::Union);
    }

    /// Adds the protocols without ports.
    pub fn add_other(&mut self) {
        self.other = true;
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, with: &Self) -> Self {
        self.combine(with, Operation::Union)
    }

    /// What is in any of these sets, of which no two have anything in common: one pass, however many there are.
    pub(super) fn union_of_disjoint<'a>(sets: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut all = Self::empty();
        for set in sets {
            all.other |= set.other;
            all.by_request.extend(&set.by_request);
            for (ranges, more) in all.ranges.iter_mut().zip(&set.ranges) {
                ranges.extend(more);
            }
        }
        all.union(&Self::empty())
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, with: &Self) -> Self {
        self.combine(with, Operation::Intersection)
    }

    /// What is in this one only.
    #[must_use]
    pub fn difference(&self, without: &Self) -> Self {
        self.combine(without, Operation::Difference)
    }

    fn combine(&self, with: &Self, operation: Operation) -> Self {
        let ranges = Transport::ALL
            .map(|transport| combine(self.ranges(transport), with.ranges(transport), operation));
        let other = holds(operation, self.other, with.other);
        let tcp = Transport::Tcp as usize;
        // Ports on which something is let through.
        let open = |set: &Self| combine(&set.ranges[tcp], &set.by_request, Operation::Union);
        let by_request = match operation {
            Operation::Union | Operation::Intersection => {
                combine(&combine(&open(self), &open(with), operation), &ranges[tcp], Operation::Difference)
            }
            Operation::Difference => combine(&self.by_request, &open(with), operation),
        };
        Self { ranges, other, by_request }
    }
}

fn holds(operation: Operation, left: bool, right: bool) -> bool {
    match operation {
        Operation::Union => left || right,
        Operation::Intersection => left && right,
        Operation::Difference => left && !right,
    }
}

/// One pass over the edges of both lists; the result is sorted and joined where ranges meet.
fn combine(left: &[(u16, u16)], right: &[(u16, u16)], operation: Operation) -> Vec<(u16, u16)> {
    // Behind the last port an edge is 65536.
    let edges = |ranges: &[(u16, u16)], side: usize| {
        let both = |&(first, last): &(u16, u16)| [(u32::from(first), side), (u32::from(last) + 1, side)];
        ranges.iter().filter(|(first, last)| first <= last).flat_map(both).collect::<Vec<_>>()
    };
    let mut all = edges(left, 0);
    all.extend(edges(right, 1));
    all.sort_unstable();
    let mut inside = [false; 2];
    let mut start = None;
    let mut result: Vec<(u16, u16)> = Vec::new();
    let mut rest = &all[..];
    while let Some(&(edge, _)) = rest.first() {
        let here = rest.partition_point(|(of, _)| *of == edge);
        for (_, side) in &rest[..here] {
            inside[*side] = !inside[*side];
        }
        rest = &rest[here..];
        match (start, holds(operation, inside[0], inside[1])) {
            (None, true) => start = Some(edge),
            (Some(from), false) => {
                if let (Ok(first), Ok(last)) = (u16::try_from(from), u16::try_from(edge - 1)) {
                    result.push((first, last));
                }
                start = None;
            }
            _ => {}
        }
    }
    result
}

/// The name of a protocol, as the API writes it.
pub const fn transport_name(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "TCP",
        Transport::Udp => "UDP",
        Transport::Sctp => "SCTP",
    }
}

/// Ranges as users write them: `80,443,8000-8100`.
pub fn ranges_text(ranges: &[(u16, u16)]) -> String {
    let text = |&(first, last): &(u16, u16)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(",")
}

impl fmt::Display for PortSet {
    /// `ANY`, `none`, or `TCP 80,443; TCP 8080 by request; UDP; other`: a protocol without ports is all of it, `other` is what has
    /// no ports, and `by request` are ports on which what is asked decides.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_all() {
            return f.write_str("ANY");
        }
        if self.is_empty() {
            return f.write_str("none");
        }
        let mut separator = "";
        let listed = Transport::ALL.map(|transport| (transport, self.ranges(transport), ""));
        let [tcp, udp, sctp] = listed;
        let by_request = (Transport::Tcp, self.by_request(), " by request");
        for (transport, ranges, how) in [tcp, by_request, udp, sctp] {
            if ranges.is_empty() {
                continue;
            }
            write!(f, "{separator}{}", transport_name(transport))?;
            if *ranges != [WHOLE] {
                write!(f, " {}", ranges_text(ranges))?;
            }
            f.write_str(how)?;
            separator = "; ";
        }
        if self.other {
            write!(f, "{separator}other")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(ranges: &[(u16, u16)]) -> PortSet {
        let mut set = PortSet::empty();
        for (first, last) in ranges {
            set.add(Transport::Tcp, *first, *last);
        }
        set
    }

    #[test]
    fn ranges_that_meet_become_one_whatever_the_order() {
        assert_eq!(tcp(&[(80, 80), (82, 90), (81, 81)]), tcp(&[(80, 90)]));
        assert_eq!(tcp(&[(1, 100), (101, 65535)]), tcp(&[(0, 65535)]));
        assert!(tcp(&[(0, 65535)]).is_whole(Transport::Tcp));
    }

    #[test]
    fn union_intersection_and_difference_are_those_of_sets() {
        let sets = [
            PortSet::empty(),
            PortSet::all(),
            tcp(&[(1, 10), (20, 30), (65535, 65535)]),
            tcp(&[(5, 25), (30, 40)]),
            tcp(&[(1, 65535)]),
            tcp(&[(1, 10), (30, 65535)]).limited(),
            tcp(&[(1, 20)]).union(&tcp(&[(10, 40)]).limited()),
        ];
        for a in &sets {
            for b in &sets {
                for port in [1, 4, 5, 10, 11, 20, 25, 26, 30, 31, 40, 41, 65534, 65535] {
                    let port = Some((Transport::Tcp, port));
                    let (x, y) = (a.contains(port), b.contains(port));
                    assert_eq!(a.union(b).contains(port), x || y);
                    assert_eq!(a.intersection(b).contains(port), x && y);
                    assert_eq!(a.difference(b).contains(port), x && !y);
                }
                assert_eq!(a.difference(b).union(&a.intersection(b)), *a, "a set is written in one way only");
            }
        }
    }

    #[test]
    fn a_port_for_some_requests_is_open_to_them_only_where_both_ends_let_them_through() {
        let (free, limited) = (tcp(&[(80, 80)]), tcp(&[(80, 81)]).limited());
        assert_eq!(free.intersection(&limited), tcp(&[(80, 80)]).limited());
        assert_eq!(free.union(&limited).to_string(), "TCP 80; TCP 81 by request");
        assert_eq!(limited.to_string(), "TCP 80-81 by request");
        assert_eq!((limited.has_ports(), limited.is_empty()), (true, false));
        assert_eq!(PortSet::all().intersection(&limited), limited);
        assert_eq!(PortSet::all().union(&limited), PortSet::all());
        assert_eq!(limited.difference(&free), tcp(&[(81, 81)]).limited());
    }

    #[test]
    fn everything_but_icmp_is_not_any() {
        let mut icmp = PortSet::empty();
        icmp.add_other();
        let ports = PortSet::all().difference(&icmp);
        assert_eq!(ports.to_string(), "TCP; UDP; SCTP");
        assert!(!ports.is_all());
        assert_eq!(PortSet::all().to_string(), "ANY");
        assert_eq!(
            icmp.union(&tcp(&[(80, 80), (443, 443), (8000, 8100)])).to_string(),
            "TCP 80,443,8000-8100; other"
        );
    }
}
