//! The hypervisor beside this agent.

use anyhow::Result;

use crate::{arguments::Run, served::Served};

#[cfg(feature = "kvm")]
pub(crate) fn open(arguments: &Run) -> Result<Served> {
    use std::sync::Arc;

    use anyhow::Context;
    use provider_kvm::{KvmConfig, KvmSite, TlsIdentity};

    let state_dir = arguments.state_dir.first().context("a state directory is needed")?;
    let identity = crate::identity::Identity::load(state_dir)?;
    let storage_dir = arguments.storage.clone().context("--storage is needed")?;
    let data_listen = arguments.data_listen.context("--data-listen is needed")?;
    let config = KvmConfig {
        site: identity.site.clone(),
        libvirt_uri: arguments.libvirt.clone(),
        // With the storage, not with this process' identity: whoever takes the host over must find it.
        state_dir: storage_dir.join(".site"),
        storage_dir,
        data_listen,
        tls: TlsIdentity {
            name: identity.tls_name.clone(),
            ca_pem: identity.ca_pem.clone(),
            cert_pem: identity.certificate_pem.clone(),
            key_pem: identity.key_pem.clone(),
        },
        autostart_patience: provider::AUTOSTART_PATIENCE,
    };
    let site = KvmSite::open(config).with_context(|| format!("opening the site at {}", arguments.libvirt))?;
    let data_address = Some(data_listen.to_string());
    let actions = Arc::new(actions::Outside::new(&arguments.actions));
    Ok(Served { identity, state_dir: state_dir.clone(), site: Arc::new(site), actions, data_address })
}

#[cfg(not(feature = "kvm"))]
pub(crate) fn open(_: &Run) -> Result<Served> {
    anyhow::bail!("this build of switchback-agent has no hypervisor support; use --simulated, or a build with the feature `kvm`")
}
