//! Actions of plans against what they are for: an SSH server, a name server, a web service, programs.
#![expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]

mod command;
mod dns;
mod http;
mod services;
mod ssh;
