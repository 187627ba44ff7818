use super::*;

fn namespace(name: &str) -> Contents {
    let mut contents = Contents::default();
    let fact = Namespace::new(name, [], false);
    contents.cluster.namespaces.insert(Arc::clone(&fact.name), Arc::new(fact));
    contents
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The names that are on disk; none if nothing is.
fn names(store: &Store) -> Vec<String> {
    let saved = store.read("n").unwrap();
    let events = saved.into_iter().flat_map(|saved| saved.followed.events);
    let names = events.filter_map(|event| match event {
        Event::Namespace(namespace) => Some(namespace.name.to_string()),
        _ => None,
    });
    names.collect()
}

#[test]
fn what_changes_is_appended_to_everything() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let saver = Saver::new(store.clone(), "n").unwrap();
    assert!(!saver.is_due(), "nothing is known yet");
    assert!(!saver.appends(), "there is nothing to append to");
    assert!(saver.is_due());
    saver.write_everything(namespace("a"));
    assert!(!saver.is_due(), "it is under way");
    assert!(saver.appends());
    assert!(saver.send(Message::Changes(namespace("b"))));
    until("both are on disk", || names(&store) == ["a", "b"]);
    assert!(saver.send(Message::Changes(namespace("c"))));
    drop(saver.messages);
    saver.thread.join().unwrap();
    assert_eq!(names(&store), ["a", "b", "c"]);
}

#[test]
fn where_it_cannot_be_written_everything_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("state");
    let store = Store::open(&place).unwrap();
    let saver = Saver::new(store.clone(), "n").unwrap();
    std::fs::remove_dir(&place).unwrap();
    assert!(!saver.appends());
    saver.write_everything(namespace("a"));
    let failure = || with(&saver.shared, |shared| shared.failure.clone());
    until("it fails", || failure().is_some());
    assert!(failure().unwrap().contains("cluster.jsonl"), "{:?}", failure());
    assert!(!saver.appends(), "there is nothing to append to");
    assert!(!saver.is_due(), "not at once");
    Store::open(&place).unwrap();
    with(&saver.shared, |shared| shared.earliest = Instant::now());
    assert!(saver.is_due());
    saver.write_everything(namespace("a"));
    until("it is on disk", || names(&store) == ["a"]);
    until("nothing is wrong any more", || failure().is_none());
}

#[test]
fn what_is_long_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let saver = Saver::new(store.clone(), "n").unwrap();
    saver.write_everything(namespace("a"));
    let mut many = Contents::default();
    for number in 0..2000 {
        let label = ("key".to_owned(), format!("{number:01000}"));
        let fact = Namespace::new(&format!("many-{number}"), [label], false);
        many.cluster.namespaces.insert(Arc::clone(&fact.name), Arc::new(fact));
    }
    assert!(saver.send(Message::Changes(many)));
    until("everything is wanted", || with(&saver.shared, |shared| shared.wanted && !shared.lacks));
    assert!(!saver.is_due(), "not at once");
    assert_eq!(names(&store).len(), 2001);
}

#[test]
fn while_everything_is_written_it_is_not_asked_for_again_whatever_finds_no_room() {
    let folder = tempfile::tempdir().unwrap();
    let mut saver = Saver::new(Store::open(folder.path()).unwrap(), "n").unwrap();
    // A disk that takes nothing.
    let (messages, taken) = sync_channel(1);
    saver.messages = messages;
    saver.write_everything(namespace("a"));
    assert!(!saver.send(Message::Changes(namespace("b"))));
    with(&saver.shared, |shared| shared.earliest = Instant::now());
    assert!(!saver.appends() && !saver.is_due(), "everything is under way, and lacks something");
    assert!(matches!(taken.recv(), Ok(Message::Everything(_))));
    // It is written, and everything is wanted once more.
    with(&saver.shared, |shared| shared.busy = false);
    assert!(saver.is_due());
    drop(taken);
    saver.write_everything(namespace("a"));
    assert!(with(&saver.shared, |shared| shared.lacks && !shared.busy), "nobody writes");
}
