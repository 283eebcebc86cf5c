//! Change of a replication group: it is made, its members or numbers are changed, or it is removed.
//!
//!   who leaves (child: regroup) ─▶ who stays or joins, one after the other (children) ─▶ all know the same
//!        └──────────────── one of them can't ────────────────┴─▶ each that was changed gets back what it knew
//!
//! Invariants: 1. While members know different definitions there are no common moments; points of their own go on. 2. A change that
//! fails is put back. What can't be put back is said, with the item.

use std::{collections::BTreeSet, time::Duration};

use recovery::{Group, GroupName, ItemName, SiteName};
use sdk::{ChildError, ClosePolicy, Context, Failure, Workflow};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{Regroup, RegroupInput, Regrouped, item_workflow_id};

/// Waits for an item while another run has it: three minutes in all, longer than most steps and shorter than a seeding.
const WAITS_S: [u64; 7] = [1, 3, 6, 15, 30, 60, 65];

/// A group, before and after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangeGroupInput {
    /// Which.
    pub group: GroupName,
    /// As its members know it; none if it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Group>,
    /// As they are to know it; none if it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Group>,
    /// A member that has left by itself, since it was unprotected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<ItemName>,
}

/// A group as it is now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupChanged {
    /// Who is in it; nobody if it is removed.
    pub members: BTreeSet<ItemName>,
    /// Items whose source's site was not reached: it goes on with what it knew until their replication is started anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untold: Vec<(ItemName, SiteName)>,
}

/// The workflow.
pub struct ChangeGroup;

/// Workflow id of everything that is done to a group: one at a time.
#[must_use]
pub fn group_workflow_id(group: &GroupName) -> String {
    format!("group:{group}")
}

impl Workflow for ChangeGroup {
    const NAME: &'static str = "change-group";
    type Input = ChangeGroupInput;
    type Output = GroupChanged;

    async fn run(ctx: Context, input: ChangeGroupInput) -> Result<GroupChanged, Failure> {
        let members = |group: &Option<Group>| group.as_ref().map(|group| group.members().clone()).unwrap_or_default();
        let (before, after) = (members(&input.before), members(&input.after));
        let leavers = before.difference(&after).filter(|item| input.gone.as_ref() != Some(*item));
        let smaller = input.after.is_none() || input.gone.is_some();
        let mut steps: Vec<RegroupInput> = leavers.map(|item| told(item, &input.group, None)).collect();
        steps.extend(after.iter().map(|item| RegroupInput { anyway: smaller, ..told(item, &input.group, input.after.clone()) }));
        let (mut done, mut untold) = (vec![], vec![]);
        for step in &steps {
            match regrouped(&ctx, step).await {
                Ok(Regrouped { untold: site }) => {
                    untold.extend(site.map(|site| (step.item.clone(), site)));
                    done.push(step.item.clone());
                }
                Err(why) => return Err(put_back(&ctx, &input, &before, &done, &step.item, why).await),
            }
        }
        Ok(GroupChanged { members: after, untold })
    }
}

fn told(item: &ItemName, name: &GroupName, group: Option<Group>) -> RegroupInput {
    RegroupInput { item: item.clone(), name: name.clone(), anyway: group.is_none(), group }
}

/// Changes one item, after whoever has it now.
async fn regrouped(ctx: &Context, step: &RegroupInput) -> Result<Regrouped, Failure> {
    let mut waits = WAITS_S.into_iter().map(Duration::from_secs);
    loop {
        match ctx.child::<Regroup>(item_workflow_id(&step.item), step, ClosePolicy::Cancel).await {
            Ok(child) => return child.ended().await.map_err(Failure::from),
            Err(why @ ChildError::AlreadyOpen(_)) => match waits.next() {
                Some(wait) => ctx.sleep(wait).await?,
                None => return Err(why.into()),
            },
            Err(why) => return Err(why.into()),
        }
    }
}

/// Gives each item that was changed what it knew, the last one first. The failure says where that was in vain.
async fn put_back(ctx: &Context, input: &ChangeGroupInput, before: &BTreeSet<ItemName>, done: &[ItemName], at: &ItemName, why: Failure) -> Failure {
    let ctx = ctx.shielded();
    let mut left = vec![];
    for item in done.iter().rev() {
        let earlier = input.before.clone().filter(|_| before.contains(item));
        if let Err(why) = regrouped(&ctx, &told(item, &input.group, earlier)).await {
            left.push(format!("{item}: {}", why.message));
        }
    }
    let message = format!("{at}: {}", why.message);
    if left.is_empty() {
        return Failure { message: format!("{message}; all items are as before"), retryable: false, ..why };
    }
    let left = left.join("; ");
    Failure {
        message: format!("{message}; not put back: {left}. There are no common moments until the group is changed or removed"),
        detail: json!({ "left_behind": left }),
        retryable: false,
        ..why
    }
}
