//! What a machine's guest is asked to do: shut down, hold its file systems still, let them go.
//!
//! Calls that go through the guest's agent last as long as the agent likes; a guest that hangs blocks them. Whoever calls them
//! does so on a thread that may be left behind.

use provider::ProviderError;
use virt::{
    domain::{DomainShutoffReason, DomainStateReason},
    enumutil::Enum,
    sys,
};

use super::{Vm, calling};
use crate::ffi;

/// How a guest is asked to shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShutDownBy {
    /// The agent in the guest.
    Agent,
    /// The power button.
    Button,
}

impl Vm {
    /// The same machine, for another thread.
    pub(crate) fn again(&self) -> Self {
        Self { domain: self.domain.clone(), name: self.name.clone(), uuid: self.uuid.clone() }
    }

    /// As it runs now; as it would be started next time if it is off.
    pub(crate) fn live_definition(&self) -> Result<String, ProviderError> {
        self.domain.xml_desc(0).map_err(self.err("describe"))
    }

    /// Asks the guest to shut down. Returns when the guest was told, which says nothing about what it does.
    pub(crate) fn ask_to_shut_down(&self, by: ShutDownBy) -> Result<(), ProviderError> {
        let _span = calling("shutdown", &self.name);
        let flags = match by {
            ShutDownBy::Agent => sys::VIR_DOMAIN_SHUTDOWN_GUEST_AGENT,
            ShutDownBy::Button => sys::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN,
        };
        self.domain.shutdown_flags(flags).map_err(self.err("shut down"))
    }

    /// Whether the guest itself ended its last run; not if its process was killed or has crashed.
    pub(crate) fn shut_itself_down(&self) -> Result<bool, ProviderError> {
        let (_, reason) = self.domain.state().map_err(self.err("ask for the state of"))?;
        Ok(matches!(reason, Enum::Known(DomainStateReason::Shutoff(Enum::Known(DomainShutoffReason::Shutdown)))))
    }

    /// Makes the guest write everything out and hold its file systems still. Returns how many it holds.
    pub(crate) fn freeze(&self) -> Result<u32, ProviderError> {
        let _span = calling("freeze", &self.name);
        ffi::fs_freeze(&self.domain).map_err(self.err("freeze the file systems of"))
    }

    /// Lets the guest's file systems go. Returns how many were held; none is no error.
    pub(crate) fn thaw(&self) -> Result<u32, ProviderError> {
        let _span = calling("thaw", &self.name);
        ffi::fs_thaw(&self.domain).map_err(self.err("thaw the file systems of"))
    }
}
