//! Which test and which line stand for which rule of recovery; `tests/recovery_rules.md` is written from here.
//!
//! Invariants, kept by the tests below: 1. Every rule from 1 to 54 and every decision from a to f has a line that can be broken. 2. Every
//! test that is named exists, and so does every line, once outside of tests.

use std::{collections::BTreeMap, fmt::Write, fs};

use anyhow::{Context, Result, bail};

use crate::paths;

/// A rule, or a decision where the rules contradict each other.
struct Rule {
    id: &'static str,
    says: &'static str,
    /// Tests beside the one that notices a broken line.
    tests: &'static [&'static str],
}

/// A line that is broken.
#[derive(Debug)]
pub(super) struct Mutation {
    pub(super) rule: &'static str,
    /// Crate, modules, function.
    pub(super) test: &'static str,
    pub(super) file: &'static str,
    /// As it is, once in the file before its tests.
    pub(super) old: &'static str,
    /// What it is broken to; builds.
    pub(super) new: &'static str,
}

const fn rule(id: &'static str, says: &'static str, tests: &'static [&'static str]) -> Rule {
    Rule { id, says, tests }
}

const fn mutation(rule: &'static str, test: &'static str, file: &'static str, old: &'static str, new: &'static str) -> Mutation {
    Mutation { rule, test, file, old, new }
}

/// The file with that line broken.
pub(super) fn broken(content: &str, mutation: &Mutation) -> Result<String> {
    let Mutation { rule, file, old, new, .. } = mutation;
    let (code, tests) = content.split_at(content.find("#[cfg(test)]\nmod ").or_else(|| content.find("#[cfg(test)]\n#[expect")).unwrap_or(content.len()));
    match code.matches(old).count() {
        1 => Ok(code.replacen(old, new, 1) + tests),
        found => bail!("rule {rule}: {old:?} is {found} times in {file}, and should be there once; bring crates/xtask/src/rules/table.rs up to date"),
    }
}

/// Writes the table for people.
pub(super) fn write() -> Result<()> {
    let path = paths::root().join(DOCUMENT);
    fs::write(&path, text()?).with_context(|| format!("cannot write {}", path.display()))
}

const DOCUMENT: &str = "tests/recovery_rules.md";

fn text() -> Result<String> {
    let mut lines: BTreeMap<&str, Vec<&Mutation>> = BTreeMap::new();
    for mutation in &MUTATIONS {
        lines.entry(mutation.rule).or_default().push(mutation);
    }
    let mut text = HEAD.to_owned();
    for rule in &RULES {
        let of_rule = lines.get(rule.id).map(Vec::as_slice).unwrap_or_default();
        let mut tests: Vec<&str> = of_rule.iter().map(|mutation| mutation.test).chain(rule.tests.iter().copied()).collect();
        tests.dedup();
        let code: Vec<String> = of_rule.iter().map(|mutation| format!("`{}`: `{}`", mutation.file, shown(mutation.old))).collect();
        let tests: Vec<String> = tests.into_iter().map(|test| format!("`{test}`")).collect();
        writeln!(text, "| {} | {} | {} | {} |", rule.id, rule.says, tests.join("<br>"), code.join("<br>"))?;
    }
    Ok(text)
}

