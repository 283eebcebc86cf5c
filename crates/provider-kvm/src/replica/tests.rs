//! Points through restarts, cuts and late writers, on real qcow2 files.

use std::{
    path::Path,
    sync::Arc,
};

use chrono::Utc;
use provider::{Definition, Disk, Endpoint, Machine, Pin, PowerState, PrepareReplica, ProviderError};
use recovery::{Consistency, Generation, ItemName, PointId, ReplicationPolicy};

use super::*;
use crate::{
    guard::Guard,
    qemu::{Access, Served},
};

const MIB: u64 = 1 << 20;
const BLOCK: u64 = 65_536;
const GENERATION: Generation = Generation { era: 1, grant_epoch: 1 };

fn machine() -> Machine {
    let disk = |target: &str, capacity_bytes| Disk { target: target.into(), path: "x".into(), format: "qcow2".into(), capacity_bytes };
    Machine {
        name: "vm".into(),
        uuid: "u".into(),
        power: PowerState::Running,
        autostart: true,
        disks: vec![disk("vda", 8 * MIB), disk("vdb", MIB)],
        definition: Definition("<domain/>".into()),
    }
}

struct Fixture {
    dir: tempfile::TempDir,
    store: Arc<ItemStore>,
}

impl Fixture {
    fn new(retention_points: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("run")).unwrap();
        let store = open(dir.path());
        prepare(&store, GENERATION, retention_points).unwrap();
        Self { dir, store }
    }

    /// As an agent that was killed and started again.
    fn reopen(&mut self) {
        self.store = open(self.dir.path());
    }

    fn item_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("storage/vm")
    }

    fn begin(&self, resume: bool) -> Append {
        self.store.begin(GENERATION, resume, &self.dir.path().join("run")).unwrap()
    }

    fn append(&self, writes: &[(&str, u64, u8)]) -> PointId {
        let mut append = self.begin(false);
        for (disk, block, byte) in writes {
            append.write(disk, block * BLOCK, &[*byte; BLOCK as usize]).unwrap();
        }
        append.commit(new_point("m")).unwrap()
    }

    fn offered(&self) -> Vec<u64> {
        self.store.describe().unwrap().points.iter().map(|p| p.id.0).collect()
    }

    fn byte(&self, point: PointId, disk: &str, block: u64) -> u8 {
        let (_, files) = self.store.point(point).unwrap();
        let mut served = Served::open(&self.dir.path().join("run"), &self.item_dir().join(&files[disk]), Access::Read, None).unwrap();
        let mut byte = [0];
        served.client().unwrap().read(block * BLOCK, &mut byte).unwrap();
        byte[0]
    }

    fn files(&self) -> Vec<String> {
        let names = crate::durable::names(&self.item_dir()).unwrap();
        names.into_iter().filter(|n| n.contains("qcow2")).collect()
    }
}

fn open(root: &Path) -> Arc<ItemStore> {
    let item: ItemName = "vm".parse().unwrap();
    let guard = Arc::new(Guard::take_over(&root.join("state"), 1).unwrap());
    Arc::new(ItemStore::open(item, "b", root.join("storage/vm"), guard).unwrap())
}

fn prepare(store: &ItemStore, generation: Generation, retention_points: u32) -> Result<Endpoint, ProviderError> {
    let policy = ReplicationPolicy::new(1, retention_points, 3600, None).unwrap();
    let endpoint = Endpoint { address: "x:1".into(), tls_name: "x".into() };
    let wanted = PrepareReplica { item: "vm".parse().unwrap(), generation, machine: machine(), policy, base: provider::Base::Empty };
    store.prepare(wanted, None, endpoint)
}

fn new_point(mark: &str) -> NewPoint {
    NewPoint { generation: GENERATION, mark: mark.into(), consistency: Consistency::Crash, taken_at: Utc::now(), bytes: 1, group: None, kept: None }
}

#[test]
fn points_hold_what_was_written_into_them_and_survive_a_restart() {
    let mut f = Fixture::new(12);
    let first = f.append(&[("vda", 0, 1), ("vdb", 3, 9)]);
    let second = f.append(&[("vda", 0, 2), ("vda", 5, 5)]);
    f.reopen();
    assert_eq!(f.offered(), [1, 2]);
    assert_eq!((f.byte(first, "vda", 0), f.byte(first, "vda", 5), f.byte(first, "vdb", 3)), (1, 0, 9));
    assert_eq!((f.byte(second, "vda", 0), f.byte(second, "vda", 5), f.byte(second, "vdb", 3)), (2, 5, 9));
    assert_eq!(f.append(&[]), PointId(3));
}

