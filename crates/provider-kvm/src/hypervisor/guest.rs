//! What a machine's guest is asked to do: shut down, hold its file systems still, let them go.
//!
//! Calls that go through the guest's agent last as long as the agent likes; a guest that hangs blocks them. Whoever calls them
//! does so on a thread that may be left behind.

use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use provider::{GuestProgram, GuestRun, ProviderError, Said};
use serde_json::{Value, json};
use virt::{
    domain::{DomainShutoffReason, DomainStateReason},
    enumutil::Enum,
    sys,
};

use super::{Vm, calling};
use crate::ffi;

/// Longest wait for an answer of the agent: it answers at once, or its guest is not up yet. Seconds, as libvirt counts them.
const ANSWER_S: i32 = 3;
/// Longest run of a program that is to say whether the machine serves: shorter than the attempt that waits for it.
const PROGRAM: Duration = Duration::from_secs(20);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(200);

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

    /// Lets the guest's agent run a program, and waits for its end. Returns what was run if it exits with 0.
    pub(crate) fn run_in_guest(&self, program: &str, arguments: &[String]) -> Result<String, ProviderError> {
        let words = [&[program.to_owned()], arguments].concat().join(" ");
        let failed = |detail: String| ProviderError::NotServing { machine: self.name.clone(), detail: format!("guest:{words}: {detail}") };
        let asked = json!({ "execute": "guest-exec", "arguments": { "path": program, "arg": arguments } });
        let begun = self.agent(&asked).map_err(failed)?;
        let pid = begun["pid"].as_i64().ok_or_else(|| failed(format!("the agent began it with {begun}")))?;
        let deadline = Instant::now() + PROGRAM;
        loop {
            let status = self.agent(&json!({ "execute": "guest-exec-status", "arguments": { "pid": pid } })).map_err(failed)?;
            match ended(&status) {
                Some(Ok(())) => return Ok(format!("guest:{words} exits with 0")),
                Some(Err(how)) => return Err(failed(how)),
                None if Instant::now() > deadline => return Err(failed(format!("it still runs after {} s", PROGRAM.as_secs()))),
                None => std::thread::sleep(LOOK),
            }
        }
    }

    /// Lets the guest's agent begin a program of a plan. Gives its process id in the guest.
    pub(crate) fn begin_program(&self, wanted: &GuestProgram) -> Result<i64, ProviderError> {
        let failed = |detail: String| ProviderError::NotServing { machine: self.name.clone(), detail: format!("{} in its guest: {detail}", wanted.program) };
        // One that does not answer is found by a question that harms nothing.
        self.agent(&json!({ "execute": "guest-ping" })).map_err(failed)?;
        let environment: Vec<String> = wanted.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut asked = json!({ "path": wanted.program, "arg": wanted.arguments, "env": environment, "capture-output": true });
        if let Some(input) = &wanted.input {
            asked["input-data"] = STANDARD.encode(input).into();
        }
        let asked = json!({ "execute": "guest-exec", "arguments": asked });
        let _span = calling("agent", &self.name);
        let answer = self.domain.qemu_agent_command(&asked.to_string(), ANSWER_S, 0).map_err(|error| {
            let said_no = matches!(error.code(), Enum::Known(virt::error::ErrorNumber::AgentCommandFailed));
            if said_no { failed(error.message().to_owned()) } else { self.lost(wanted, error.message()) }
        })?;
        let answer: Value = serde_json::from_str(&answer).map_err(|error| self.lost(wanted, &error.to_string()))?;
        answer["return"]["pid"].as_i64().ok_or_else(|| self.lost(wanted, &format!("the agent began it with {answer}")))
    }

    /// It was begun, or may have been.
    pub(crate) fn lost(&self, wanted: &GuestProgram, detail: &str) -> ProviderError {
        ProviderError::AnswerLost { operation: wanted.program.clone(), target: format!("the guest of {}", self.name), detail: detail.to_owned() }
    }

    /// How a program that was begun has ended; none while it runs. Otherwise why that can't be told now, in words.
    pub(crate) fn end_of_program(&self, pid: i64, most_output: usize) -> Result<Option<GuestRun>, String> {
        let status = self.agent(&json!({ "execute": "guest-exec-status", "arguments": { "pid": pid } }))?;
        if status["exited"] != true {
            return Ok(None);
        }
        let exit = status["exitcode"].as_i64().or_else(|| status["signal"].as_i64().map(|signal| 128 + signal));
        let exit = exit.and_then(|exit| i32::try_from(exit).ok()).ok_or_else(|| format!("it ended with {status}"))?;
        let mut said = Said::within(most_output);
        for part in ["out-data", "err-data"] {
            let heard = status[part].as_str().and_then(|text| STANDARD.decode(text).ok());
            said.hear(&heard.unwrap_or_default());
        }
        Ok(Some(GuestRun { exit, said }))
    }

    /// Asks the guest's agent. Gives what it returns, or why there is no answer, in words.
    fn agent(&self, asked: &Value) -> Result<Value, String> {
        let _span = calling("agent", &self.name);
        let answer = self.domain.qemu_agent_command(&asked.to_string(), ANSWER_S, 0).map_err(|error| error.message().to_owned())?;
        let mut answer: Value = serde_json::from_str(&answer).map_err(|error| format!("the agent's answer can't be read: {error}"))?;
        Ok(answer["return"].take())
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

/// How a program ended, by the agent's word; none while it runs.
fn ended(status: &Value) -> Option<Result<(), String>> {
    if status["exited"] != true {
        return None;
    }
    Some(match (status["exitcode"].as_i64(), status["signal"].as_i64()) {
        (Some(0), None) => Ok(()),
        (Some(code), _) => Err(format!("it exits with {code}")),
        (None, Some(signal)) => Err(format!("it was ended by signal {signal}")),
        (None, None) => Err(format!("it ended with {status}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_exits_with_0_and_nothing_else_holds() {
        assert_eq!(ended(&json!({ "exited": false })), None);
        assert_eq!(ended(&json!({ "exited": true, "exitcode": 0 })), Some(Ok(())));
        assert_eq!(ended(&json!({ "exited": true, "exitcode": 3 })), Some(Err("it exits with 3".to_owned())));
        assert_eq!(ended(&json!({ "exited": true, "signal": 9 })), Some(Err("it was ended by signal 9".to_owned())));
        assert!(ended(&json!({ "exited": true })).is_some_and(|ended| ended.is_err()));
    }
}
