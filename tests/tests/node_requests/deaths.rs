//! F38: what reads requests dies again and again under load, at times with all that belongs to it.

use std::env;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use netlab::{Cni, Family, Host as _, root_or_skip, tool_or_skip};
use tests::node::{Nginx, Proxy};

use crate::bed::{Bed, READ_PUBLIC, policy};
use crate::churn::{Tally, converse};
use crate::http::Connection;

/// How often something dies, unless `POLDER_DEATHS` says otherwise.
const DEATHS: usize = 8;
const CLIENTS: usize = 4;
/// How long there is nothing but load.
const BETWEEN: Duration = Duration::from_millis(1500);
/// However slow the machine is: it takes milliseconds.
const LONGEST: Duration = Duration::from_secs(10);

/// Says that it is over, however the test ends: those that make the load wait for it.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn f38_a_forbidden_request_passes_at_no_moment_while_what_reads_requests_dies_and_nobody_else_is_harmed() {
    let name = "f38_a_forbidden_request_passes_at_no_moment_while_what_reads_requests_dies";
    if !root_or_skip(name) || !tool_or_skip("nft", name) || !tool_or_skip("nginx", name) {
        return;
    }
    let deaths = env::var("POLDER_DEATHS").ok().and_then(|text| text.parse().ok()).unwrap_or(DEATHS);
    let mut bed = Bed::new("rq-deaths", Cni::Routed);
    let plain = "{action: Allow, protocols: [{tcp: {destinationPort: {number: 9090}}}]}";
    bed.policies(
        &(policy("server", "server", "ingress", &format!("{{action: Allow, {READ_PUBLIC}}}"))
            + &policy("plain", "server", "ingress", plain)),
    );
    let _other = Nginx::start(&bed.pods[0], 9090).unwrap();
    let (tally, asked, over) = (Tally::default(), AtomicUsize::new(0), AtomicBool::new(false));
    let (client, ways) = (bed.client.clone(), Family::BOTH.map(|family| bed.at(0, family, false)));
    // Of the proxy of the other node, and of none.
    let mut others = [bed.at(1, Family::V4, false), (bed.pods[0].address(Family::V4), 9090).into()]
        .map(|to| Connection::open(&client, to).unwrap());
    let mut longest = [Duration::ZERO; 2];
    thread::scope(|scope| {
        let _ending = Ending(&over);
        for one in 0..CLIENTS {
            let (client, tally, asked, over, to) = (&client, &tally, &asked, &over, ways[one % 2]);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    match Connection::open(client, to) {
                        Ok(mut connection) => converse(&mut connection, tally, asked),
                        Err(_) => _ = tally.broken.fetch_add(1, Ordering::Relaxed),
                    }
                }
            });
        }
        for death in 0..deaths {
            thread::sleep(BETWEEN);
            let of_all = death % 2 == 1;
            if of_all {
                bed.proxies[0].kill9().unwrap();
                bed.proxies[0] = Proxy::start(&bed.agents[0]).unwrap();
            } else {
                bed.proxies[0].kill_workers().unwrap();
            }
            let begun = Instant::now();
            let status =
                |mut connection: Connection| Some(connection.ask("GET", "/public/back").ok()?.status);
            while Connection::open(&client, ways[0]).ok().and_then(status) != Some(200) {
                assert!(begun.elapsed() < LONGEST, "death {death}: {}", bed.proxies[0].log());
            }
            longest[usize::from(of_all)] = longest[usize::from(of_all)].max(begun.elapsed());
            for other in &mut others {
                assert_eq!(other.ask("GET", "/public/other").unwrap().status, 200, "death {death}");
            }
        }
    });
    println!("back after {longest:?} at most (a worker; a keeper, once its successor is there); {tally:?}");
    let asked = bed.servers[0].asked();
    let leaked: Vec<_> = asked.lines().filter(|line| line.contains("forbidden")).collect();
    assert!(leaked.is_empty(), "LEAK {}: {:?}", leaked.len(), leaked.first());
    assert_eq!(tally.wrong.into_inner(), 0, "an answer that was none of those that may be");
    let (answered, refused) = (tally.answered.into_inner(), tally.refused.into_inner());
    assert!(
        answered > deaths * CLIENTS && refused > deaths * CLIENTS,
        "{answered} answered, {refused} refused: that proves little"
    );
}
