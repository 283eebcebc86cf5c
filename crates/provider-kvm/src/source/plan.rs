//! How a point is made on what the target has.
//!
//! ```text
//!   newest point, its mark is here   ─▶ delta        what was changed since
//!   newest point, mark is not here   ─▶ compare      everything, by digests
//!   old disks, all changes are known ─▶ return       what either side may have changed, by digests
//!   old disks, any doubt             ─▶ compare
//!   a first copy was begun           ─▶ resume       everything, by digests
//!   nothing                          ─▶ full
//! ```
//!
//! Invariant: a way that sends less than everything is taken only if all that may differ is known. On the way home these are
//! three sets: the kept map says what differed at the commit, the failover's checkpoint what this side has written since, and
//! the old disks what the other side wrote after the very state that the map is relative to.

use provider::{Phase, ProviderError, Replicate};
use recovery::{Generation, ItemName};

use crate::{
    blocks::Blocks,
    extent_map::StoredMap,
    machines::checkpoint_name,
    stream::{Mode, Welcome},
};

/// Where the maps are that commits at this site have kept.
pub(crate) trait KeptMaps: Send + Sync {
    /// The map of a generation, if there is one and it is whole.
    fn kept_map(&self, item: &ItemName, generation: Generation) -> Result<Option<StoredMap>, ProviderError>;
}

/// What is known about the difference to the target's old disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WayHome {
    /// Counts here since the recovered machine's first instruction.
    pub(super) since: String,
    /// Of the state that both sides had.
    pub(super) mark: String,
    pub(super) map: Blocks,
}

impl WayHome {
    /// What the loop may rely on, if it is on the way home and the target has the disks for it.
    pub(super) fn of(maps: &dyn KeptMaps, wanted: &Replicate, welcome: &Welcome) -> Result<Option<Self>, ProviderError> {
        let (Some(generation), Some(old_marks), None) = (wanted.returning, &welcome.old_marks, &welcome.newest) else { return Ok(None) };
        let Some(StoredMap { mark: Some(mark), disks, .. }) = maps.kept_map(&wanted.item, generation)? else { return Ok(None) };
        Ok(old_marks.contains(&mark).then(|| Self { since: checkpoint_name(generation), mark, map: disks }))
    }
}

/// How a point is made.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) mode: Mode,
    /// From it on changes are counted here: the mark of the target's newest point, or the failover's checkpoint.
    pub(super) since: Option<String>,
    /// With [`Mode::Return`] only.
    pub(super) home: Option<WayHome>,
}

impl Plan {
    /// `known` says whether changes since a mark are known here.
    pub(super) fn new(welcome: &Welcome, home: Option<WayHome>, known: impl Fn(&str) -> bool) -> Self {
        let of = |mode| Self { mode, since: None, home: None };
        match (&welcome.newest, home.filter(|home| known(&home.since))) {
            (Some((_, mark)), _) if known(mark) => Self { since: Some(mark.clone()), ..of(Mode::Delta) },
            (Some(_), _) => of(Mode::Compare),
            (None, Some(home)) if welcome.old_marks.is_some() => Self { since: Some(home.since.clone()), home: Some(home), mode: Mode::Return },
            (None, _) if welcome.old_marks.is_some() => of(Mode::Compare),
            (None, _) if welcome.seed => of(Mode::Resume),
            (None, _) => of(Mode::Full),
        }
    }

    /// When what was thought to be known is not.
    pub(super) fn compare() -> Self {
        Self { mode: Mode::Compare, since: None, home: None }
    }

    /// The same, but for what would be sent because it was counted: somebody wants both sides compared.
    pub(super) fn comparing(self, wanted: bool) -> Self {
        if wanted && matches!(self.mode, Mode::Delta | Mode::Return) { Self::compare() } else { self }
    }

    pub(super) fn phase(&self) -> Phase {
        match self.mode {
            Mode::Full | Mode::Resume | Mode::Return => Phase::Seeding,
            Mode::Compare => Phase::Resyncing,
            Mode::Delta => Phase::Replicating,
        }
    }
}

