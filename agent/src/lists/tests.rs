use policy_compiler::api::PolicyObject;
use policy_compiler::compiler::{Compiler, Event, Scope};
use policy_compiler::delta::Delta;
use policy_compiler::facts::{Phase, Pod, Workload};
use policy_compiler::labels::Labels;
use policy_compiler::lower::lower;
use policy_compiler::object::{ObjectRef, PodKey};
use policy_compiler::plan::plan;
use serde_json::json;
use tempfile::TempDir;

use super::*;

/// Two pods, `one` and `two`, and a directory of lists.
struct Bed {
    compiler: Compiler,
    lists: Lists,
    directory: PathBuf,
    _folder: TempDir,
}

impl Bed {
    fn new() -> Self {
        let mut compiler = Compiler::new(Scope::All);
        let pods = [("one", "10.0.0.1"), ("two", "10.0.0.2")];
        let _tables = compiler.apply(pods.map(|(name, address)| pod(name, address)));
        let folder = TempDir::new().unwrap();
        // Its parent is not there either.
        let directory = folder.path().join("run/lists");
        Self { compiler, lists: Lists::new(&directory), directory, _folder: folder }
    }

    /// A policy of a pod's own name lets in what asks for a path.
    fn policy(&mut self, pod: &str, path: &str) -> Vec<Step> {
        let object = json!({
            "metadata": {"name": pod, "namespace": "a"},
            "spec": {
                "subject": {"podSelector": {"matchLabels": {"app": pod}}},
                "ingress": [{"action": "Allow", "http": [{"path": {"exact": path}}]}],
            },
        });
        let object = PolicyObject::PolderPolicy(serde_json::from_value(object).unwrap());
        let policy = lower(&object, None).unwrap().policy;
        let delta = self.compiler.apply([Event::Policy(Box::new(policy))]);
        self.steps(&delta)
    }

    fn no_policy(&mut self, pod: &str) -> Vec<Step> {
        let delta = self.compiler.apply([Event::PolicyGone(ObjectRef::namespaced("PolderPolicy", "a", pod))]);
        self.steps(&delta)
    }

    fn steps(&self, delta: &Delta) -> Vec<Step> {
        plan(delta, self.compiler.tables(), 0).unwrap()
    }

    fn publish(&mut self, steps: &[Step]) -> Result<Published> {
        self.lists.publish(steps, self.compiler.tables())
    }

    fn sweep(&mut self, published: Published) {
        self.lists.sweep(published, self.compiler.tables()).unwrap();
    }

    fn all(&mut self, steps: &[Step]) {
        let published = self.publish(steps).unwrap();
        self.sweep(published);
        assert_eq!(self.files(), self.wanted());
    }

    fn repair(&mut self) -> usize {
        self.lists.repair(self.compiler.tables()).unwrap()
    }

    /// Names and contents, as the tables have them.
    fn wanted(&self) -> BTreeMap<String, Vec<u8>> {
        let mut wanted = BTreeMap::new();
        for (rule_set, rows) in &self.compiler.tables().rules {
            for (list, content) in rows.lists.iter() {
                let name = format!("{:012x}-{list:08x}", rule_set.get());
                assert!(wanted.insert(name, content.bytes().to_vec()).is_none());
            }
        }
        wanted
    }

    /// The same, as the directory has them.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let Ok(entries) = fs::read_dir(&self.directory) else { return BTreeMap::new() };
        let files = entries.map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
        });
        files.collect()
    }

    /// The only list that the tables have.
    fn only(&self) -> PathBuf {
        let wanted = self.wanted();
        assert_eq!(wanted.len(), 1);
        self.directory.join(wanted.keys().next().unwrap())
    }
}

