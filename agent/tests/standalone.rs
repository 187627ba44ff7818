//! The directory of manifests, as editors, `mv` and `ConfigMap` volumes change it.
#![expect(clippy::expect_used, reason = "a test ends at what it did not expect")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent::standalone::{Options, Update, run};
use policy_compiler::compiler::Event;
use tempfile::TempDir;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

/// Longer than anything here takes, shorter than the clock's readings.
const SOON: Duration = Duration::from_secs(5);

fn pod(name: &str, address: u8) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, status: {{podIPs: [{{ip: 10.0.0.{address}}}]}}}}\n"
    )
}

/// The pods that appeared or changed, and those that went, as `+name` and `-name`; or `refused` and the first problem.
fn brief(update: &Update) -> Vec<String> {
    match update {
        Update::Changed { events, .. } => events.iter().map(of_event).collect(),
        Update::Refused { problems } => vec!["refused".to_owned(), problems[0].to_string()],
        Update::Followed(_) => vec!["a directory is not followed object by object".to_owned()],
    }
}

fn of_event(event: &Event) -> String {
    match event {
        Event::Pod(pod) => format!("+{}", pod.key.name),
        Event::PodGone { key, .. } => format!("-{}", key.name),
        other => format!("{other:?}"),
    }
}

struct Watched {
    updates: mpsc::Receiver<Update>,
    resync: Arc<Notify>,
}

impl Watched {
    fn new(directory: &Path) -> Self {
        let (sender, updates) = mpsc::channel(16);
        let resync = Arc::new(Notify::new());
        tokio::spawn(run(Options::new(directory), Arc::clone(&resync), sender));
        Self { updates, resync }
    }

    async fn next(&mut self) -> Vec<String> {
        let update = timeout(SOON, self.updates.recv()).await.expect("an update in time");
        brief(&update.expect("the source goes on"))
    }

    async fn nothing(&mut self) {
        let update = timeout(Duration::from_millis(200), self.updates.recv()).await;
        assert!(update.is_err(), "{update:?}");
    }
}

#[tokio::test]
async fn what_is_there_at_the_start_and_every_change_of_it_is_reported() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("a.yaml"), pod("a", 1)).unwrap();
    let mut watched = Watched::new(folder.path());
    assert_eq!(watched.next().await, ["+a"]);
    fs::write(folder.path().join("a.yaml"), pod("a", 2)).unwrap();
    assert_eq!(watched.next().await, ["+a"]);
    // A directory with files in it, made after the watch.
    fs::create_dir_all(folder.path().join("b/c")).unwrap();
    fs::write(folder.path().join("b/c/d.yml"), pod("d", 3)).unwrap();
    assert_eq!(watched.next().await, ["+d"]);
    fs::remove_file(folder.path().join("a.yaml")).unwrap();
    assert_eq!(watched.next().await, ["-a"]);
    fs::rename(folder.path().join("b"), folder.path().join(".hidden")).unwrap();
    assert_eq!(watched.next().await[0], "refused", "no manifest is left");
    watched.resync.notify_one();
    watched.nothing().await;
}

#[tokio::test]
async fn a_file_renamed_into_place_is_one_change() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("a.yaml"), pod("a", 1)).unwrap();
    let mut watched = Watched::new(folder.path());
    assert_eq!(watched.next().await, ["+a"]);
    fs::write(folder.path().join(".a.yaml.swp"), pod("b", 2)).unwrap();
    fs::rename(folder.path().join(".a.yaml.swp"), folder.path().join("a.yaml")).unwrap();
    assert_eq!(watched.next().await, ["+b", "-a"]);
    watched.nothing().await;
}

#[tokio::test]
async fn a_config_map_volume_is_swapped_whole() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    let data = |name: &str, files: &[(&str, String)]| {
        fs::create_dir(root.join(name)).unwrap();
        for (file, text) in files {
            fs::write(root.join(name).join(file), text).unwrap();
        }
        symlink(name, root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    };
    data("..1", &[("a.yaml", pod("a", 1)), ("b.yaml", pod("b", 2))]);
    symlink("..data/a.yaml", root.join("a.yaml")).unwrap();
    symlink("..data/b.yaml", root.join("b.yaml")).unwrap();
    let mut watched = Watched::new(root);
    assert_eq!(watched.next().await, ["+a", "+b"]);
    data("..2", &[("a.yaml", pod("a", 3)), ("b.yaml", pod("c", 4))]);
    assert_eq!(watched.next().await, ["+a", "+c", "-b"]);
    fs::remove_dir_all(root.join("..1")).unwrap();
    watched.nothing().await;
    data("..3", &[("a.yaml", pod("a", 3)), ("b.yaml", pod("d", 5))]);
    assert_eq!(watched.next().await, ["+d", "-c"]);
}

