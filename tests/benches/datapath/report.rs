//! What was measured, for people and for programs.

use comfy_table::{CellAlignment, Table, presets};
use netlab::Family;
use serde_json::{Value, json};

use crate::cases::Kind;
use crate::packets::{self, Figures, policies};
use crate::plot::{Bar, Chart};
use crate::policy::Policy;
use crate::series::Series;
use crate::traffic::{By, Subject};

/// A line of the table of packets: one case, or two hooks together.
struct Line {
    name: &'static str,
    hooks: &'static [Kind],
    /// In empty programs; what it is derived from is in docs/reference/performance.md.
    aim: Option<f64>,
}

/// Aims were set in nanoseconds on a machine whose empty program takes 27.
const fn aim(nanoseconds: f64) -> f64 {
    nanoseconds / 27.0
}

const LINES: [Line; 12] = [
    Line { name: Kind::Empty.name(), hooks: &[Kind::Empty], aim: None },
    Line { name: Kind::EstablishedIngress.name(), hooks: &[Kind::EstablishedIngress], aim: Some(aim(85.0)) },
    Line { name: Kind::EstablishedEgress.name(), hooks: &[Kind::EstablishedEgress], aim: Some(aim(85.0)) },
    Line {
        name: "established, same node, both hooks",
        hooks: &[Kind::SameNodeFromPod, Kind::SameNodeToPod],
        aim: Some(aim(150.0)),
    },
    Line { name: Kind::NewIngress.name(), hooks: &[Kind::NewIngress], aim: Some(aim(500.0)) },
    Line { name: Kind::NewEgress.name(), hooks: &[Kind::NewEgress], aim: Some(aim(500.0)) },
    Line { name: Kind::Rejudged.name(), hooks: &[Kind::Rejudged], aim: None },
    Line { name: Kind::DeniedEvent.name(), hooks: &[Kind::DeniedEvent], aim: Some(aim(200.0)) },
    Line { name: Kind::DeniedAgain.name(), hooks: &[Kind::DeniedAgain], aim: Some(aim(200.0)) },
    Line { name: Kind::FreeIngress.name(), hooks: &[Kind::FreeIngress], aim: Some(aim(45.0)) },
    Line { name: Kind::FreeEgress.name(), hooks: &[Kind::FreeEgress], aim: Some(aim(45.0)) },
    Line { name: "same node, second hook alone", hooks: &[Kind::SameNodeToPod], aim: None },
];

const SMALLEST: Policy = Policy { identities: packets::IDENTITIES[0], rules: packets::RULES[0] };
const LARGEST: Policy = Policy { identities: packets::IDENTITIES[2], rules: packets::RULES[2] };

impl Line {
    /// What it costs. Of two hooks, what a run itself costs is counted once.
    fn cost(&self, figures: &Figures, family: Family, policy: Policy, of: fn(&Series) -> f64) -> f64 {
        let one = |kind| figures.get(&(kind, family, policy)).map_or(f64::NAN, of);
        let all: f64 = self.hooks.iter().map(|kind| one(*kind)).sum();
        match self.hooks {
            [_, _] => all - one(Kind::Empty),
            _ => all,
        }
    }

    /// How it compares with an empty program that ran in the same moments.
    fn ratio(&self, figures: &Figures, family: Family, policy: Policy) -> f64 {
        self.cost(figures, family, policy, Series::least)
            / LINES[0].cost(figures, family, policy, Series::least)
    }
}

/// The table of packets.
pub(crate) fn packets(figures: &Figures) -> String {
    let mut header: Vec<String> = ["ns a packet, least", "IP"].map(str::to_owned).to_vec();
    header.extend(policies().map(|policy| format!("{}/{}", short(policy.identities), short(policy.rules))));
    header.extend(["x empty", "aim", "growth"].map(str::to_owned));
    let mut table = table(&header, 2);
    for line in &LINES {
        for family in [Family::V4, Family::V6] {
            let mut row = vec![line.name.to_owned(), version(family).to_owned()];
            row.extend(
                policies().map(|policy| format!("{:.0}", line.cost(figures, family, policy, Series::least))),
            );
            let [small, large] = [SMALLEST, LARGEST].map(|policy| line.ratio(figures, family, policy));
            let aim = line.aim.map_or(String::new(), |aim| format!("{aim:.1}"));
            row.extend([format!("{large:.1}"), aim, format!("{:.2}", large / small)]);
            table.add_row(row);
        }
    }
    format!(
        "Columns are identities/rules. The last three: at the largest policy; the aim; largest to smallest.\n{table}"
    )
}