#[cfg(test)]
mod tests {
    use recovery::PointId;

    use super::*;

    fn welcome(newest: Option<&str>, seed: bool, old_marks: Option<&[&str]>) -> Welcome {
        Welcome {
            newest: newest.map(|mark| (PointId(1), mark.to_owned())),
            seed,
            old_marks: old_marks.map(|marks| marks.iter().map(|m| (*m).to_owned()).collect()),
        }
    }

    fn home() -> Option<WayHome> {
        Some(WayHome { since: "fo-e1-g2".into(), mark: "sb.m".into(), map: Blocks::new() })
    }

    #[test]
    fn less_than_everything_is_sent_only_if_all_that_may_differ_is_known() {
        let mode = |welcome: &Welcome, home, known: bool| Plan::new(welcome, home, |_| known).mode;
        let old: Option<&[&str]> = Some(&["sb.m"]);
        assert_eq!(mode(&welcome(Some("sb.n"), false, old), home(), true), Mode::Delta);
        assert_eq!(mode(&welcome(Some("sb.n"), false, old), home(), false), Mode::Compare);
        assert_eq!(mode(&welcome(None, false, old), home(), true), Mode::Return);
        assert_eq!(mode(&welcome(None, true, old), home(), true), Mode::Return);
        assert_eq!(mode(&welcome(None, true, old), home(), false), Mode::Compare);
        assert_eq!(mode(&welcome(None, false, old), None, true), Mode::Compare);
        assert_eq!(mode(&welcome(None, true, None), None, true), Mode::Resume);
        assert_eq!(mode(&welcome(None, false, None), home(), true), Mode::Full);
    }

    #[test]
    fn somebody_who_wants_a_comparison_gets_one_wherever_there_is_something_to_compare() {
        let old: Option<&[&str]> = Some(&["sb.m"]);
        let mode = |welcome: &Welcome| Plan::new(welcome, home(), |_| true).comparing(true).mode;
        assert_eq!(mode(&welcome(Some("sb.n"), false, None)), Mode::Compare);
        assert_eq!(mode(&welcome(None, false, old)), Mode::Compare);
        assert_eq!(mode(&welcome(None, false, None)), Mode::Full);
    }

    struct Maps(Option<StoredMap>);

    impl KeptMaps for Maps {
        fn kept_map(&self, _item: &ItemName, _generation: Generation) -> Result<Option<StoredMap>, ProviderError> {
            Ok(self.0.clone())
        }
    }

    #[test]
    fn a_map_that_is_relative_to_another_state_is_not_relied_on() -> Result<(), Box<dyn std::error::Error>> {
        let generation = Generation { era: 1, grant_epoch: 2 };
        let wanted = |returning| -> Result<Replicate, Box<dyn std::error::Error>> {
            Ok(Replicate {
                item: "vm".parse()?,
                machine: "vm".into(),
                generation,
                policy: recovery::ReplicationPolicy::default(),
                endpoint: provider::Endpoint { address: "x:1".into(), tls_name: "x".into() },
                returning,
                group: None,
            })
        };
        let map = |mark: Option<&str>| Maps(Some(StoredMap::new(generation, PointId(1), mark.map(str::to_owned), Blocks::new())));
        let old = welcome(None, false, Some(&["sb.m", "fo-e1-g1"]));
        assert!(WayHome::of(&map(Some("sb.m")), &wanted(Some(generation))?, &old)?.is_some());
        assert!(WayHome::of(&map(Some("sb.other")), &wanted(Some(generation))?, &old)?.is_none());
        assert!(WayHome::of(&map(None), &wanted(Some(generation))?, &old)?.is_none());
        assert!(WayHome::of(&Maps(None), &wanted(Some(generation))?, &old)?.is_none());
        assert!(WayHome::of(&map(Some("sb.m")), &wanted(None)?, &old)?.is_none());
        Ok(())
    }
}
