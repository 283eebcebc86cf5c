//! `run`: opens the site, then works for the server and reports to it until a signal says stop.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use provider::Site;
use sdk::TaskQueue;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

use crate::{arguments::Run, identity::Identity, probing::FromHere, reports, session, simulated};

/// A site with the identity under which it is served.
pub(crate) struct Served {
    pub(crate) identity: Identity,
    pub(crate) site: Arc<dyn Site>,
    pub(crate) data_address: Option<String>,
}

pub(crate) async fn run(arguments: Run) -> Result<()> {
    let ttl = arguments.lease_seconds;
    let (stop, stopped) = watch::channel(false);
    let served = if arguments.simulated { simulated::open(&arguments, stopped.clone())? } else { vec![hypervisor(&arguments)?] };
    let mut working = JoinSet::new();
    for one in served {
        serve(one, ttl, &mut working, &stopped)?;
    }
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    tracing::info!("stopping");
    stop.send_replace(true);
    while working.join_next().await.is_some() {}
    Ok(())
}

fn serve(one: Served, ttl: Duration, working: &mut JoinSet<()>, stopped: &watch::Receiver<bool>) -> Result<()> {
    let Served { identity, site, data_address } = one;
    let client = Arc::new(identity.client()?);
    let registry = activities::registry(site.clone(), Arc::new(FromHere));
    let queues = vec![TaskQueue::new(format!("site:{}", identity.site)), TaskQueue::new(format!("host:{}", identity.name))];
    tracing::info!(agent = identity.name, site = %identity.site, server = identity.server, "serving");
    working.spawn(session::keep_working(client.clone(), queues, registry, ttl, stopped.clone()));
    working.spawn(reports::forward(client, site, data_address, stopped.clone()));
    Ok(())
}

#[cfg(feature = "kvm")]
fn hypervisor(arguments: &Run) -> Result<Served> {
    use anyhow::Context;
    use provider_kvm::{KvmConfig, KvmSite, TlsIdentity};

    let state_dir = arguments.state_dir.first().context("a state directory is needed")?;
    let identity = Identity::load(state_dir)?;
    let storage_dir = arguments.storage.clone().context("--storage is needed")?;
    let data_listen = arguments.data_listen.context("--data-listen is needed")?;
    let config = KvmConfig {
        site: identity.site.clone(),
        libvirt_uri: arguments.libvirt.clone(),
        storage_dir,
        state_dir: state_dir.join("site"),
        data_listen,
        tls: TlsIdentity {
            name: identity.tls_name.clone(),
            ca_pem: identity.ca_pem.clone(),
            cert_pem: identity.certificate_pem.clone(),
            key_pem: identity.key_pem.clone(),
        },
    };
    let site = KvmSite::open(config).with_context(|| format!("opening the site at {}", arguments.libvirt))?;
    let data_address = Some(data_listen.to_string());
    Ok(Served { identity, site: Arc::new(site), data_address })
}

#[cfg(not(feature = "kvm"))]
fn hypervisor(_: &Run) -> Result<Served> {
    anyhow::bail!("this build of switchback-agent has no hypervisor support; use --simulated, or a build with the feature `kvm`")
}