/// In one cell of a table.
fn shown(code: &str) -> String {
    code.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

const HEAD: &str = "# The rules of recovery, the tests that stand for them, and the code behind them

Written by `cargo xtask rules --table`; never by hand, and a test compares. The numbers are those of the requirements; a to f are decisions where
these contradict themselves. `cargo xtask rules --all` breaks each line that is named here and expects that the first tests of its row notice; ten of
them are broken in every `cargo xtask test`. Tests under `rules::` run on the simulated product.

| rule | says | tests | code |
|---|---|---|---|
";

const RULES: [Rule; 60] = [
    rule("1", "the life cycle has exactly four stages, a closed loop", &[]),
    rule("2", "stage 1 needs replication that goes on", &[]),
    rule("3", "the machine at home is off during reprotect", &["rules::rule_3_and_rule_34_the_machine_at_home_is_off_while_it_is_reprotected"]),
    rule("4", "stage 3 waits until the primary site is normal; to the original or another location", &[]),
    rule("5", "after failback it is replicated to the recovery site again", &[]),
    rule("6", "a failover has the phases failover and commit", &["rules::rule_6_a_failover_brings_the_machine_up_from_the_chosen_point_and_waits_for_its_commit"]),
    rule("7", "between them another point may be chosen", &["rules::rule_7_and_rule_8_another_point_is_chosen_before_the_commit_and_none_after_it"]),
    rule("8", "not after the commit", &["rules::rule_7_and_rule_8_another_point_is_chosen_before_the_commit_and_none_after_it"]),
    rule("9", "the commit deletes all points", &["rules::rule_7_and_rule_8_another_point_is_chosen_before_the_commit_and_none_after_it"]),
    rule("10", "another point within 24 h (Hyper-V), 72 h (VMware)", &["rules::rule_10_another_point_is_refused_when_the_window_of_the_profile_has_closed"]),
    rule("11", "the commit of a failback removes the machine from the recovery site", &["rules::rule_11_and_rule_38_the_commit_of_a_failback_removes_the_machine_from_the_recovery_site"]),
    rule("12", "Windows, before, over the internet", &["recovery::profile::connect::tests::what_nobody_has_looked_at_is_no_pass"]),
    rule("13", "Windows, before, through a VPN", &[]),
    rule("14", "Windows: SAN policy OnlineAll", &[]),
    rule("15", "Windows: no pending updates", &[]),
    rule("16", "Windows, after", &[]),
    rule("17", "Linux, before", &[]),
    rule("18", "Linux, after", &[]),
    rule("19", "test failover: no loss, no downtime, cleaned up", &["recovery::profile::guide::tests::rule_19_a_test_is_prepared_by_its_point_and_its_own_network_and_is_cleaned_up", "rules::rule_19_a_test_touches_neither_production_nor_replication"]),
    rule("20", "planned failover forward: Hyper-V only (and ours), fails closed", &["rules::rule_20_a_planned_failover_does_not_run_unless_its_source_goes_down_and_under_vmware_there_is_none"]),
    rule("21", "unplanned, Hyper-V: optional shutdown, goes on", &["recovery::profile::guide::tests::rule_21_and_rule_22_name_the_window_of_their_platform", "rules::rule_21_a_source_that_shuts_down_first_loses_nothing_and_one_that_does_not_stops_nobody"]),
    rule("22", "unplanned, VMware: the same, tools off for Windows", &["recovery::profile::operations::tests::rule_22_an_unplanned_failover_is_there_under_each_profile", "rules::rule_22_a_dead_source_holds_a_failover_that_wished_its_shutdown_for_a_bounded_time"]),
    rule("23", "physical servers go with VMware, always extra processing", &[]),
    rule("24", "what becomes of the source in each way to run", &[]),
    rule("25", "extra processing a to f, 8 to 10 minutes, in tests too", &["recovery::profile::extra::tests::rule_25_what_nobody_has_looked_at_may_take_the_longest_time_and_is_said"]),
    rule("26", "latest", &["rules::rule_26_latest_holds_what_was_written_until_the_source_was_asked"]),
    rule("27", "latest processed", &[]),
    rule("28", "latest app-consistent", &["rules::rule_28_and_rule_31_a_point_that_is_not_there_is_refused_and_nothing_has_changed"]),
    rule("29", "latest multi-VM processed", &["recovery::point::tests::a_group_is_recovered_at_the_last_moment_that_all_its_machines_have"]),
    rule("30", "latest multi-VM app-consistent", &["recovery::point::tests::a_group_is_recovered_at_the_last_moment_that_all_its_machines_have"]),
    rule("31", "custom", &["rules::rule_28_and_rule_31_a_point_that_is_not_there_is_refused_and_nothing_has_changed"]),
    rule("32", "points can not be moved to another store", &["rules::rule_32_points_stay_at_the_site_that_received_them"]),
    rule("33", "after a failover the machines are unprotected", &["rules::rule_33_an_item_is_not_protected_from_its_failover_until_it_is_replicated_again"]),
    rule("34", "reprotect, failover home, replicate again", &["rules::rule_3_and_rule_34_the_machine_at_home_is_off_while_it_is_reprotected"]),
    rule("35", "failback needs a point, a plan one of each machine", &["rules::rule_35_a_failback_without_a_point_is_refused_before_anything_is_touched"]),
    rule("36", "recommended: latest", &["rules::rule_36_a_failback_from_the_latest_point_loses_nothing"]),
    rule("37", "app-consistent failback: older, loss shown and confirmed", &["rules::rule_37_an_older_point_goes_home_only_if_somebody_agrees_to_the_loss_which_can_be_taken_back"]),
    rule("38", "failback shuts down, commit removes", &["rules::rule_11_and_rule_38_the_commit_of_a_failback_removes_the_machine_from_the_recovery_site"]),
    rule("39", "temporary process server", &[]),
    rule("40", "VPN or ExpressRoute", &[]),
    rule("41", "master target server", &[]),
    rule("42", "failback policy: automatic, not editable, its values", &[]),
    rule("43", "original location: changes only", &[]),
    rule("44", "another location: made by reprotect, full replication", &[]),
    rule("45", "Hyper-V: storage account only", &[]),
    rule("46", "Hyper-V: hosts connected", &[]),
    rule("47", "Hyper-V: failback is a planned failover", &[]),
    rule("48", "Hyper-V: no special components", &[]),
    rule("49", "synchronize before the failover", &[]),
    rule("50", "synchronize during the failover only; recommended after a month", &[]),
    rule("51", "original location: either", &[]),
    rule("52", "another location: before is recommended", &[]),
    rule("53", "reverse replicate closes the loop", &[]),
    rule("54", "single machine, plan, replication group", &[]),
    rule("a", "drill machines: clean-up by a call, by the drill, or after a time", &["rules::decision_a_a_copy_that_nobody_removes_goes_when_its_time_is_over", "rules::decision_a_a_copy_stays_two_weeks_if_nothing_else_is_said", "rules::decision_a_a_copy_is_cleaned_whatever_has_become_of_its_item_since_and_nothing_else_goes_with_it"]),
    rule("b", "deleted machine: copied before the failover, overridable", &[]),
    rule("c", "requested and effective point are separate facts", &["rules::decision_c_what_was_asked_for_what_is_looked_for_and_what_was_taken_are_three_facts"]),
    rule("d", "numbering without the gap", &[]),
    rule("e", "hold before commit", &["rules::decision_e_a_held_point_keeps_the_commit_until_it_is_released", "rules::decision_e_a_held_point_outlives_the_retention"]),
    rule("f", "no planned failover forward for VMware", &[]),
];

pub(super) const MUTATIONS: [Mutation; 71] = [
    mutation("1", "recovery::profile::stages::tests::rule_1_there_are_four_stages_and_the_fourth_ends_where_the_first_begins", "crates/recovery/src/profile/stages.rs", "Stage::ReprotectHome => Stage::Failover,", "Stage::ReprotectHome => Stage::ReprotectAway,"),
    mutation("2", "recovery::profile::stages::tests::rule_2_a_failover_needs_replication_that_goes_on", "crates/recovery/src/profile/stages.rs", "Stage::Failover => &[Requires::Replicated],", "Stage::Failover => &[],"),
    mutation("3", "recovery::profile::stages::tests::rule_3_while_it_is_reprotected_the_machine_at_home_is_off", "crates/recovery/src/profile/stages.rs", "&[Requires::Committed, Requires::OldMachineOff],", "&[Requires::Committed],"),
    mutation("4", "recovery::profile::stages::tests::rule_4_a_failback_waits_until_the_primary_site_is_normal", "crates/recovery/src/profile/stages.rs", "Stage::Failback => &[Requires::Replicated, Requires::PrimarySiteNormal],", "Stage::Failback => &[Requires::Replicated],"),
    mutation("5", "recovery::profile::stages::tests::rule_5_after_the_failback_it_is_replicated_to_the_recovery_site_again", "crates/recovery/src/profile/stages.rs", "Stage::Failback => Stage::ReprotectHome,", "Stage::Failback => Stage::Failover,"),
    mutation("6", "recovery::state::tests::rule_6_a_failover_has_two_phases_and_the_commit_is_the_second", "crates/recovery/src/state.rs", "                Some(MainState::CommitPending)\n", "                Some(MainState::Committed)\n"),
    mutation("7", "recovery::state::tests::rule_7_between_the_phases_the_point_is_committed_or_another_one_is_chosen_as_often_as_one_likes", "crates/recovery/src/state.rs", "(S::CommitPending, Operation::ChangePoint | Operation::Commit | Operation::Undo)", "(S::CommitPending, Operation::Commit | Operation::Undo)"),
    mutation("8", "recovery::profile::deletes::tests::rule_8_after_the_commit_the_point_can_not_be_changed_any_more", "crates/recovery/src/state.rs", "| (S::Committed, Operation::Reprotect)", "| (S::Committed, Operation::Reprotect | Operation::ChangePoint)"),
    mutation("9", "recovery::profile::deletes::tests::rule_9_a_commit_deletes_all_points", "crates/recovery/src/profile/deletes.rs", "Mode::Planned | Mode::Unplanned => Some(Deleted { points: true,", "Mode::Planned | Mode::Unplanned => Some(Deleted { points: false,"),
    mutation("10", "recovery::profile::tests::rule_10_another_point_may_be_chosen_for_24_hours_under_hyperv_and_for_72_elsewhere", "crates/recovery/src/profile.rs", "Profile::Hyperv => TimeDelta::hours(24),", "Profile::Hyperv => TimeDelta::hours(72),"),
    mutation("11", "recovery::profile::deletes::tests::rule_11_the_commit_of_a_failback_removes_the_machine_from_the_recovery_site", "crates/recovery/src/profile/deletes.rs", "Mode::Failback => Some(Deleted { points: true, machine_at_recovery: true }),", "Mode::Failback => Some(Deleted { points: true, machine_at_recovery: false }),"),
    mutation("12", "recovery::profile::connect::tests::rule_12_windows_over_the_internet_needs_rdp_in_the_public_profile_and_in_all_profiles", "crates/recovery/src/profile/connect.rs", "Access::Internet => vec![Fact::RdpEnabled, Fact::RdpRulesForPublic, Fact::RdpAllowedForAllProfiles],", "Access::Internet => vec![Fact::RdpEnabled, Fact::RdpAllowedForAllProfiles],"),
    mutation("13", "recovery::profile::connect::tests::rule_13_windows_through_a_vpn_needs_rdp_in_domain_and_private_networks", "crates/recovery/src/profile/connect.rs", "Access::Vpn => vec![Fact::RdpEnabled, Fact::RdpAllowedForDomainAndPrivate],", "Access::Vpn => vec![Fact::RdpEnabled],"),
    mutation("14", "recovery::profile::connect::tests::rule_14_windows_brings_all_its_disks_online", "crates/recovery/src/profile/connect.rs", "vec![Fact::SanPolicyOnlineAll, Fact::NoPendingUpdates]", "vec![Fact::NoPendingUpdates]"),
    mutation("15", "recovery::profile::connect::tests::rule_15_windows_has_no_pending_update_when_a_failover_is_triggered", "crates/recovery/src/profile/connect.rs", "vec![Fact::SanPolicyOnlineAll, Fact::NoPendingUpdates]", "vec![Fact::SanPolicyOnlineAll]"),
    mutation("16", "recovery::profile::connect::tests::rule_16_windows_at_the_target_is_reached_by_a_public_address_through_both_sets_of_rules_and_is_looked_at", "crates/recovery/src/profile/connect.rs", "vec![Fact::PublicAddress, Fact::MachineRulesAllowRdp, Fact::SubnetRulesAllowRdp, Fact::BootScreenshot]", "vec![Fact::PublicAddress, Fact::MachineRulesAllowRdp, Fact::BootScreenshot]"),
    mutation("17", "recovery::profile::connect::tests::rule_17_linux_starts_ssh_at_boot_and_lets_it_through", "crates/recovery/src/profile/connect.rs", "vec![Fact::SshStartsAtBoot, Fact::FirewallAllowsSsh]", "vec![Fact::FirewallAllowsSsh]"),
    mutation("18", "recovery::profile::connect::tests::rule_18_linux_at_the_target_is_reached_by_ssh_through_both_sets_of_rules_and_is_looked_at", "crates/recovery/src/profile/connect.rs", "vec![Fact::MachineRulesAllowSsh, Fact::SubnetRulesAllowSsh, Fact::PublicAddress, Fact::BootScreenshot]", "vec![Fact::SubnetRulesAllowSsh, Fact::PublicAddress, Fact::BootScreenshot]"),
    mutation("19", "recovery::profile::shutdown::tests::rule_19_a_test_never_touches_its_source", "crates/recovery/src/profile/shutdown.rs", "Mode::Test => Source::Untouched,", "Mode::Test => Source::MustShutDown,"),
    mutation("20", "recovery::profile::shutdown::tests::rule_20_a_planned_failover_does_not_run_unless_its_source_has_shut_down_and_sent_the_rest", "crates/recovery/src/profile/shutdown.rs", "Source::MustShutDown => outcome == Outcome::ShutDownAndSent,", "Source::MustShutDown => outcome != Outcome::Failed,"),
    mutation("20", "recovery::profile::operations::tests::rule_20_a_planned_failover_forward_is_for_hyperv_and_for_kvm", "crates/recovery/src/profile/operations.rs", "fn planned_forward(profile: Profile) -> bool {\n    matches!(profile, Profile::Kvm | Profile::Hyperv)", "fn planned_forward(profile: Profile) -> bool {\n    matches!(profile, Profile::Kvm)"),
    mutation("21", "recovery::profile::shutdown::tests::rule_21_an_unplanned_failover_goes_on_though_its_source_can_not_be_shut_down", "crates/recovery/src/profile/shutdown.rs", "Source::Untouched | Source::MayBeAsked => true,", "Source::Untouched => true,\n        Source::MayBeAsked => outcome != Outcome::Failed,"),
    mutation("22", "recovery::profile::extra::tests::rule_22_the_tools_of_windows_machines_under_vmware_are_off_during_a_failover", "crates/recovery/src/profile/extra.rs", "profile == Profile::Vmware && mode == Mode::Unplanned && os == Os::Windows", "profile == Profile::Vmware && mode == Mode::Unplanned && os == Os::Linux"),
    mutation("23", "recovery::profile::extra::tests::rule_23_a_physical_server_always_needs_extra_processing", "crates/recovery/src/profile/extra.rs", "Profile::Physical => vec![Reason::PhysicalServer],", "Profile::Physical => vec![],"),
    mutation("24", "recovery::profile::shutdown::tests::rule_24_the_source_in_each_way_to_run", "crates/recovery/src/profile/shutdown.rs", "Mode::Unplanned => Source::MayBeAsked,", "Mode::Unplanned => Source::MustShutDown,"),
    mutation("25", "recovery::profile::extra::tests::rule_25_each_reason_for_extra_processing_is_seen", "crates/recovery/src/profile/extra.rs", "Some(version) if version < MOBILITY_SERVICE =>", "Some(version) if version > MOBILITY_SERVICE =>"),
    mutation("25", "recovery::profile::extra::tests::rule_25_each_reason_for_extra_processing_is_seen", "crates/recovery/src/profile/extra.rs", "Some(Os::Linux) => reasons.push(Reason::LinuxUnderVmware),", "Some(Os::Linux) => {}"),
    mutation("25", "recovery::profile::extra::tests::rule_25_each_reason_for_extra_processing_is_seen", "crates/recovery/src/profile/extra.rs", "Profile::Hyperv if guest.as_physical => vec![Reason::ProtectedAsPhysical],", "Profile::Hyperv if guest.as_physical => vec![],"),
    mutation("25", "recovery::profile::extra::tests::rule_25_each_reason_for_extra_processing_is_seen", "crates/recovery/src/profile/extra.rs", "Some(false) => reasons.push(Reason::NoDhcp),", "Some(false) => {}"),
    mutation("25", "recovery::profile::extra::tests::rule_25_each_reason_for_extra_processing_is_seen", "crates/recovery/src/profile/extra.rs", "[\"storvsc\", \"vmbus\", \"storflt\", \"intelide\", \"atapi\"]", "[\"storvsc\", \"vmbus\", \"storflt\", \"intelide\", \"intelide\"]"),
    mutation("25", "recovery::profile::extra::tests::rule_25_the_extra_step_takes_eight_to_ten_minutes_in_a_test_as_well", "crates/recovery/src/profile/extra.rs", "pub const LONGEST: Span = Span::seconds(10 * 60);", "pub const LONGEST: Span = Span::seconds(20 * 60);"),
    mutation("26", "recovery::profile::choices::tests::rule_26_latest_processes_all_that_was_sent_into_a_point_of_each_machine", "crates/recovery/src/profile/choices.rs", "(PointChoice::Latest, _) => Some(Means::OneMoreOfEach),", "(PointChoice::Latest, _) => Some(Means::OwnLatest),"),
    mutation("27", "recovery::profile::choices::tests::rule_27_latest_processed_is_the_last_point_of_each_machine", "crates/recovery/src/profile/choices.rs", "(PointChoice::LatestProcessed, _) => Some(Means::OwnLatest),", "(PointChoice::LatestProcessed, _) => Some(Means::OwnLatestApp),"),
    mutation("28", "recovery::profile::choices::tests::rule_28_latest_app_consistent_is_offered_only_where_such_points_are_taken", "crates/recovery/src/profile/choices.rs", "means(choice, Scope::Item).is_some() && (app_consistent || !wants_app)", "means(choice, Scope::Item).is_some() && (app_consistent || wants_app)"),
    mutation("29", "recovery::profile::choices::tests::rule_29_latest_multi_vm_processed_is_the_last_common_point_of_a_group_and_the_own_one_of_others", "crates/recovery/src/profile/choices.rs", "(PointChoice::LatestMultiVmProcessed, Scope::InGroup) => Some(Means::Common),", "(PointChoice::LatestMultiVmProcessed, Scope::InGroup) => Some(Means::OwnLatest),"),
    mutation("30", "recovery::profile::choices::tests::rule_30_latest_multi_vm_app_consistent_is_the_last_common_quiet_point_of_a_group_and_the_own_quiet_one_of_others", "crates/recovery/src/profile/choices.rs", "(PointChoice::LatestMultiVmAppConsistent, Scope::InPlan) => Some(Means::OwnLatestApp),", "(PointChoice::LatestMultiVmAppConsistent, Scope::InPlan) => Some(Means::OwnLatest),"),
    mutation("31", "recovery::profile::choices::tests::rule_31_a_point_by_its_number_is_for_one_machine_and_never_for_a_plan", "crates/recovery/src/profile/choices.rs", "(PointChoice::Exact(_), Scope::InPlan | Scope::InGroup) => None,", "(PointChoice::Exact(_), Scope::InPlan | Scope::InGroup) => Some(Means::ThatOne),"),
    mutation("32", "recovery::fact::tests::rule_32_points_are_not_moved_an_item_keeps_its_sites_as_long_as_it_has_any", "crates/recovery/src/fact.rs", "    if !unused {", "    if !unused && name.as_str().is_empty() {"),
    mutation("33", "recovery::profile::stages::tests::rule_33_after_a_failover_nothing_is_protected_until_it_is_replicated_again", "crates/recovery/src/profile/stages.rs", "matches!(item.main, MainState::Protected |", "matches!(item.main, MainState::Protected | MainState::CommitPending |"),
    mutation("34", "recovery::profile::stages::tests::rule_34_reprotection_failback_and_replication_follow_each_other_in_this_order", "crates/recovery/src/profile/operations.rs", "fn full_failback(profile: Profile) -> bool {\n    matches!(profile, Profile::Kvm | Profile::Hyperv)", "fn full_failback(profile: Profile) -> bool {\n    profile != Profile::Physical"),
    mutation("35", "recovery::profile::failback::tests::rule_35_nothing_goes_home_without_a_point_and_a_plan_only_if_all_its_machines_have_one", "crates/recovery/src/profile/failback.rs", "member.points.iter().all(|point| point.withdrawn)", "member.points.iter().any(|point| point.withdrawn)"),
    mutation("36", "recovery::profile::failback::tests::rule_36_the_latest_point_is_recommended_and_loses_nothing", "crates/recovery/src/profile/failback.rs", "pub const RECOMMENDED: PointChoice = PointChoice::Latest;", "pub const RECOMMENDED: PointChoice = PointChoice::LatestAppConsistent;"),
    mutation("37", "recovery::profile::failback::tests::rule_37_each_replication_group_of_a_plan_goes_home_from_the_quiet_point_that_it_has_in_common", "crates/recovery/src/profile/failback.rs", "if grouped { PointChoice::LatestMultiVmAppConsistent }", "if grouped { PointChoice::LatestAppConsistent }"),
    mutation("37", "recovery::profile::failback::tests::rule_37_an_app_consistent_point_loses_what_came_after_it_and_says_how_much", "crates/recovery/src/profile/failback.rs", "written_for: now - taken_at", "written_for: taken_at - taken_at"),
    mutation("38", "recovery::profile::shutdown::tests::rule_38_a_failback_shuts_the_machine_down_that_goes_home", "crates/recovery/src/profile/shutdown.rs", "Mode::Planned | Mode::Failback => Source::MustShutDown,", "Mode::Planned => Source::MustShutDown,\n        Mode::Failback => Source::Untouched,"),
    mutation("39", "recovery::profile::failback::tests::rule_39_a_temporary_process_server_is_needed_under_vmware_and_for_physical_servers", "crates/recovery/src/profile/failback.rs", "vec![Needs::ProcessServer, Needs::PrivateLine, master_target, Needs::Policy]", "vec![Needs::PrivateLine, master_target, Needs::Policy]"),
    mutation("40", "recovery::profile::failback::tests::rule_40_a_private_line_is_needed_under_vmware_and_for_physical_servers", "crates/recovery/src/profile/failback.rs", "vec![Needs::ProcessServer, Needs::PrivateLine, master_target, Needs::Policy]", "vec![Needs::ProcessServer, master_target, Needs::Policy]"),
    mutation("41", "recovery::profile::failback::tests::rule_41_large_volumes_need_a_master_target_of_their_own", "crates/recovery/src/profile/failback.rs", "if large_volumes { Needs::OwnMasterTarget }", "if large_volumes { Needs::MasterTarget }"),
    mutation("42", "recovery::profile::failback::tests::rule_42_the_failback_policy_has_its_values_and_nobody_edits_it", "crates/recovery/src/profile/failback.rs", "Span::seconds(15 * 60)", "Span::seconds(30 * 60)"),
    mutation("42", "recovery::profile::operations::tests::rule_42_the_policy_of_the_way_home_is_changed_only_where_it_can_be", "crates/recovery/src/profile/failback.rs", "            editable: false,", "            editable: true,"),
    mutation("43", "recovery::profile::sync::tests::rule_43_to_the_original_location_only_changes_are_sent", "crates/recovery/src/profile/sync.rs", "Location::Original => Sent::Changes,", "Location::Original => Sent::Everything,"),
    mutation("44", "recovery::profile::sync::tests::rule_44_where_the_machine_is_gone_reprotect_makes_it_and_everything_is_sent", "crates/recovery/src/profile/sync.rs", "if old_machine_exists { Location::Original } else { Location::Alternate }", "if old_machine_exists { Location::Original } else { Location::Original }"),
    mutation("45", "recovery::profile::failback::tests::rule_45_machines_under_hyperv_go_home_only_if_they_were_replicated_through_a_storage_account", "crates/recovery/src/profile/failback.rs", "Profile::Hyperv => vec![Needs::StorageAccount, Needs::HostsConnected],", "Profile::Hyperv => vec![Needs::HostsConnected],"),
    mutation("46", "recovery::profile::failback::tests::rule_46_hosts_under_hyperv_are_connected_and_what_nobody_has_looked_at_stands_in_the_way", "crates/recovery/src/profile/failback.rs", "Profile::Hyperv => vec![Needs::StorageAccount, Needs::HostsConnected],", "Profile::Hyperv => vec![Needs::StorageAccount],"),
    mutation("47", "recovery::profile::failback::tests::rule_47_the_way_home_is_a_planned_failover", "crates/recovery/src/profile/operations.rs", "profile == Profile::Kvm || item.direction == Direction::Forward,", "profile == Profile::Hyperv || item.direction == Direction::Forward,"),
    mutation("48", "recovery::profile::failback::tests::rule_48_hyperv_needs_no_special_components", "crates/recovery/src/profile/failback.rs", "Profile::Hyperv => vec![Needs::StorageAccount, Needs::HostsConnected],", "Profile::Hyperv => vec![Needs::StorageAccount, Needs::HostsConnected, Needs::ProcessServer],"),
    mutation("49", "recovery::profile::sync::tests::rule_49_before_the_failover_a_point_is_copied_while_the_machine_runs_and_then_the_last_changes", "crates/recovery/src/profile/sync.rs", "is copied to the primary site\", runs: true,", "is copied to the primary site\", runs: false,"),
    mutation("50", "recovery::profile::sync::tests::rule_50_it_is_recommended_from_a_month_away_on", "crates/recovery/src/profile/sync.rs", "away.ran_for >= MOST_HAS_CHANGED", "away.ran_for > MOST_HAS_CHANGED"),
    mutation("50", "recovery::profile::sync::tests::rule_50_during_the_failover_everything_is_copied_without_comparing", "crates/recovery/src/profile/sync.rs", "runs: false, compares: false }],", "runs: false, compares: true }],"),
    mutation("51", "recovery::profile::sync::tests::rule_51_to_the_original_location_either_way_can_be_chosen", "crates/recovery/src/profile/sync.rs", "Profile::Vmware | Profile::Physical => return None,", "Profile::Vmware | Profile::Physical => {}"),
    mutation("52", "recovery::profile::sync::tests::rule_52_to_another_location_copying_before_the_failover_is_recommended", "crates/recovery/src/profile/sync.rs", "match for_deleted.unwrap_or(Sync::BeforeFailover) {", "match for_deleted.unwrap_or(Sync::DuringFailover) {"),
    mutation("53", "recovery::profile::stages::tests::rule_53_replicating_the_other_way_round_closes_the_loop", "crates/recovery/src/fact.rs", "if step == (Step::Finish { operation: Operation::Commit }) {", "if step == (Step::Finish { operation: Operation::Commit }) && state.active == Side::Recovery {"),
    mutation("54", "recovery::profile::choices::tests::rule_54_failovers_commits_and_reprotection_are_for_machines_plans_and_groups", "crates/recovery/src/profile/choices.rs", "| Operation::Cancel => &[Object::Item, Object::Plan, Object::Group],", "| Operation::Cancel => &[Object::Item, Object::Plan],"),
    mutation("a", "recovery::item::tests::decision_a_a_copy_that_nobody_removes_goes_after_two_weeks_or_when_it_was_said", "crates/recovery/src/item.rs", "pub const STAYS: Span = Span::seconds(14 * 86_400);", "pub const STAYS: Span = Span::seconds(140 * 86_400);"),
    mutation("a", "recovery::item::tests::decision_a_a_copy_that_nobody_removes_goes_after_two_weeks_or_when_it_was_said", "crates/recovery/src/item.rs", "expires_at.is_some_and(|at| at <= now)", "expires_at.is_none_or(|at| at <= now)"),
    mutation("b", "recovery::profile::sync::tests::decision_b_for_a_deleted_machine_it_is_copied_before_unless_somebody_wants_it_otherwise", "crates/recovery/src/profile/sync.rs", "match for_deleted.unwrap_or(Sync::BeforeFailover) {", "match for_deleted.and(None).unwrap_or(Sync::BeforeFailover) {"),
    mutation("c", "recovery::profile::shutdown::tests::decision_c_what_is_looked_for_is_told_beside_what_was_asked_for_and_a_named_point_stays", "crates/recovery/src/profile/shutdown.rs", ") => (requested, \"as asked for\"),", ") => (PointChoice::LatestProcessed, \"as asked for\"),"),
    mutation("d", "recovery::profile::guide::tests::decision_d_the_steps_are_numbered_without_a_gap", "crates/recovery/src/profile/guide.rs", "(before + 1, says)", "(before + 1 + usize::from(before > 2), says)"),
    mutation("e", "recovery::operation::tests::decision_e_while_a_point_is_held_there_is_neither_commit_nor_unprotect", "crates/recovery/src/operation.rs", "matches!(operation, Operation::Commit | Operation::Unprotect)", "matches!(operation, Operation::Unprotect)"),
    mutation("e", "recovery::fact::tests::decision_e_a_commit_is_refused_with_the_name_of_who_holds_a_point", "crates/recovery/src/fact.rs", "Some(hold) if gives_points_up(operation) =>", "Some(hold) if !gives_points_up(operation) =>"),
    mutation("f", "recovery::profile::operations::tests::decision_f_vmware_and_physical_servers_are_planned_on_the_way_home_alone", "crates/recovery/src/profile/operations.rs", "fn planned_forward(profile: Profile) -> bool {\n    matches!(profile, Profile::Kvm | Profile::Hyperv)", "fn planned_forward(profile: Profile) -> bool {\n    profile != Profile::Physical"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> String {
        fs::read_to_string(paths::root().join(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
    }

    /// The file of a test: `recovery::…` in its module, all else a suite under `tests/`.
    fn file_of(test: &str) -> String {
        let parts: Vec<&str> = test.split("::").collect();
        match parts.as_slice() {
            ["recovery", modules @ .., "tests", _] => format!("crates/recovery/src/{}.rs", modules.join("/")),
            [suite, _] => format!("tests/{suite}.rs"),
            _ => panic!("{test} is no name of a test"),
        }
    }

    #[test]
    fn no_rule_is_missing_and_each_has_a_line_that_can_be_broken() {
        let ids: Vec<String> = (1..=54).map(|number| number.to_string()).chain(('a'..='f').map(String::from)).collect();
        assert_eq!(RULES.iter().map(|rule| rule.id).collect::<Vec<_>>(), ids);
        for id in &ids {
            assert!(MUTATIONS.iter().any(|mutation| mutation.rule == id), "rule {id} has no line");
        }
        assert!(MUTATIONS.iter().all(|mutation| ids.iter().any(|id| id == mutation.rule)));
    }

    #[test]
    fn every_line_is_found_once_and_what_breaks_it_differs() {
        for mutation in &MUTATIONS {
            let content = read(mutation.file);
            let broken = broken(&content, mutation).unwrap_or_else(|why| panic!("{why:#}"));
            assert_ne!(broken, content, "rule {}", mutation.rule);
        }
    }

    #[test]
    fn a_line_that_is_gone_is_a_failure() {
        let gone = mutation("1", "recovery::x::tests::y", "a.rs", "let it_was = 1;", "let it_is = 2;");
        let told = broken("fn a() {}\n#[cfg(test)]\nmod tests { let it_was = 1; }\n", &gone).expect_err("only a test has it").to_string();
        assert!(told.starts_with("rule 1: \"let it_was = 1;\" is 0 times in a.rs"), "{told}");
        assert!(broken("let it_was = 1; let it_was = 1;", &gone).is_err());
    }

    #[test]
    fn every_test_that_is_named_exists_and_bears_the_number_of_its_rule() {
        for (rule, test) in RULES.iter().flat_map(|rule| rule.tests.iter().map(|test| (rule.id, *test))).chain(MUTATIONS.iter().map(|m| (m.rule, m.test))) {
            let name = test.rsplit("::").next().unwrap_or_default();
            assert!(read(&file_of(test)).contains(&format!("#[test]\n    fn {name}()")) || read(&file_of(test)).contains(&format!("#[test]\nfn {name}()")), "{test}");
            let numbered = |kind: &str| name.contains(&format!("{kind}_{rule}_"));
            let beside = RULES.iter().any(|of| of.id == rule && of.tests.contains(&test));
            assert!(numbered("rule") || numbered("decision") || beside, "{test} should bear the number {rule}");
        }
    }

    #[test]
    fn the_document_is_what_the_table_says() {
        let text = text().unwrap_or_else(|why| panic!("{why:#}"));
        assert!(read(DOCUMENT) == text, "{DOCUMENT} is not what the table says; `cargo xtask rules --table` writes it");
    }
}