/// The table of traffic.
pub(crate) fn traffic(subjects: &[Subject]) -> String {
    let header = [
        "traffic, best of all rounds",
        "rules",
        "Gbit/s",
        "ratio",
        "request p50",
        "p99",
        "ratio p50",
        "p99",
        "connection p50",
        "p99",
        "ratio p50",
        "p99",
    ];
    let mut table = table(&header.map(str::to_owned), 1);
    let micros = |nanoseconds: f64| format!("{:.1} us", nanoseconds / 1e3);
    let ratio = |ratio: f64| format!("{ratio:.2}");
    for subject in subjects {
        let (figures, ratios) = (subject.figures, ratios(subject, subjects));
        table.add_row([
            subject.by.name().to_owned(),
            rules(subject),
            format!("{:.1}", figures.throughput),
            ratio(ratios.throughput),
            micros(figures.exchange[0]),
            micros(figures.exchange[1]),
            ratio(ratios.exchange[0]),
            ratio(ratios.exchange[1]),
            micros(figures.connection[0]),
            micros(figures.connection[1]),
            ratio(ratios.connection[0]),
            ratio(ratios.connection[1]),
        ]);
    }
    table.to_string()
}

/// Everything, for programs.
pub(crate) fn json(figures: &Figures, subjects: &[Subject]) -> Value {
    let packets: Vec<Value> = LINES
        .iter()
        .flat_map(|line| [Family::V4, Family::V6].map(|family| (line, family)))
        .flat_map(|(line, family)| policies().map(move |policy| (line, family, policy)))
        .filter(|_| !figures.is_empty())
        .map(|(line, family, policy)| {
            json!({
                "case": line.name,
                "family": version(family),
                "identities": policy.identities,
                "rules": policy.rules,
                "least_ns": line.cost(figures, family, policy, Series::least),
                "median_ns": line.cost(figures, family, policy, Series::median),
                "ratio_to_empty": line.ratio(figures, family, policy),
                "aim_ratio_to_empty": line.aim,
            })
        })
        .collect();
    let traffic: Vec<Value> = subjects.iter().map(|subject| subject_json(subject, subjects)).collect();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    json!({ "kernel": kernel.trim(), "cpus": cpus, "packets": packets, "traffic": traffic })
}

fn subject_json(subject: &Subject, all: &[Subject]) -> Value {
    let (figures, ratios) = (subject.figures, ratios(subject, all));
    json!({
        "by": subject.by.name(),
        "rules": if subject.by == By::Nobody { 0 } else { subject.policy.rules },
        "throughput_gbit_s": figures.throughput,
        "throughput_ratio": ratios.throughput,
        "request_response_p50_ns": figures.exchange[0],
        "request_response_p99_ns": figures.exchange[1],
        "request_response_p50_ratio": ratios.exchange[0],
        "connect_request_response_p50_ns": figures.connection[0],
        "connect_request_response_p99_ns": figures.connection[1],
        "connect_request_response_p50_ratio": ratios.connection[0],
    })
}

/// The plot.
pub(crate) fn charts(figures: &Figures, subjects: &[Subject]) -> Vec<Chart> {
    let mut charts = Vec::new();
    if !figures.is_empty() {
        let bars = LINES.iter().flat_map(|line| {
            [SMALLEST, LARGEST].map(|policy| {
                let value = line.cost(figures, Family::V4, policy, Series::least);
                let label = format!("{}, {} rules", line.name, short(policy.rules));
                Bar { label, value, text: format!("{value:.0}"), ours: line.hooks != [Kind::Empty] }
            })
        });
        let title = "ns a packet under BPF_PROG_TEST_RUN, IPv4, least of many bursts".to_owned();
        charts.push(Chart { title, bars: bars.collect() });
    }
    let mut add = |title: &str, of: fn(&crate::traffic::Figures) -> f64| {
        let bars = subjects.iter().map(|subject| {
            let value = of(&ratios(subject, subjects));
            let label = format!("{} {}", subject.by.name(), rules(subject));
            Bar { label, value, text: format!("{value:.2}"), ours: subject.by == By::Polder }
        });
        charts.push(Chart { title: format!("{title}, ratio to no policy"), bars: bars.collect() });
    };
    if !subjects.is_empty() {
        add("request and response, p50 (lower is better)", |figures| figures.exchange[0]);
        add("connection, request and response, p50 (lower is better)", |figures| figures.connection[0]);
        add("throughput (higher is better)", |figures| figures.throughput);
    }
    charts
}

/// All figures of a subject as ratios to those without policy.
fn ratios(subject: &Subject, all: &[Subject]) -> crate::traffic::Figures {
    let none = all.iter().find(|one| one.by == By::Nobody).unwrap_or(subject).figures;
    let both = |one: [f64; 2], none: [f64; 2]| [one[0] / none[0], one[1] / none[1]];
    crate::traffic::Figures {
        throughput: subject.figures.throughput / none.throughput,
        exchange: both(subject.figures.exchange, none.exchange),
        connection: both(subject.figures.connection, none.connection),
    }
}

/// A table whose first columns are words and whose others are numbers.
fn table(header: &[String], words: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for column in table.column_iter_mut().skip(words) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn rules(subject: &Subject) -> String {
    if subject.by == By::Nobody { String::new() } else { short(subject.policy.rules) }
}

fn short(number: u32) -> String {
    if number >= 1000 { format!("{}k", number / 1000) } else { number.to_string() }
}

const fn version(family: Family) -> &'static str {
    match family {
        Family::V4 => "v4",
        Family::V6 => "v6",
    }
}
