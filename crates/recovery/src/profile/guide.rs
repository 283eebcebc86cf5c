//! What people do in each way to run, in order. The steps are numbered by their place, so that none is ever missing between two.

use super::Profile;
use crate::plan::Mode;

/// The steps, numbered from 1; none where the profile does not have that way to run.
#[must_use]
pub fn steps(profile: Profile, mode: Mode) -> Vec<(usize, String)> {
    let hours = profile.change_window().num_hours();
    let steps = match mode {
        Mode::Test => test(),
        Mode::Planned if matches!(profile, Profile::Kvm | Profile::Hyperv) => planned(),
        Mode::Planned => vec![],
        Mode::Unplanned => unplanned(hours),
        Mode::Failback => failback(),
    };
    steps.into_iter().enumerate().map(|(before, says)| (before + 1, says)).collect()
}

fn test() -> Vec<String> {
    let steps = [
        "choose one machine, or the machines of a plan",
        "choose a recovery point",
        "choose a network that is used for the test alone",
        "verify; all that the test made is cleaned up",
    ];
    steps.map(str::to_owned).into()
}

fn planned() -> Vec<String> {
    let steps = [
        "agree on a maintenance window and tell the users",
        "take the applications offline",
        "start the planned failover, with the latest point; it does not run if the machine does not shut down, or if anything fails",
        "see that the machine is active at the recovery site",
        "commit; all recovery points are deleted",
    ];
    steps.map(str::to_owned).into()
}

fn unplanned(hours: i64) -> Vec<String> {
    vec![
        "begin your plan for business continuity and disaster recovery".to_owned(),
        "start the failover, and say whether the machine is to be shut down and its last changes sent first; it goes on even if that fails".to_owned(),
        "choose a recovery point".to_owned(),
        format!("see that the machine is active at the recovery site; within {hours} hours another point may be chosen"),
        "commit; all recovery points are deleted".to_owned(),
    ]
}

fn failback() -> Vec<String> {
    let steps = [
        "see that the primary site is normal again",
        "start the failback; the machine at the recovery site is shut down and its last changes are sent",
        "see that the machine is active at the primary site",
        "commit; the machine is removed from the recovery site",
        "reprotect, so that it is replicated to the recovery site again",
    ];
    steps.map(str::to_owned).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_19_a_test_is_prepared_by_its_point_and_its_own_network_and_is_cleaned_up() {
        let steps = steps(Profile::Vmware, Mode::Test);
        assert_eq!(steps.len(), 4);
        assert!(steps[2].1.contains("for the test alone") && steps[3].1.contains("cleaned up"));
    }

    #[test]
    fn rule_21_and_rule_22_name_the_window_of_their_platform() {
        for (profile, hours) in [(Profile::Hyperv, "24 hours"), (Profile::Vmware, "72 hours")] {
            assert!(steps(profile, Mode::Unplanned)[3].1.contains(hours), "{profile}");
        }
    }

    #[test]
    fn decision_d_the_steps_are_numbered_without_a_gap() {
        for (profile, mode) in Profile::ALL.into_iter().flat_map(|profile| Mode::ALL.map(|mode| (profile, mode))) {
            let numbers: Vec<usize> = steps(profile, mode).into_iter().map(|(number, _)| number).collect();
            assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>(), "{profile} {mode}");
        }
        assert_eq!(steps(Profile::Vmware, Mode::Unplanned).len(), 5);
        assert_eq!(steps(Profile::Vmware, Mode::Planned), []);
    }
}
