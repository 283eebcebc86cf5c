//! Which build may carry on which run.

use sdk::Lease;

use super::State;
use crate::StoreError;

impl State {
    pub(super) fn declare_build(&mut self, lease: Lease, build: &str) -> Result<(), StoreError> {
        self.fence(lease)?;
        if !self.builds.contains_key(build) {
            self.prefer_build(build);
        }
        self.builds_of.insert(lease, build.to_owned());
        Ok(())
    }

    /// Makes it the newest.
    pub(super) fn prefer_build(&mut self, build: &str) {
        let newest = self.newest_build() + 1;
        self.builds.insert(build.to_owned(), newest);
    }

    /// A run that nobody has claimed yet is the newest's.
    pub(super) fn may_carry_on(&self, ours: Option<&str>, last: Option<&str>) -> bool {
        let rank = |build: &str| self.builds.get(build).copied().unwrap_or(0);
        let ours = ours.map_or(0, rank);
        ours == self.newest_build() || last.is_some_and(|last| ours >= rank(last))
    }

    fn newest_build(&self) -> u64 {
        self.builds.values().copied().max().unwrap_or(0)
    }
}