#[test]
fn a_point_that_was_not_committed_is_never_offered_and_leaves_nothing() {
    let mut f = Fixture::new(12);
    let first = f.append(&[("vda", 0, 1)]);
    let mut torn = f.begin(false);
    torn.write("vda", 0, &[7; 4096]).unwrap();
    std::mem::forget(torn.commit_not_at_all());
    assert_eq!(f.files().len(), 4);
    f.reopen();
    assert_eq!((f.offered(), f.files().len()), (vec![1], 2));
    assert_eq!(f.byte(first, "vda", 0), 1);
    f.begin(false).abandon();
    assert_eq!(f.files().len(), 2);
}

impl Append {
    /// Ends the servers as a killed agent does, without removing anything.
    fn commit_not_at_all(self) -> ItemName {
        "gone".parse().unwrap()
    }
}

#[test]
fn a_first_copy_that_was_cut_goes_on_from_what_it_has() {
    let mut f = Fixture::new(12);
    let mut seed = f.begin(false);
    seed.write("vda", 0, &[7; BLOCK as usize]).unwrap();
    drop(seed);
    f.reopen();
    assert_eq!(f.store.base(GENERATION).unwrap(), Base { newest: None, seed: true, old_marks: None });
    assert_eq!(f.offered(), [0; 0]);
    let mut seed = f.begin(true);
    let mut byte = [0];
    seed.read("vda", 0, &mut byte).unwrap();
    assert_eq!(byte, [7]);
    seed.write("vda", BLOCK, &[8; BLOCK as usize]).unwrap();
    let point = seed.commit(new_point("m")).unwrap();
    assert_eq!((f.byte(point, "vda", 0), f.byte(point, "vda", 1)), (7, 8));
    assert_eq!(f.files().len(), 2);
}

#[test]
fn pruning_keeps_every_other_point_as_it_was() {
    let mut f = Fixture::new(3);
    let pinned = f.append(&[("vda", 0, 1), ("vda", 1, 1)]);
    f.store.pin(pinned, Pin("x".into())).unwrap();
    for n in 2..12 {
        f.append(&[("vda", 0, n), ("vda", u64::from(n), n)]);
    }
    f.reopen();
    let offered = f.offered();
    assert_eq!((offered.len(), offered[0], *offered.last().unwrap()), (3, 1, 11));
    assert_eq!(f.files().len(), 6);
    for id in offered {
        let byte = u8::try_from(id).unwrap();
        assert_eq!(f.byte(PointId(id), "vda", 0), byte);
        for n in 2..12_u8 {
            let expected = if n <= byte { n } else { 0 };
            assert_eq!(f.byte(PointId(id), "vda", n.into()), expected, "point {id} block {n}");
        }
    }
}

#[test]
fn a_pruning_that_was_interrupted_anywhere_is_completed() {
    for stop_after in 0..4 {
        let mut f = Fixture::new(12);
        for n in 1..=4 {
            f.append(&[("vda", 0, n), ("vda", u64::from(n), n)]);
        }
        // What an agent does that is killed after so many steps of pruning point 2.
        let dir = f.item_dir();
        let file = |id| dir.join(&f.store.point(PointId(id)).unwrap().1["vda"]);
        let (second, third, fourth) = (file(2), file(3), file(4));
        f.store.record(&mut f.store.lock(), Record::Pruning { point: PointId(2) }).unwrap();
        if stop_after >= 1 {
            crate::qemu::commit(&third, &second).unwrap();
        }
        if stop_after >= 2 {
            crate::qemu::rebase(&fourth, &second).unwrap();
        }
        if stop_after >= 3 {
            crate::qemu::commit(&third, &second).unwrap();
        }
        assert_eq!(f.offered(), [1, 3, 4]);
        f.reopen();
        assert_eq!(f.offered(), [1, 3, 4], "stopped after {stop_after}");
        assert_eq!(f.files().len(), 6);
        for id in [1_u8, 3, 4] {
            assert_eq!(f.byte(PointId(id.into()), "vda", 0), id);
            let blocks: Vec<u8> = (1..=4).map(|n| f.byte(PointId(id.into()), "vda", n)).collect();
            let expected: Vec<u8> = (1..=4).map(|n| if n <= id { n } else { 0 }).collect();
            assert_eq!(blocks, expected, "stopped after {stop_after}, point {id}");
        }
    }
}