fn pod(name: &str, address: &str) -> Event {
    Event::Pod(Box::new(Pod {
        key: PodKey::new("a", name),
        uid: name.into(),
        labels: Labels::new([("app", name)]),
        addresses: vec![address.parse().unwrap()],
        addresses_made_up: false,
        host_network: false,
        phase: Phase::Running,
        node: None,
        created: None,
        ports: Vec::new(),
        workload: Workload { kind: "Pod".into(), name: name.into() },
    }))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn who_reads_requests_finds_files_in_a_directory_that_somebody_else_made() {
    let mut bed = Bed::new();
    DirBuilder::new().recursive(true).mode(0o700).create(&bed.directory).unwrap();
    let steps = bed.policy("one", "/a");
    bed.all(&steps);
    assert_eq!(mode(&bed.directory), 0o755);
}

#[test]
fn a_list_is_there_before_rows_name_it_and_until_none_does() {
    let mut bed = Bed::new();
    bed.all(&[]);
    assert!(!bed.directory.exists(), "nothing is made before it is needed");
    let steps = bed.policy("one", "/a");
    let published = bed.publish(&steps).unwrap();
    let first = bed.wanted();
    assert_eq!((first.len(), bed.files()), (1, first.clone()));
    assert_eq!((mode(&bed.directory), mode(&bed.only())), (0o755, 0o644));
    bed.sweep(published);

    let steps = bed.policy("one", "/b");
    let published = bed.publish(&steps).unwrap();
    let second = bed.wanted();
    let both: BTreeMap<_, _> = first.into_iter().chain(second.clone()).collect();
    assert_eq!((both.len(), bed.files()), (2, both), "rows of the old generation name the old one");
    bed.sweep(published);
    assert_eq!(bed.files(), second);

    let steps = bed.no_policy("one");
    let published = bed.publish(&steps).unwrap();
    assert_eq!(bed.files(), second);
    bed.sweep(published);
    assert_eq!(bed.files(), BTreeMap::new());
}

#[test]
fn a_change_looks_only_at_the_rule_sets_that_it_touches() {
    let mut bed = Bed::new();
    let steps = bed.policy("one", "/a");
    bed.all(&steps);
    let first = bed.only();
    fs::remove_file(&first).unwrap();
    let steps = bed.policy("two", "/b");
    let published = bed.publish(&steps).unwrap();
    bed.sweep(published);
    assert!(!first.exists());
    assert_eq!(bed.repair(), 1);
    assert_eq!((bed.files().len(), bed.files()), (2, bed.wanted()));
}

#[test]
fn what_the_agent_before_left_is_kept_if_it_is_right_and_removed_after_the_first_change() {
    let mut bed = Bed::new();
    let _steps = [bed.policy("one", "/a"), bed.policy("two", "/b")];
    let wanted = bed.wanted();
    assert_eq!(wanted.len(), 2);
    fs::create_dir_all(&bed.directory).unwrap();
    for (name, bytes) in &wanted {
        fs::write(bed.directory.join(name), bytes).unwrap();
        fs::set_permissions(bed.directory.join(name), Permissions::from_mode(FILE_MODE)).unwrap();
    }
    let [right, damaged] = [0, 1].map(|index| bed.directory.join(wanted.keys().nth(index).unwrap()));
    fs::write(&damaged, [0; 8]).unwrap();
    let strange = "0123456789ab-00000001";
    for other in [strange, ".0123456789ab-00000001.new", "README", "0123456789AB-00000001"] {
        fs::write(bed.directory.join(other), "x").unwrap();
    }
    let inode = fs::metadata(&right).unwrap().ino();
    let published = bed.publish(&[]).unwrap();
    assert_eq!(fs::metadata(&right).unwrap().ino(), inode, "not written anew");
    assert_eq!(fs::read(&damaged).unwrap(), wanted[damaged.file_name().unwrap().to_str().unwrap()]);
    assert!(bed.directory.join(strange).exists(), "rows of the agent before may name it still");
    bed.sweep(published);
    let mut left = bed.files();
    let others: Vec<_> = ["0123456789AB-00000001", "README"].map(|name| left.remove(name)).into();
    assert_eq!(others, [Some(b"x".to_vec()), Some(b"x".to_vec())], "these are none of ours");
    assert_eq!(left, wanted);
}

#[test]
fn after_steps_that_failed_nothing_is_removed_until_others_succeed() {
    let mut bed = Bed::new();
    let steps = bed.policy("one", "/a");
    bed.all(&steps);
    let first = bed.wanted();
    let steps = bed.policy("one", "/b");
    drop(bed.publish(&steps).unwrap());
    let second = bed.wanted();
    assert!(!bed.lists.are_settled());
    // Another change comes, and its steps are planned from what the kernel holds: they need not touch the rule sets before.
    let _steps = bed.no_policy("one");
    let published = bed.publish(&[]).unwrap();
    assert_eq!(bed.files(), first.into_iter().chain(second).collect());
    bed.sweep(published);
    assert_eq!((bed.files(), bed.lists.are_settled()), (BTreeMap::new(), true));
}

#[test]
fn what_cannot_be_written_is_refused_by_name_and_tried_again() {
    let mut bed = Bed::new();
    fs::create_dir_all(bed.directory.parent().unwrap()).unwrap();
    fs::write(&bed.directory, "").unwrap();
    let steps = bed.policy("one", "/a");
    let said = format!("{:#}", bed.publish(&steps).unwrap_err());
    assert!(said.starts_with(&format!("making the directory {}: ", bed.directory.display())), "{said}");
    fs::remove_file(&bed.directory).unwrap();
    bed.all(&steps);

    let first = bed.wanted();
    let steps = bed.policy("one", "/b");
    // A directory is in the way.
    let path = bed.only();
    fs::create_dir(&path).unwrap();
    let said = format!("{:#}", bed.publish(&steps).unwrap_err());
    assert!(said.starts_with(&format!("writing {}: ", path.display())), "{said}");
    fs::remove_dir(&path).unwrap();
    assert_eq!(bed.files(), first, "what is in force stays, and no half");
    bed.all(&steps);
}

#[test]
fn what_somebody_changed_is_written_anew() {
    let mut bed = Bed::new();
    let steps = bed.policy("one", "/a");
    bed.all(&steps);
    let (path, wanted) = (bed.only(), bed.wanted());
    assert_eq!(bed.repair(), 0);
    let damages: [fn(&Path); 3] = [
        |path| fs::write(path, "x").unwrap(),
        |path| fs::remove_file(path).unwrap(),
        |path| fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap(),
    ];
    for damage in damages {
        damage(&path);
        assert_eq!(bed.repair(), 1);
        assert_eq!((bed.files(), mode(&path)), (wanted.clone(), FILE_MODE));
        bed.all(&[]);
    }
    // The same bytes by another name are no damage.
    fs::copy(&path, path.with_extension("copy")).unwrap();
    fs::rename(path.with_extension("copy"), &path).unwrap();
    assert_eq!((bed.repair(), bed.repair()), (0, 0));
}

#[test]
fn all_that_is_ours_is_removed_in_the_end_and_the_directory_stays() {
    let mut bed = Bed::new();
    Lists::new(&bed.directory).remove_all().unwrap();
    let steps = bed.policy("one", "/a");
    bed.all(&steps);
    Lists::new(&bed.directory).remove_all().unwrap();
    assert_eq!((bed.files(), bed.directory.is_dir()), (BTreeMap::new(), true));
}
