//! Which operations a profile has in which direction. What a state allows comes first; this takes away what the platform can't do.
//!
//! Azure's own limits, which `vmware`, `hyperv` and `physical` keep: no test and no unplanned failover on the way home, a failover to the
//! recovery site can't be given up once it runs, and a comparison is only for who needs one.

use super::Profile;
use crate::{Direction, ItemState, MainState, Operation, Rest, Resync};

/// Whether machines of that profile have the operation, as the item stands.
pub(crate) fn has(profile: Profile, operation: Operation, item: &ItemState) -> bool {
    match operation {
        Operation::PlannedFailover => planned_forward(profile),
        Operation::Failover | Operation::TestFailover => profile == Profile::Kvm || item.direction == Direction::Forward,
        Operation::Undo => profile == Profile::Kvm || item.direction == Direction::Reverse,
        Operation::Failback => !unreplicated(item) || full_failback(profile),
        Operation::Resync => profile == Profile::Kvm || item.resync == Resync::Needed,
        Operation::ChangePolicy => policy_can_change(profile, item.direction),
        Operation::Cancel => profile == Profile::Kvm,
        Operation::Protect
        | Operation::CleanTestFailover
        | Operation::ChangePoint
        | Operation::Commit
        | Operation::Hold
        | Operation::Release
        | Operation::Reprotect
        | Operation::Unprotect
        | Operation::Resolve
        | Operation::Forget => true,
    }
}

/// Whether a failover to the recovery site can be planned. Under VMware replication goes on without a last consistent step, and physical
/// servers follow it; their way home is always planned.
fn planned_forward(profile: Profile) -> bool {
    matches!(profile, Profile::Kvm | Profile::Hyperv)
}

/// Whether a machine that was not replicated back can be copied home while it is off.
fn full_failback(profile: Profile) -> bool {
    matches!(profile, Profile::Kvm | Profile::Hyperv)
}

/// The policy of the way home was made with the forward one, and nobody edits it.
fn policy_can_change(profile: Profile, direction: Direction) -> bool {
    match direction {
        Direction::Forward => true,
        Direction::Reverse => super::failback::policy(profile).is_none_or(|policy| policy.editable),
    }
}

fn unreplicated(item: &ItemState) -> bool {
    matches!(item.main, MainState::Committed | MainState::Failed { before: Some(Rest::Committed), .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Side, allowed_operations};

    fn protected(direction: Direction) -> ItemState {
        let active = if direction == Direction::Forward { Side::Primary } else { Side::Recovery };
        ItemState { main: MainState::Protected, active, direction, ..ItemState::new() }
    }

    fn with(operation: Operation, item: &ItemState) -> Vec<Profile> {
        Profile::ALL.into_iter().filter(|profile| allowed_operations(item, *profile).contains(&operation)).collect()
    }

    #[test]
    fn rule_20_a_planned_failover_forward_is_for_hyperv_and_for_kvm() {
        assert_eq!(with(Operation::PlannedFailover, &protected(Direction::Forward)), [Profile::Kvm, Profile::Hyperv]);
    }

    #[test]
    fn decision_f_vmware_and_physical_servers_are_planned_on_the_way_home_alone() {
        let home = protected(Direction::Reverse);
        assert_eq!(with(Operation::Failback, &home), Profile::ALL);
        for profile in [Profile::Vmware, Profile::Physical] {
            assert!(!with(Operation::PlannedFailover, &protected(Direction::Forward)).contains(&profile));
        }
        assert_eq!(with(Operation::PlannedFailover, &home), []);
    }

    #[test]
    fn rule_22_an_unplanned_failover_is_there_under_each_profile() {
        assert_eq!(with(Operation::Failover, &protected(Direction::Forward)), Profile::ALL);
    }

    #[test]
    fn rule_42_the_policy_of_the_way_home_is_changed_only_where_it_can_be() {
        assert_eq!(with(Operation::ChangePolicy, &protected(Direction::Forward)), Profile::ALL);
        assert_eq!(with(Operation::ChangePolicy, &protected(Direction::Reverse)), [Profile::Kvm, Profile::Hyperv]);
    }
}