#[test]
fn a_sealed_replica_refuses_even_an_append_that_was_begun_before() {
    let f = Fixture::new(12);
    f.append(&[("vda", 0, 1)]);
    let late = f.begin(false);
    let newer = Generation { era: 1, grant_epoch: 2 };
    f.store.seal(newer).unwrap();
    let superseded = ProviderError::Superseded { item: "vm".parse().unwrap(), given: GENERATION, newest: newer };
    assert_eq!(late.commit(new_point("m")), Err(superseded.clone()));
    assert_eq!(f.store.base(GENERATION), Err(superseded));
    assert_eq!(f.offered(), [1]);
    prepare(&f.store, newer, 12).unwrap();
    assert!(f.store.base(newer).unwrap().newest.is_some());
}

#[test]
fn another_machine_does_not_fit_the_replica() {
    let f = Fixture::new(12);
    let mut other = machine();
    other.disks[0].capacity_bytes = 9 * MIB;
    let wanted = PrepareReplica { item: "vm".parse().unwrap(), generation: GENERATION, machine: other, policy: ReplicationPolicy::default(), base: provider::Base::Empty };
    let refused = f.store.prepare(wanted, None, Endpoint { address: "x:1".into(), tls_name: "x".into() });
    assert!(matches!(refused, Err(ProviderError::ReplicaMismatch { .. })));
}

#[test]
fn a_chain_stays_short_while_a_copy_reads_from_all_it_had() {
    let f = Fixture::new(6);
    for n in 1..=6 {
        f.append(&[("vda", n, 1)]);
    }
    let copies = f.item_dir().join("test");
    std::fs::create_dir_all(&copies).unwrap();
    let copy = r#"{"version":1,"generation":"e1-g1","point":6,"left_out":[]}"#;
    std::fs::write(copies.join("copy.e1-g1-s1-r1-a1.json"), copy).unwrap();
    let held: Vec<_> = (1..=6).map(|id| f.store.point(PointId(id)).unwrap().1).collect();
    let stamps = |files: &[super::record::Files]| -> Vec<String> {
        files.iter().flat_map(|files| files.values()).map(|file| crate::durable::stamp(&f.item_dir().join(file)).unwrap()).collect()
    };
    let before = stamps(&held);
    for n in 7..=40 {
        f.append(&[("vda", n, 1)]);
        assert!(f.offered().len() <= 8, "{:?}", f.offered());
    }
    assert_eq!(f.offered(), [1, 2, 3, 4, 5, 6, 39, 40]);
    assert_eq!(stamps(&held), before, "what the copy reads was not touched");
    assert!((1..=40).all(|block| f.byte(PointId(40), "vda", block) == 1));
    std::fs::remove_dir_all(&copies).unwrap();
    f.store.thin();
    assert_eq!((f.offered().len(), f.offered().last()), (6, Some(&40)));
    assert!((1..=40).all(|block| f.byte(PointId(40), "vda", block) == 1));
}

#[test]
fn a_late_writer_can_record_nothing() {
    let f = Fixture::new(12);
    f.append(&[("vda", 0, 1)]);
    let late = f.begin(false);
    let newer = open(f.dir.path());
    assert!(matches!(late.commit(new_point("late")), Err(ProviderError::NotWriter { .. })));
    assert!(matches!(f.store.base(GENERATION), Err(ProviderError::NotWriter { .. })), "nor does it tell a source what there is");
    assert_eq!(newer.describe().unwrap().points.len(), 1);
    assert_eq!(f.byte(PointId(1), "vda", 0), 1);
}

