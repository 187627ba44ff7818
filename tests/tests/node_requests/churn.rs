//! Many requests, half of them forbidden, while rules, the agent and what reads requests churn: none of the forbidden passes.

use std::env;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use netlab::{Cni, Family, root_or_skip, tool_or_skip};

use crate::bed::{Bed, READ_PUBLIC, policy};
use crate::http::Connection;

/// How many requests there are, unless `POLDER_REQUESTS` says otherwise.
const REQUESTS: usize = 20_000;
const CLIENTS: usize = 4;
/// How often something changes.
const TURN: Duration = Duration::from_millis(150);
/// However slow the machine is.
const LONGEST: Duration = Duration::from_hours(1);

/// What became of the requests.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) answered: AtomicUsize,
    pub(crate) refused: AtomicUsize,
    /// Connections that ended before an answer: those of a worker that was killed.
    pub(crate) broken: AtomicUsize,
    /// What must not be.
    pub(crate) wrong: AtomicUsize,
}

#[test]
fn a_forbidden_request_passes_at_no_moment_while_everything_changes() {
    let name = "a_forbidden_request_passes_at_no_moment_while_everything_changes";
    if !root_or_skip(name) || !tool_or_skip("nft", name) || !tool_or_skip("nginx", name) {
        return;
    }
    let wanted = env::var("POLDER_REQUESTS").ok().and_then(|text| text.parse().ok()).unwrap_or(REQUESTS);
    let mut bed = Bed::new("rq-churn", Cni::Bridge { br_netfilter: false });
    let public = policy("server", "server", "ingress", &format!("{{action: Allow, {READ_PUBLIC}}}"));
    bed.policies(&public);
    let (tally, asked, over) = (Tally::default(), AtomicUsize::new(0), AtomicBool::new(false));
    let ways: Vec<_> =
        (0..CLIENTS).map(|client| bed.at(client % 2, Family::BOTH[client / 2 % 2], false)).collect();
    let client = bed.client.clone();
    thread::scope(|scope| {
        for way in &ways {
            let (client, tally, asked, over) = (&client, &tally, &asked, &over);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) && asked.load(Ordering::Relaxed) < wanted {
                    let Ok(mut connection) = Connection::open(client, *way) else {
                        tally.broken.fetch_add(1, Ordering::Relaxed);
                        continue;
                    };
                    converse(&mut connection, tally, asked);
                }
            });
        }
        let begun = Instant::now();
        for turn in 0_usize.. {
            if asked.load(Ordering::Relaxed) >= wanted || begun.elapsed() > LONGEST {
                break;
            }
            let more = policy(
                "more",
                "server",
                "ingress",
                &format!("{{action: Deny, http: [{{path: {{prefix: /{turn}}}}}]}}"),
            );
            bed.policies(&if turn % 2 == 0 { public.clone() + &more } else { public.clone() });
            match turn % 12 {
                5 => bed.proxies[turn / 12 % 2].kill_workers().unwrap(),
                11 => bed.agents[turn / 12 % 2].restart().unwrap(),
                _ => {}
            }
            thread::sleep(TURN);
        }
        over.store(true, Ordering::Relaxed);
    });
    println!("{tally:?}");
    for server in &bed.servers {
        let leaked: Vec<_> =
            server.asked().lines().filter(|line| line.contains("forbidden")).map(str::to_owned).collect();
        assert!(leaked.is_empty(), "LEAK {} of {wanted}: {:?}", leaked.len(), leaked.first());
    }
    assert_eq!(tally.wrong.into_inner(), 0, "an answer that was none of those that may be");
    assert!(asked.into_inner() >= wanted, "it took longer than {LONGEST:?}");
    let (answered, refused) = (tally.answered.into_inner(), tally.refused.into_inner());
    assert!(
        answered > wanted / 4 && refused > wanted / 4,
        "{answered} answered, {refused} refused: that proves little"
    );
}

/// Asks for what is allowed, a few times, and then for what is not, which ends the connection.
pub(crate) fn converse(connection: &mut Connection, tally: &Tally, asked: &AtomicUsize) {
    let number = asked.fetch_add(2, Ordering::Relaxed);
    let requests =
        [("GET", format!("/public/{number}"), 200), ("POST", format!("/public/forbidden/{number}"), 403)];
    for (method, target, expected) in requests {
        match connection.ask(method, &target) {
            Err(_) => {
                tally.broken.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Ok(answer) if answer.status != expected => {
                eprintln!("{method} {target}: {answer:?}");
                tally.wrong.fetch_add(1, Ordering::Relaxed);
            }
            Ok(_) if expected == 200 => _ = tally.answered.fetch_add(1, Ordering::Relaxed),
            Ok(_) => _ = tally.refused.fetch_add(1, Ordering::Relaxed),
        }
    }
}
