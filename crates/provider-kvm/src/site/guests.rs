//! The port for what plans do in guests, and for links into the networks of copies.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use provider::{GuestProgram, GuestRun, Guests, Link, ProviderError, Whose};
use recovery::{Generation, ItemName};

use super::KvmSite;
use crate::{
    hypervisor::Vm,
    machines::{self, Copies},
};

/// Between two looks at a program: it grows up to the second one, since most end at once and some run for hours.
const FIRST_LOOK: Duration = Duration::from_millis(100);
const LAST_LOOK: Duration = Duration::from_secs(2);
/// A guest's agent that says nothing for so long while its program runs is given up: a guest that is busy is silent for seconds.
const SILENCE: Duration = Duration::from_secs(30);

#[async_trait]
impl Guests for KvmSite {
    async fn run_program(&self, item: &ItemName, generation: Generation, whose: Whose, program: &GuestProgram) -> Result<GuestRun, ProviderError> {
        let deadline = Instant::now() + program.within;
        let (name, wanted) = (item.clone(), program.clone());
        let (vm, pid) = self
            .blocking("begin program", move |site| {
                let vm = site.of(&name, generation, whose)?;
                let pid = vm.begin_program(&wanted)?;
                Ok((vm, pid))
            })
            .await?;
        let (mut pause, mut heard, mut why) = (FIRST_LOOK, Instant::now(), None);
        loop {
            let (looked, most_output) = (vm.again(), program.most_output);
            match self.blocking("look at program", move |_| Ok(looked.end_of_program(pid, most_output))).await? {
                Ok(Some(run)) => return Ok(run),
                Ok(None) => heard = Instant::now(),
                Err(error) => why = Some(error),
            }
            if heard.elapsed() > SILENCE {
                return Err(vm.lost(program, &why.unwrap_or_default()));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(vm.lost(program, &format!("it still runs after {} s", program.within.as_secs())));
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 2).min(LAST_LOOK);
        }
    }

    async fn reach_copy(&self, item: &ItemName, generation: Generation, host: &str, port: u16) -> Result<Link, ProviderError> {
        let alone = self.inner.linking.clone().lock_owned().await;
        let (name, host) = (item.clone(), host.to_owned());
        let linked = self.blocking("link", move |site| {
            let host_of = &site.inner.host;
            let item = host_of.item(&name)?;
            // None while the network comes or goes.
            let _still = item.busy();
            Copies::of(&host_of.hypervisor, &host_of.guard, &host_of.networks, &name, item.store.dir()).link(generation, &host, port)
        });
        let (stream, cable) = linked.await?;
        Ok(Link { stream: Some(stream), hangs_on: Some(Box::new((cable, alone))) })
    }
}

impl KvmSite {
    fn of(&self, item: &ItemName, generation: Generation, whose: Whose) -> Result<Vm, ProviderError> {
        let host = &self.inner.host;
        let known = host.item(item)?;
        match whose {
            Whose::Recovered => machines::started(&host.hypervisor, known.store.dir(), item, generation),
            Whose::Copy => Copies::of(&host.hypervisor, &host.guard, &host.networks, item, known.store.dir()).machine(generation),
        }
    }
}