#[test]
fn a_dropped_replica_leaves_no_file() {
    let f = Fixture::new(12);
    f.append(&[("vda", 0, 1)]);
    assert!(f.store.begin_drop().unwrap());
    assert!(f.store.begin_drop().unwrap());
    f.store.end_drop().unwrap();
    assert!(!f.store.begin_drop().unwrap());
    assert_eq!(crate::durable::names(&f.item_dir()).unwrap(), [""; 0]);
    assert_eq!(f.store.describe(), None);
    prepare(&f.store, GENERATION, 12).unwrap();
    assert_eq!(f.append(&[("vda", 0, 1)]), PointId(1));
}

#[test]
fn a_source_whose_machine_was_started_here_meanwhile_is_told_so() {
    let f = Fixture::new(12);
    f.append(&[("vda", 0, 1)]);
    let newer = Generation { era: 1, grant_epoch: 2 };
    f.store.seal(newer).unwrap();
    assert!(matches!(f.store.base(GENERATION), Err(ProviderError::Superseded { .. })));
    let token = recovery::EffectToken { era: 1, grant_epoch: 2, seq: 1, run_epoch: 1, attempt: 1 };
    let record = crate::machines::MachineRecord {
        version: 1,
        token,
        generation: newer,
        point: PointId(1),
        network: provider::NetworkChoice::AsDefined,
        name: "vm".into(),
        uuid: "u".into(),
        disks: std::collections::BTreeMap::new(),
        definition: String::new(),
    };
    record.store(&f.item_dir()).unwrap();
    assert!(matches!(f.store.base(GENERATION), Err(ProviderError::Superseded { .. })), "it is prepared and was never started");
    let since = Utc::now();
    record.store_started(&f.item_dir(), since).unwrap();
    let runs_here = ProviderError::RunsHere { item: "vm".parse().unwrap(), site: "b".into(), newest: newer, since };
    assert_eq!(f.store.base(GENERATION), Err(runs_here.clone()));
    let dropped = Fixture::new(12);
    dropped.store.begin_drop().unwrap();
    dropped.store.end_drop().unwrap();
    assert!(matches!(dropped.store.base(GENERATION), Err(ProviderError::NoSuchReplica { .. })));
    record.store(&dropped.item_dir()).unwrap();
    record.store_started(&dropped.item_dir(), since).unwrap();
    assert_eq!(dropped.store.base(GENERATION), Err(runs_here), "the item was unprotected, and its machine lives here");
    record.store_retired(&f.item_dir()).unwrap();
    assert!(matches!(f.store.base(GENERATION), Err(ProviderError::Superseded { .. })), "it was failed over from");
}

/// A replica on an old machine's disk of 8 and one of 1 MiB, with block 5 of the first one filled with 9.
fn on_old_disks(f: &Fixture) -> StoredBase {
    let old = f.dir.path().join("old");
    std::fs::create_dir_all(&old).unwrap();
    let disks = [("vda", 8 * MIB), ("vdb", MIB)].map(|(target, bytes)| {
        let path = old.join(format!("{target}.qcow2"));
        crate::qemu::create(&path, bytes).unwrap();
        (target.to_owned(), path)
    });
    let mut served = Served::open(&f.dir.path().join("run"), &disks[0].1, Access::Write, None).unwrap();
    served.client().unwrap().write(5 * BLOCK, &[9; BLOCK as usize]).unwrap();
    served.close().unwrap();
    let stamps = disks.iter().map(|(target, path)| (target.clone(), crate::durable::stamp(path).unwrap())).collect();
    StoredBase {
        name: "home".into(),
        uuid: "h".into(),
        definition: "<domain/>".into(),
        disks: disks.into(),
        stamps,
        marks: vec!["sb.m".into()],
        ours: None,
        was_retired: false,
    }
}

