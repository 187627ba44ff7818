//! A status as text.

use agent_api::status::{Endpoint, EndpointState, HookKind, Status};
use owo_colors::{OwoColorize, Style};

use crate::clean::clean;
use crate::connectivity::table::wide as columns;
use crate::print::put;

/// All of it, with colours. `wide`: what the kernel holds and has counted, too.
pub(super) fn text(status: &Status, wide: bool) -> String {
    let mut out = head(status);
    out.push_str(&endpoints(&status.endpoints));
    list(&mut out, "problems", &status.problems);
    if wide {
        out.push_str(&devices(status));
        out.push_str(&kernel(status));
        out.push('\n');
        match &status.reconcile {
            Some(last) => {
                let (when, found) = (last.when, number(last.found, "difference"));
                let text = format_args!("{when:.3}: {found}, {} put right", last.repaired);
                put(&mut out, format_args!("kernel compared with intent at {text}\n"));
            }
            None => out.push_str("kernel not compared with intent yet\n"),
        }
    }
    out
}

/// The node, and why it is not ready.
fn head(status: &Status) -> String {
    let (word, style) =
        if status.ready { ("ready", Style::new().green()) } else { ("NOT READY", Style::new().red().bold()) };
    let mut out = format!(
        "{}: {}, generation {}, {}\n",
        format!("node {}", clean(&status.node)).bold(),
        word.style(style),
        status.generation,
        number(status.policies, "policy").replace("policys", "policies"),
    );
    for reason in &status.reasons {
        put(&mut out, format_args!("  {}\n", clean(reason)));
    }
    let agent =
        format!("polder-agent {}, ABI {}, since {:.3}\n", clean(&status.version), status.abi, status.started);
    out.push_str(&agent.dimmed().to_string());
    out
}

fn endpoints(endpoints: &[Endpoint]) -> String {
    if endpoints.is_empty() {
        return "\nno pod's interface is known on this node\n".to_owned();
    }
    let said = |policy: Option<u64>| if policy.is_some() { "yes" } else { "no" }.to_owned();
    let with_why = endpoints.iter().any(|endpoint| endpoint.why.is_some());
    let rows: Vec<Vec<String>> = endpoints
        .iter()
        .map(|endpoint| {
            let addresses: Vec<String> = endpoint.addresses.iter().map(ToString::to_string).collect();
            let mut row = vec![
                endpoint.pod.as_deref().map_or_else(|| "-".to_owned(), |pod| clean(pod).into_owned()),
                if addresses.is_empty() { "-".to_owned() } else { addresses.join(", ") },
                endpoint.state.name().to_owned(),
                said(endpoint.ingress),
                said(endpoint.egress),
                clean(&endpoint.interface).into_owned(),
            ];
            row.extend(with_why.then(|| clean(endpoint.why.as_deref().unwrap_or("")).into_owned()));
            row
        })
        .collect();
    let mut header = vec!["POD", "ADDRESSES", "STATE", "INGRESS", "EGRESS", "INTERFACE"];
    header.extend(with_why.then_some("WHY"));
    let styles = endpoints.iter().map(|endpoint| match endpoint.state {
        EndpointState::Enforced => Style::new(),
        EndpointState::Held | EndpointState::Unknown => Style::new().yellow(),
        EndpointState::Failed => Style::new().red().bold(),
    });
    coloured(&columns(&header, &rows), styles)
}

/// A table after an empty line, each row in its colour: colours inside cells would count as width.
fn coloured(table: &str, styles: impl Iterator<Item = Style>) -> String {
    let mut out = "\n".to_owned();
    for (line, style) in table.lines().zip(std::iter::once(Style::new()).chain(styles)) {
        put(&mut out, format_args!("{}\n", line.style(style)));
    }
    out
}

fn list(out: &mut String, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    put(out, format_args!("\n{}\n", format!("{title}:").bold()));
    for line in lines {
        put(out, format_args!("  {}\n", clean(line)));
    }
}

/// Devices and hooks.
fn devices(status: &Status) -> String {
    let mut out = String::new();
    if !status.outside.is_empty() {
        let rows: Vec<_> = status
            .outside
            .iter()
            .map(|device| vec![clean(&device.interface).into_owned(), clean(&device.kind).into_owned()])
            .collect();
        out += &coloured(&columns(&["OUTSIDE", "KIND"], &rows), rows.iter().map(|_| Style::new()));
    }
    if !status.proxies.is_empty() {
        let rows: Vec<_> = (0..)
            .zip(&status.proxies)
            .map(|(place, proxy)| {
                let takes = if place == 0 { "new connections" } else { "what it has" };
                vec![clean(proxy).into_owned(), takes.to_owned()]
            })
            .collect();
        out += &coloured(&columns(&["PROXY", "TAKES"], &rows), rows.iter().map(|_| Style::new()));
    }
    if !status.hooks.is_empty() {
        let rows: Vec<_> = status
            .hooks
            .iter()
            .map(|hook| {
                let by = match hook.kind {
                    HookKind::Tcx => "tcx",
                    HookKind::Clsact => "clsact",
                    HookKind::Xdp => "xdp",
                };
                vec![
                    clean(&hook.interface).into_owned(),
                    clean(&hook.hook).into_owned(),
                    by.to_owned(),
                    hook.position.map_or_else(|| "?".to_owned(), |position| position.to_string()),
                    if hook.ok { "ok" } else { "NOT FIRST" }.to_owned(),
                ]
            })
            .collect();
        let styles =
            status.hooks.iter().map(|hook| if hook.ok { Style::new() } else { Style::new().red().bold() });
        out += &coloured(&columns(&["INTERFACE", "HOOK", "BY", "POSITION", "STATE"], &rows), styles);
    }
    out
}

/// Maps, counters, shares.
fn kernel(status: &Status) -> String {
    let maps = status.maps.iter().map(|map| {
        // In tenths, by whole numbers: a map may be nearly full and must not read as full.
        let permille = u128::from(map.used) * 1000 / u128::from(map.size.max(1));
        vec![
            clean(&map.name).into_owned(),
            map.used.to_string(),
            map.size.to_string(),
            format!("{}.{} %", permille / 10, permille % 10),
        ]
    });
    let counters = status
        .counters
        .iter()
        .map(|counter| vec![clean(&counter.name).into_owned(), counter.count.to_string()]);
    let shares = status.shares.iter().map(|share| {
        vec![
            clean(&share.endpoint).into_owned(),
            share.used.to_string(),
            share.limit.to_string(),
            share.refused.to_string(),
        ]
    });
    let mut out = String::new();
    for (header, rows) in [
        (&["MAP", "USED", "SIZE", "FULL"][..], maps.collect::<Vec<_>>()),
        (&["COUNTER", "PACKETS"], counters.collect()),
        (&["FLOWS OF", "USED", "LIMIT", "REFUSED"], shares.collect()),
    ] {
        if !rows.is_empty() {
            out += &coloured(&columns(header, &rows), rows.iter().map(|_| Style::new()));
        }
    }
    out
}

/// `1 difference`, `2 differences`
fn number(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