#[tokio::test]
async fn a_broken_file_keeps_everything_as_it_was_until_it_is_mended() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("a.yaml"), pod("a", 1)).unwrap();
    let mut watched = Watched::new(folder.path());
    assert_eq!(watched.next().await, ["+a"]);
    fs::remove_file(folder.path().join("a.yaml")).unwrap();
    fs::write(folder.path().join("p.yaml"), "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec: {podSelctor: {}}\n").unwrap();
    let mut refused = watched.next().await;
    // Between removal and writing there may have been a reading.
    if refused[1].contains("there is no manifest") {
        refused = watched.next().await;
    }
    assert!(
        refused[1].starts_with("p.yaml:4: NetworkPolicy default/p: spec.podSelctor: unknown field"),
        "{refused:?}"
    );
    watched.resync.notify_one();
    watched.nothing().await;
    fs::write(folder.path().join("p.yaml"), pod("b", 1)).unwrap();
    assert_eq!(watched.next().await, ["+b", "-a"]);
}

#[tokio::test]
async fn a_file_is_not_read_while_it_is_being_written() {
    use std::io::Write as _;
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("a.yaml"), pod("a", 1) + "---\n" + &pod("b", 2)).unwrap();
    let mut watched = Watched::new(folder.path());
    assert_eq!(watched.next().await, ["+a", "+b"]);
    let mut file = fs::File::create(folder.path().join("a.yaml")).unwrap();
    file.write_all(pod("a", 3).as_bytes()).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    file.write_all(("---\n".to_owned() + &pod("b", 2)).as_bytes()).unwrap();
    drop(file);
    assert_eq!(watched.next().await, ["+a"], "b was never gone");
}

#[tokio::test]
async fn a_directory_that_is_missing_is_refused_and_seen_when_it_comes_and_goes() {
    let folder = TempDir::new().unwrap();
    let directory = folder.path().join("x/y");
    let mut watched = Watched::new(&directory);
    let refused = watched.next().await;
    assert!(refused[1].contains("cannot be read: No such file or directory"), "{refused:?}");
    fs::create_dir_all(folder.path().join("x/z")).unwrap();
    fs::write(folder.path().join("x/z/a.yaml"), pod("a", 1)).unwrap();
    fs::rename(folder.path().join("x/z"), &directory).unwrap();
    assert_eq!(watched.next().await, ["+a"]);
    fs::remove_dir_all(folder.path().join("x")).unwrap();
    assert_eq!(watched.next().await[0], "refused");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("a.yaml"), pod("b", 1)).unwrap();
    let mut update = watched.next().await;
    if update[0] == "refused" {
        update = watched.next().await;
    }
    assert_eq!(update, ["+b", "-a"]);
}

#[tokio::test]
async fn the_last_of_many_changes_is_never_lost() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("a.yaml"), pod("a", 1)).unwrap();
    let mut watched = Watched::new(folder.path());
    assert_eq!(watched.next().await, ["+a"]);
    for round in 0..100 {
        fs::write(folder.path().join(format!("{round}.yaml")), pod(&format!("p{round}"), round)).unwrap();
        tokio::time::sleep(Duration::from_millis(u64::from(round % 7))).await;
    }
    let mut seen = Vec::new();
    while seen.len() < 100 {
        seen.extend(watched.next().await);
    }
    seen.sort();
    let mut all: Vec<_> = (0..100).map(|round| format!("+p{round}")).collect();
    all.sort();
    assert_eq!(seen, all);
}

#[test]
fn the_same_files_are_read_in_the_same_order_as_by_polctl() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    fs::create_dir_all(root.join("b/.git")).unwrap();
    fs::create_dir_all(root.join("elsewhere")).unwrap();
    let files = ["a.yaml", "b/x.json", "b/.git/no.yaml", "c.yml", "d.txt", ".e.yaml", "elsewhere/z.yaml"];
    for (number, file) in (1..).zip(files) {
        fs::write(root.join(file), pod(&format!("p{number}"), number)).unwrap();
    }
    symlink("../a.yaml", root.join("b/again.yaml")).unwrap();
    symlink("..", root.join("elsewhere/loop")).unwrap();
    let loaded = manifests::load::load(&[root.to_owned()], &mut std::io::empty());
    assert_eq!(loaded.problems, []);
    let expected: Vec<_> = loaded
        .objects
        .iter()
        .map(|object| {
            Path::new(&*object.source.file).strip_prefix(root).unwrap().to_string_lossy().into_owned()
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let read = runtime.block_on(async {
        let mut watched = Watched::new(root);
        match watched.updates.recv().await {
            Some(Update::Changed { documents, .. }) => {
                documents.iter().map(|one| one.name.clone()).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(read, expected);
    assert_eq!(read.len(), 4);
}
