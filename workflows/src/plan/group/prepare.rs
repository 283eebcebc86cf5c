//! Everybody up to the gate. Where points follow from those of all, nobody chooses before everybody's points stand still.

use std::{cell::RefCell, collections::BTreeMap};

use recovery::{
    ItemName, PointChoice,
    plan::{Member, Mode, StepKind, StepRun, StepState},
    profile::choices,
};
use sdk::{Failure, join::join_all};

use super::{Conducted, all_or_stop};
use crate::{
    plan::{
        Stop,
        member::Went,
        moving::{Moving, Wanted},
    },
    tracked::causes,
};

/// A machine whose points stand still.
struct Sealed<'a> {
    member: &'a Member,
    moving: Moving,
    step: StepRun,
    has: choices::Member,
}

impl Conducted {
    pub(super) async fn prepared(&self, mode: Mode) -> Result<(), Stop> {
        let members = self.input.group.in_order();
        if self.asks(mode) {
            return self.prepared_together(mode, &members).await;
        }
        let each = members.into_iter().map(async |member| {
            let key = self.key(member, StepKind::Prepare);
            self.kept().step(&key, self.policy(member), async |step| self.prepare(mode, member, step).await).await.map(drop)
        });
        all_or_stop(join_all(each, self.input.parallel).await)
    }

    /// Whether the points of machines follow from those of others. Home goes what was last, unless somebody asks for an older point.
    pub(super) fn asks(&self, mode: Mode) -> bool {
        self.input.point.is_of_many()
            && match mode {
                Mode::Test | Mode::Unplanned => true,
                Mode::Planned => false,
                Mode::Failback => self.input.options.point.is_some(),
            }
    }

    /// A machine's part in the work, which waits at the gate.
    pub(super) fn gated<'a>(&'a self, mode: Mode, member: &'a Member) -> Wanted<'a> {
        Wanted { plan: &self.input.plan, member, mode, choice: self.input.point, options: &self.input.options, gate: true, asks: self.asks(mode) }
    }

    async fn prepare(&self, mode: Mode, member: &Member, step: &mut StepRun) -> Result<Went<()>, Failure> {
        if let Err(why) = self.to_be_done(member).await? {
            return Ok(Went::Nothing(why));
        }
        let moving = self.gated(mode, member).begun(&self.ctx).await?;
        step.run = Some(moving.run().to_string());
        Ok(Went::Done((), self.up_to_the_gate(member, moving).await?))
    }

    async fn up_to_the_gate(&self, member: &Member, moving: Moving) -> Result<String, Failure> {
        let prepared = moving.prepared(&member.item).await?;
        self.prepared_from.borrow_mut().insert(member.item.clone(), prepared.point);
        self.waiting.borrow_mut().insert(member.item.clone(), moving);
        Ok(format!("ready to start from point {}", prepared.point))
    }

    async fn prepared_together(&self, mode: Mode, members: &[&Member]) -> Result<(), Stop> {
        let kept = self.kept();
        let all: RefCell<Vec<Sealed<'_>>> = RefCell::default();
        let each = members.iter().map(async |&member| {
            let step = self.book.begin(&self.key(member, StepKind::Prepare));
            let sealed = kept.tried(step, self.policy(member), async |step| self.seal(mode, member, step).await).await?;
            all.borrow_mut().extend(sealed.map(|(step, (moving, has), _)| Sealed { member, moving, step, has }));
            Ok(())
        });
        // All at once, whatever the limit: each waits for the others.
        let begun = all_or_stop(join_all(each, members.len()).await);
        let all = all.into_inner();
        let choices = match begun.and_then(|()| self.choices(&all).map_err(Stop::Failed)) {
            Ok(choices) => choices,
            Err(stop) => {
                self.never_chosen(all).await;
                return Err(stop);
            }
        };
        let each = all.into_iter().map(async |Sealed { member, moving, step, .. }| {
            let choice = choices.get(&member.item).copied().unwrap_or(PointChoice::LatestProcessed);
            let mut begun = Some(moving);
            let ready = kept.tried(step, self.policy(member), async |step| self.chosen(mode, member, begun.take(), choice, step).await);
            if let Some((step, (), said)) = ready.await? {
                self.book.end(step, StepState::Done, said);
            }
            Ok(())
        });
        all_or_stop(join_all(each, members.len()).await)
    }

    /// Up to where its points stand still.
    async fn seal(&self, mode: Mode, member: &Member, step: &mut StepRun) -> Result<Went<(Moving, choices::Member)>, Failure> {
        let record = match self.to_be_done(member).await? {
            Ok(record) => record,
            Err(why) => return Ok(Went::Nothing(why)),
        };
        let moving = self.gated(mode, member).begun(&self.ctx).await?;
        step.run = Some(moving.run().to_string());
        let points = moving.to_choose_from(&member.item).await?.points;
        let has = choices::Member { item: member.item.clone(), group: record.group.map(|group| group.name().clone()), points };
        Ok(Went::Done((moving, has), String::new()))
    }

    /// From there, with what was chosen; one that failed is begun again, and knows it from the beginning.
    async fn chosen(&self, mode: Mode, member: &Member, begun: Option<Moving>, choice: PointChoice, step: &mut StepRun) -> Result<Went<()>, Failure> {
        let moving = match begun {
            Some(moving) => {
                moving.choose(choice)?;
                moving
            }
            None => Wanted { choice, asks: false, ..self.gated(mode, member) }.begun(&self.ctx).await?,
        };
        step.run = Some(moving.run().to_string());
        Ok(Went::Done((), self.up_to_the_gate(member, moving).await?))
    }

    async fn never_chosen(&self, all: Vec<Sealed<'_>>) {
        all.iter().for_each(|sealed| sealed.moving.cancel("the plan has stopped"));
        for Sealed { moving, step, .. } in all {
            let end = moving.ended(self.requested_at).await;
            self.book.end(step, StepState::PutBack, end.err().map_or_else(String::new, |failure| failure.message));
        }
    }

    /// Machines of a replication group at their last common moment, all others at their own last point.
    fn choices(&self, all: &[Sealed<'_>]) -> Result<BTreeMap<ItemName, PointChoice>, Failure> {
        let members: Vec<choices::Member> = all.iter().map(|sealed| sealed.has.clone()).collect();
        choices::choices(self.input.point, &members).map_err(|why| Failure::fatal("no-recovery-point", causes(&why)))
    }
}
