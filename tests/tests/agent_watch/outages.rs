//! The API server is away.

use std::fs;
use std::time::{Duration, Instant};

use agent_api::status::EndpointState;
use netlab::Host as _;

use super::packets::{Scene, addresses};
use super::{connects, only_from};

/// How long the agent may take to be where the server is once that is back.
const CONVERGED: Duration = Duration::from_secs(10);

/// Waits until what is known is on disk, with this in it.
pub(crate) fn is_saved(scene: &Scene, what: &str) {
    let deadline = Instant::now() + Duration::from_mins(1);
    let state = scene.agent.state().join("cluster.jsonl");
    while !fs::read_to_string(&state).unwrap_or_default().contains(what) {
        assert!(Instant::now() < deadline, "{what} is not saved\n{}", scene.agent.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until it is on disk that what has this in its name is gone.
pub(crate) fn is_saved_as_gone(scene: &Scene, what: &str) {
    let deadline = Instant::now() + Duration::from_mins(1);
    let state = scene.agent.state().join("cluster.jsonl");
    let is_gone = || {
        let text = fs::read_to_string(&state).unwrap_or_default();
        let last = text.lines().rfind(|line| line.contains(what));
        last.is_none_or(|line| line.contains("\"gone\""))
    };
    while !is_gone() {
        assert!(Instant::now() < deadline, "{what} is still saved\n{}", scene.agent.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn f3_while_the_server_is_away_what_was_known_stays_in_force_even_over_a_restart() {
    let Some(mut scene) = Scene::start_or_skip("aw-f3") else { return };
    is_saved(&scene, "\"victim\"");
    scene.cluster.server.stop_server();
    let holds = |scene: &Scene, when: &str| {
        assert!(!connects(&scene.attacker, &scene.victim), "{when}: open");
        assert!(connects(&scene.friend, &scene.victim), "{when}: closed\n{}", scene.agent.log());
    };
    holds(&scene, "the server is away");
    let begun = Instant::now();
    scene.agent.until("it says that it follows nobody", |status| !status.ready).unwrap();
    println!("unready {:?} after the server went away", begun.elapsed());
    holds(&scene, "for a while");

    scene.agent.start().unwrap();
    let begun = Instant::now();
    // From the first moment, not only when it has read what was saved.
    while begun.elapsed() < Duration::from_secs(8) {
        holds(&scene, "just restarted");
    }
    let status = scene.agent.until("it enforces what was saved", |status| {
        status.reasons.iter().any(|reason| reason.contains("is enforced: not heard of yet"))
    });
    let enforced =
        status.unwrap().endpoints.iter().filter(|one| one.state == EndpointState::Enforced).count();
    assert_eq!(enforced, 3);
    holds(&scene, "from what was saved");
    // A pod that nobody told it of is closed.
    let stranger = scene.node.pod("s").unwrap();
    scene.agent.until("the new pod's interface is seen", |status| status.endpoints.len() == 4).unwrap();
    assert!(!connects(&stranger, &scene.friend));

    scene.cluster.server.start_server().unwrap();
    let back = Instant::now();
    scene.cluster.pod("s", "s", scene.node.name(), &addresses(&stranger)).unwrap();
    scene.cluster.policy("victim", &only_from("v", "b")).unwrap();
    let took = scene.attacker_connects(true, CONVERGED);
    scene.is_enforced(4);
    println!(
        "converged {:?} after the server was back (the attacker was let in after {took:?})",
        back.elapsed()
    );
    // The policy was deleted and made anew: for a moment all could.
    scene.friend_connects(false, CONVERGED);
}

#[test]
fn what_was_told_right_before_the_agent_was_killed_is_not_forgotten() {
    let Some(mut scene) = Scene::start_or_skip("aw-killed") else { return };
    // Everything is written seldom, so the file begins with what lets the friend in; what follows is not waited for.
    for from in ["b", "a", "b", "nobody"] {
        scene.cluster.policy("victim", &only_from("v", from)).unwrap();
        scene.attacker_connects(from == "b", CONVERGED);
    }
    scene.friend_connects(false, CONVERGED);
    scene.agent.kill9().unwrap();
    scene.cluster.server.stop_server();
    scene.agent.start().unwrap();
    let closed = |scene: &Scene| {
        for client in [&scene.attacker, &scene.friend] {
            assert!(!connects(client, &scene.victim), "what was denied last is open\n{}", scene.agent.log());
        }
    };
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(8) {
        closed(&scene);
    }
    let status = scene.agent.until("it enforces what was saved", |status| {
        status.reasons.iter().any(|reason| reason.contains("is enforced: not heard of yet"))
    });
    let status = status.unwrap();
    let enforced = status.endpoints.iter().filter(|one| one.state == EndpointState::Enforced).count();
    assert_eq!((enforced, status.problems), (3, Vec::new()));
    closed(&scene);
    scene.cluster.server.start_server().unwrap();
    scene.cluster.policy("victim", &only_from("v", "a")).unwrap();
    scene.friend_connects(true, CONVERGED);
}

#[test]
fn what_is_saved_and_damaged_is_not_used_and_what_is_pinned_stays() {
    let Some(mut scene) = Scene::start_or_skip("aw-damaged") else { return };
    is_saved(&scene, "\"victim\"");
    scene.agent.kill9().unwrap();
    let state = scene.agent.state().join("cluster.jsonl");
    let text = fs::read_to_string(&state).unwrap();
    fs::write(&state, text.replacen("\"node\"", "\"NODE\"", 1)).unwrap();
    scene.cluster.server.stop_server();
    scene.agent.start().unwrap();
    std::thread::sleep(Duration::from_secs(7));
    let status = scene.agent.status().unwrap();
    assert!(!status.ready);
    assert!(
        status.problems.iter().any(|one| one.contains("is damaged") && one.ends_with("it is not used")),
        "{status:?}"
    );
    assert!(!connects(&scene.attacker, &scene.victim));
    assert!(connects(&scene.friend, &scene.victim), "what is pinned stays\n{}", scene.agent.log());
    scene.cluster.server.start_server().unwrap();
    scene.is_enforced(3);
}

#[test]
fn f15_a_connection_that_is_cut_or_silent_is_made_again() {
    let Some(scene) = Scene::start_or_skip("aw-f15") else { return };
    for round in 0..3 {
        scene.agent.relay.cut();
        let (from, expected) = if round % 2 == 0 { ("b", true) } else { ("a", false) };
        scene.cluster.policy("victim", &only_from("v", from)).unwrap();
        let took = scene.attacker_connects(expected, CONVERGED);
        println!("cut: {took:?}");
    }
    // A short silence is only a delay.
    scene.agent.relay.be_silent(true);
    scene.cluster.policy("victim", &only_from("v", "a")).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert!(connects(&scene.attacker, &scene.victim), "nothing can have been heard");
    scene.agent.relay.be_silent(false);
    scene.attacker_connects(false, CONVERGED);
}
