//! How the program ends: exit codes, and errors said so that somebody at 4 AM knows what to do next.

use std::process::ExitCode;

use api::{ClientError, Problem};

/// How a command ended, other than with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As asked.
    Well,
    /// What was waited for failed.
    Failed,
    /// What was waited for is set aside, or a check found differences.
    Degraded,
    /// The wait was too long; the work goes on.
    TimedOut,
    /// A person stopped waiting; the work goes on.
    Interrupted,
}

impl Ending {
    pub(crate) fn code(self) -> ExitCode {
        ExitCode::from(match self {
            Ending::Well => 0,
            Ending::Failed => 1,
            Ending::Degraded => 6,
            Ending::TimedOut => 124,
            Ending::Interrupted => 130,
        })
    }
}

/// Says what went wrong on standard error; gives the exit code.
pub(crate) fn failed(error: &anyhow::Error) -> ExitCode {
    let refusal = error.chain().find_map(|cause| cause.downcast_ref::<ClientError>());
    if let Some(problem) = refusal.and_then(ClientError::problem) {
        eprint!("{}", told(problem));
        return ExitCode::from(of_status(problem.status));
    }
    eprintln!("switchback: {error:#}");
    if let Some(ClientError::Unreachable { server, .. }) = refusal {
        eprintln!("  next:  is the server up? Start it with `switchback up`, or name another with --server (asked: {server})");
    }
    ExitCode::from(if refusal.is_some_and(|refusal| matches!(refusal, ClientError::Address(_))) { 2 } else { 1 })
}

fn of_status(status: u16) -> u8 {
    match status {
        400 | 413 | 422 => 2,
        404 => 3,
        409 | 412 | 428 => 4,
        401 | 403 => 5,
        _ => 1,
    }
}

fn told(problem: &Problem) -> String {
    let mut text = format!("switchback: {}: {}\n  data:  {}\n  next:  {}\n", problem.title, problem.detail, problem.data, problem.next_step);
    if let Some(allowed) = &problem.allowed_operations {
        let words: Vec<&str> = allowed.iter().map(|operation| operation.as_str()).collect();
        let words = if words.is_empty() { "none now".to_owned() } else { words.join(", ") };
        text += &format!("  allowed:  {words}\n");
    }
    if let Some(run) = problem.run {
        text += &format!("  run:  {run} (`switchback why {run}`)\n");
    }
    let code = problem.kind.rsplit('/').next().unwrap_or_default();
    text += &format!("  code:  {code}\n");
    if let Some(trace) = &problem.trace_id {
        text += &format!("  trace:  {trace}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use api::Code;
    use recovery::Operation;

    use super::*;

    #[test]
    fn a_refusal_says_what_it_means_and_what_to_do() {
        let problem = Problem::new(Code::OperationNotAllowed, "commit of item db9 in state protected").allowing(vec![Operation::Failover]);
        assert_eq!(
            told(&problem),
            "switchback: The item's state does not allow this: commit of item db9 in state protected\n  data:  Nothing was changed.\n  \
             next:  Choose one of the allowed operations, or wait until the running one has ended.\n  allowed:  failover\n  code:  \
             operation-not-allowed\n"
        );
        assert_eq!(of_status(problem.status), 4);
    }
}