#[test]
fn a_replica_begins_anew_on_old_disks_and_its_numbers_go_on() {
    let mut f = Fixture::new(3);
    f.append(&[("vda", 0, 1)]);
    f.append(&[("vda", 0, 2)]);
    let newer = Generation { era: 1, grant_epoch: 2 };
    let policy = ReplicationPolicy::new(1, 3, 3600, None).unwrap();
    let wanted = PrepareReplica { item: "vm".parse().unwrap(), generation: newer, machine: machine(), policy, base: provider::Base::OldMachine };
    let begin = |f: &Fixture, base| {
        f.store.prepare(wanted.clone(), base, Endpoint { address: "x:1".into(), tls_name: "x".into() })
    };
    f.store.withdraw().unwrap();
    let withdrawn = ProviderError::PointsWithdrawn { item: "vm".parse().unwrap() };
    assert_eq!(begin(&f, None), Err(withdrawn.clone()), "their files are still there");
    f.store.remove_points().unwrap();
    assert_eq!(prepare(&f.store, GENERATION, 3), Err(withdrawn), "only a newer generation begins anew");
    let base = on_old_disks(&f);
    begin(&f, Some(base.clone())).unwrap();
    f.reopen();
    begin(&f, None).unwrap();
    assert_eq!(f.store.old_machine(), Some(base.clone()));
    let described = f.store.describe().unwrap();
    assert_eq!((described.withdrawn, described.machine.name.as_str()), (false, "home"));
    assert_eq!(f.store.base(newer).unwrap().old_marks, Some(vec!["sb.m".to_owned()]));

    for n in 3..=8 {
        let mut append = f.store.begin(newer, true, &f.dir.path().join("run")).unwrap();
        append.write("vda", 0, &[n; BLOCK as usize]).unwrap();
        assert_eq!(append.commit(NewPoint { generation: newer, ..new_point("m") }).unwrap(), PointId(n.into()));
    }
    let offered = f.offered();
    assert_eq!((offered.len(), offered.last()), (3, Some(&8)));
    for n in offered {
        assert_eq!([0, 5].map(|block| f.byte(PointId(n), "vda", block)), [u8::try_from(n).unwrap(), 9]);
    }
    let untouched = base.disks.iter().map(|(target, path)| (target.clone(), crate::durable::stamp(path).unwrap()));
    assert_eq!(untouched.collect::<std::collections::BTreeMap<_, _>>(), base.stamps);

    let mut used = Served::open(&f.dir.path().join("run"), &base.disks["vdb"], Access::Write, None).unwrap();
    used.client().unwrap().write(0, &[1; 512]).unwrap();
    used.close().unwrap();
    let refused = f.store.begin(newer, true, &f.dir.path().join("run")).map(drop);
    assert!(matches!(refused, Err(ProviderError::Damaged { .. })), "{refused:?}");
}

#[test]
fn a_base_that_got_no_point_is_told_from_one_that_got_some_however_often_it_is_dropped() {
    for got_a_point in [false, true] {
        let mut f = Fixture::new(3);
        f.store.withdraw().unwrap();
        f.store.remove_points().unwrap();
        let base = on_old_disks(&f);
        let generation = Generation { era: 1, grant_epoch: 2 };
        let wanted = PrepareReplica {
            item: "vm".parse().unwrap(),
            generation,
            machine: machine(),
            policy: ReplicationPolicy::default(),
            base: provider::Base::OldMachine,
        };
        f.store.prepare(wanted, Some(base.clone()), Endpoint { address: "x:1".into(), tls_name: "x".into() }).unwrap();
        let append = f.store.begin(generation, true, &f.dir.path().join("run")).unwrap();
        if got_a_point {
            append.commit(NewPoint { generation, ..new_point("m") }).unwrap();
        } else {
            append.abandon();
        }
        for _ in 0..2 {
            assert!(f.store.begin_drop().unwrap());
            f.reopen();
            assert_eq!((f.store.leaving(), f.store.leaving_unused().is_some()), (Some(base.clone()), !got_a_point));
        }
    }
}

#[test]
fn a_journal_from_before_old_machines_is_still_read() {
    let old = r#"{"record":"prepared","generation":"e1-g1","machine":MACHINE,"policy":POLICY}"#
        .replace("MACHINE", &serde_json::to_string(&machine()).unwrap())
        .replace("POLICY", &serde_json::to_string(&ReplicationPolicy::default()).unwrap());
    let record: Record = serde_json::from_str(&old).unwrap();
    let expected = Record::Prepared { generation: GENERATION, machine: machine(), policy: ReplicationPolicy::default(), anew: false, base: None };
    assert_eq!(record, expected);
    let state = record::State::after(None, record).unwrap();
    let mut value = serde_json::to_value(&state).unwrap();
    let fields = value.as_object_mut().unwrap();
    assert!(["base", "leaving", "leaving_unused"].iter().all(|field| fields.remove(*field).is_some()));
    assert_eq!(serde_json::from_value::<record::State>(value).unwrap(), state);
}
