//! The same to all machines, as many at once as the plan allows: one that fails stops the plan, and holds nobody who was begun.

use recovery::{
    ItemRecord,
    plan::{Member, StepKind, StepRun, Work},
};
use sdk::{Failure, Workflow, join::join_all};

use super::{Conducted, all_or_stop};
use crate::{
    CleanTestFailover, CleanTestInput, Commit, CommitInput, Reprotect, ReprotectInput, Undo, UndoInput,
    plan::{Stop, member::Went, way},
};

impl Conducted {
    pub(super) async fn operated(&self) -> Result<(), Stop> {
        let each = self.input.group.items.iter().map(async |member| {
            let key = self.key(member, StepKind::Operate);
            self.kept().step(&key, self.policy(member), async |step| self.operate(member, step).await).await.map(drop)
        });
        all_or_stop(join_all(each, self.input.parallel).await)
    }

    async fn operate(&self, member: &Member, step: &mut StepRun) -> Result<Went<()>, Failure> {
        let record = match self.to_be_done(member).await? {
            Ok(record) => record,
            Err(why) => return Ok(Went::Nothing(why)),
        };
        if let Some(why) = self.came_later(&record) {
            return Ok(Went::Nothing(why));
        }
        let item = member.item.clone();
        match self.input.work {
            Work::Commit => self.whole::<Commit>(member, step, &CommitInput { item }).await?,
            Work::Undo => self.whole::<Undo>(member, step, &UndoInput { item }).await?,
            Work::Reprotect => self.whole::<Reprotect>(member, step, &ReprotectInput { item, location: self.input.options.location }).await?,
            Work::CleanTest => self.whole::<CleanTestFailover>(member, step, &CleanTestInput { item }).await?,
            moves @ (Work::Test | Work::Planned | Work::Unplanned | Work::Failback) => {
                return Err(Failure::fatal("invalid-work", format!("{moves} is done step by step")));
            }
        }
        Ok(Went::Done((), String::new()))
    }

    /// Why this is not about the failover that the machine is in now; nothing if it is, or if a person wants it.
    fn came_later(&self, record: &ItemRecord) -> Option<String> {
        let (until, at) = (self.input.options.failed_over_until?, record.requested.as_ref()?.at);
        (at > until).then(|| format!("it was failed over again, at {}: this is about the failover before", at.format("%Y-%m-%d %H:%M:%SZ")))
    }

    /// An operation of the item, from its beginning to its end.
    async fn whole<W: Workflow>(&self, member: &Member, step: &mut StepRun, input: &W::Input) -> Result<(), Failure>
    where
        W::Input: serde::Serialize,
        W::Output: serde::de::DeserializeOwned,
    {
        let child = way::begun::<W>(&self.ctx, &member.item, input, None).await?;
        step.run = Some(child.run().to_string());
        child.ended().await?;
        Ok(())
    }
}
