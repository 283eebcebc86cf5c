//! Networks of libvirt's: those that this agent makes for copies; and whether what machines are connected to is there.

use std::process::Command;

use provider::ProviderError;
use recovery::readiness::Networks;
use virt::{error::ErrorNumber, network::Network};

use super::{Hypervisor, calling, failed, is};
use crate::definition::{Attachment, attachments};

/// A network that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunningNetwork {
    pub(crate) name: String,
    /// The host's bridge; `None` if it has none.
    pub(crate) bridge: Option<String>,
}

impl Hypervisor {
    /// Networks whose names begin so, running or not.
    pub(crate) fn networks(&self, start: &str) -> Result<Vec<String>, ProviderError> {
        let all = self.connect()?.list_all_networks(0).map_err(|e| failed("list networks of", &self.uri)(e.into()))?;
        // One may go while we look; then it is not there.
        let mut names: Vec<String> = all.into_iter().filter_map(|n| n.name().ok()).filter(|n| n.starts_with(start)).collect();
        names.sort();
        Ok(names)
    }

    fn network(&self, name: &str) -> Result<Option<Network>, ProviderError> {
        match self.connect()?.lookup_network_by_name(name) {
            Ok(network) => Ok(Some(network)),
            Err(e) if is(&e, ErrorNumber::NoNetwork) => Ok(None),
            Err(e) => Err(failed("look up network", name)(e.into())),
        }
    }

    /// The network, if it runs.
    pub(crate) fn running_network(&self, name: &str) -> Result<Option<RunningNetwork>, ProviderError> {
        let Some(network) = self.network(name)? else { return Ok(None) };
        if !network.is_active().map_err(|e| failed("ask about network", name)(e.into()))? {
            return Ok(None);
        }
        Ok(Some(RunningNetwork { name: name.to_owned(), bridge: network.bridge_name().ok() }))
    }

    /// Starts a network that is not stored. One of that name that is stored and does not run is in the way.
    pub(crate) fn create_network(&self, name: &str, xml: &str) -> Result<(), ProviderError> {
        let _span = calling("create network", name);
        self.connect()?.create_network_xml(xml).map(drop).map_err(|e| failed("start network", name)(e.into()))
    }

    /// Removes the definition of a network that does not run, if there is one.
    pub(crate) fn forget_network(&self, name: &str) -> Result<(), ProviderError> {
        let Some(network) = self.network(name)? else { return Ok(()) };
        if network.is_active().unwrap_or(true) {
            return Ok(());
        }
        match network.undefine() {
            Err(e) if !is(&e, ErrorNumber::NoNetwork) => Err(failed("forget network", name)(e.into())),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Ends a network and removes its definition, if there is one.
    pub(crate) fn remove_network(&self, name: &str) -> Result<(), ProviderError> {
        let _span = calling("remove network", name);
        let Some(network) = self.network(name)? else { return Ok(()) };
        let gone = |result: Result<(), virt::error::Error>| match result {
            Err(e) if !is(&e, ErrorNumber::NoNetwork) => Err(failed("remove network", name)(e.into())),
            Ok(()) | Err(_) => Ok(()),
        };
        if network.is_active().unwrap_or(false) {
            gone(network.destroy())?;
        }
        // A transient one went with its end.
        if network.is_persistent().unwrap_or(false) { gone(network.undefine()) } else { Ok(()) }
    }

    /// What this host lacks of what a machine's network cards are connected to.
    pub(crate) fn lacking(&self, definition: &str) -> Result<Networks, ProviderError> {
        let mut lacking = Networks::default();
        for attachment in attachments(definition) {
            match self.is_there(&attachment)? {
                Some(true) => {}
                Some(false) => drop(lacking.missing.insert(attachment.to_string())),
                None => drop(lacking.unseen.insert(attachment.to_string())),
            }
        }
        Ok(lacking)
    }

    /// Whether it can be connected to. Interfaces of the host are known to a driver of libvirt's that may be missing; then what this agent
    /// sees beside libvirt is there, and of the rest nothing is known.
    fn is_there(&self, attachment: &Attachment) -> Result<Option<bool>, ProviderError> {
        match attachment {
            Attachment::Network(name) => Ok(Some(self.running_network(name)?.is_some())),
            Attachment::Interface(_, name) => match self.connect()?.lookup_interface_by_name(name) {
                Ok(_) => Ok(Some(true)),
                // Some drivers know only what they have configured themselves.
                Err(_) if self.uri.contains(":///") && seen_here(name) => Ok(Some(true)),
                Err(e) if is(&e, ErrorNumber::NoInterface) => Ok(Some(false)),
                Err(_) => Ok(None),
            },
        }
    }
}

fn seen_here(interface: &str) -> bool {
    Command::new("ip").args(["link", "show", "dev", interface]).output().is_ok_and(|told| told.status.success())
}
