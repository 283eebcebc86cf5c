//! Exit codes, and how an error is told.
//!
//! ```text
//!   0 ok   1 failed   2 usage   3 not found   4 precondition, conflict   5 who are you, you may not
//!   6 degraded   124 waited in vain   130 interrupted
//! ```

use std::process::ExitCode;

use api::{ClientError, Code, Problem};
use server::OpenError;

use crate::{arguments::Output, output::visible};

/// It failed.
pub(crate) const FAILED: u8 = 1;
/// What was looked at or judged is not as it should be, although the command did its work. Lists end well whatever stands in them.
pub(crate) const DEGRADED: u8 = 6;
/// `--wait` ran into its limit.
pub(crate) const WAITED_IN_VAIN: u8 = 124;
/// Ctrl-C; what was begun goes on.
pub(crate) const INTERRUPTED: u8 = 130;

/// Tells an error on standard error, to programs as a problem in JSON if there is one, and gives its code.
pub(crate) fn told(error: &anyhow::Error, output: Output) -> ExitCode {
    let asked = error.chain().find_map(|cause| cause.downcast_ref::<ClientError>());
    let refused = asked.and_then(ClientError::problem);
    let database = || error.chain().find_map(|cause| cause.downcast_ref::<OpenError>()).and_then(of_database);
    match refused.cloned().or_else(database) {
        Some(problem) => {
            match (output, serde_json::to_string_pretty(&problem)) {
                (Output::Json, Ok(json)) => eprintln!("{json}"),
                (Output::Json, Err(_)) | (Output::Table, _) => refusal(&problem),
            }
            of(&problem).into()
        }
        None => {
            if output == Output::Json {
                let detail = format!("{error:#}");
                eprintln!("{:#}", serde_json::json!({ "type": "about:blank", "title": "The command failed", "detail": detail }));
                return FAILED.into();
            }
            eprintln!("switchback: {}", visible(&format!("{error:#}")));
            if let Some(ClientError::Unreachable { .. }) = asked {
                eprintln!("  data:      What was asked for may have been begun, if the connection broke after it was made.");
                eprintln!("  next step: See that `switchback up` runs; name its socket's directory by SWITCHBACK_STATE_DIR, or a server by --server.");
            }
            FAILED.into()
        }
    }
}

/// A database that must not be used, as a problem.
fn of_database(error: &OpenError) -> Option<Problem> {
    match error {
        OpenError::NotOurs { .. } | OpenError::TooOld { .. } => Some(Problem::new(Code::WrongDatabase, error.to_string())),
        OpenError::Newer { .. } => Some(Problem::new(Code::NewerDatabase, error.to_string())),
        OpenError::Address(_)
        | OpenError::Certificates { .. }
        | OpenError::Connect { .. }
        | OpenError::Older { .. }
        | OpenError::Migration { .. }
        | OpenError::Failed { .. } => None,
    }
}

fn refusal(problem: &Problem) {
    eprintln!("switchback: {}", visible(&problem.to_string()));
    if let Some(allowed) = &problem.allowed_operations {
        let words: Vec<&str> = allowed.iter().map(|operation| operation.as_str()).collect();
        eprintln!("  allowed:   {}", if words.is_empty() { "nothing, for now".to_owned() } else { words.join(", ") });
    }
    if let Some(run) = problem.run {
        eprintln!("  run:       {run}");
    }
    eprintln!("  data:      {}", problem.data);
    eprintln!("  next step: {}", problem.next_step);
    eprintln!("  problem:   {}{}", problem.kind, problem.trace_id.as_ref().map(|id| format!(", trace {id}")).unwrap_or_default());
}

fn of(problem: &Problem) -> u8 {
    match problem.code() {
        Some(Code::InvalidRequest | Code::UnknownPath | Code::DeliveryTooLarge | Code::DeliveryUnreadable) => 2,
        Some(Code::UnknownItem | Code::UnknownRun | Code::UnknownSite | Code::UnknownTask | Code::UnknownSource | Code::UnknownPolicy | Code::UnknownDelivery | Code::UnknownSchedule | Code::UnknownPlan | Code::UnknownGroup) => 3,
        Some(
            Code::OperationNotAllowed
            | Code::OperationNotOffered
            | Code::NotNow
            | Code::RunInProgress
            | Code::RunEnded
            | Code::NoRecoveryPoint
            | Code::NotExportable
            | Code::ConfirmationNeeded
            | Code::NameTaken
            | Code::IdempotencyConflict
            | Code::LeaseGone
            | Code::SourceConflict
            | Code::WrongDatabase
            | Code::NewerDatabase,
        ) => 4,
        Some(Code::Unauthenticated | Code::Forbidden | Code::AgentNotEnrolled | Code::EnrolmentRefused | Code::DeliveryNotBelieved) => 5,
        Some(Code::DatabaseUnavailable | Code::StoreChecking | Code::Internal) => FAILED,
        None => match problem.status {
            400 => 2,
            401 | 403 => 5,
            404 => 3,
            409 | 412 | 422 => 4,
            _ => FAILED,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_that_is_not_known_here_ends_as_its_status_says() {
        let mut problem = Problem::new(Code::UnknownItem, "x");
        problem.kind = "/problems/from-the-future".to_owned();
        assert_eq!(of(&problem), 3);
        assert_eq!(of(&Problem::new(Code::Forbidden, "x")), 5);
    }
}
