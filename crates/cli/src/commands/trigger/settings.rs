//! A source's settings from what was given on the command line.
//!
//! Invariant: an option that does not belong to the kind is refused, so that nobody believes it did something.

use std::path::Path;

use alerts::{Credential, Kind, Mapping, Settings};
use anyhow::{Context, Result};
use api::{ClientError, Code};

use crate::{arguments::CreateSource, commands::look::missing};

pub(super) fn of(asked: &CreateSource) -> Result<Settings> {
    let kind = asked.kind;
    let mapped = matches!(kind, Kind::CloudEvents | Kind::Generic);
    let shown = [asked.shown.basic.is_some(), asked.shown.scheme.is_some(), asked.shown.header.is_some()].contains(&true);
    refuse(kind, shown && kind.signs(), "signs its deliveries, and shows no secret: --basic, --scheme and --header are not for it")?;
    refuse(kind, asked.timestamp_header.is_some() && kind != Kind::Grafana, "has no --timestamp-header")?;
    refuse(kind, asked.max_age.is_some() && kind != Kind::PagerDuty, "has no --max-age")?;
    refuse(kind, asked.mapping_file.is_some() && !mapped, "has a form of its own, and takes no --mapping-file")?;
    let settings = match (kind, &asked.mapping_file) {
        (Kind::Alertmanager, _) => Settings::Alertmanager { credential: credential(asked) },
        (Kind::Grafana, _) => Settings::Grafana { timestamp_header: asked.timestamp_header.clone() },
        (Kind::PagerDuty, _) => {
            let given = asked.max_age.map(|age| u32::try_from(age.as_secs()).unwrap_or(u32::MAX));
            Settings::PagerDuty { max_age_s: given.unwrap_or(Settings::PAGERDUTY_AGE_S) }
        }
        (Kind::CloudEvents, Some(file)) => Settings::CloudEvents { credential: credential(asked), mapping: mapping(file)? },
        (Kind::Generic, Some(file)) => Settings::Generic { credential: credential(asked), mapping: mapping(file)? },
        (Kind::CloudEvents | Kind::Generic, None) => return Err(refused(format!("{kind} needs --mapping-file; `switchback trigger source create --help` shows one")).into()),
    };
    settings.check().map_err(|error| refused(error.to_string()))?;
    Ok(settings)
}

fn credential(asked: &CreateSource) -> Credential {
    let shown = &asked.shown;
    match (&shown.basic, &shown.scheme, &shown.header) {
        (Some(user), ..) => Credential::Basic { user: user.clone() },
        (_, Some(scheme), _) => Credential::Scheme { scheme: scheme.clone() },
        (.., Some(header)) => Credential::Header { header: header.clone() },
        (None, None, None) => Credential::Bearer,
    }
}

fn mapping(file: &Path) -> Result<Mapping> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading the mapping in {}", file.display()))?;
    let mapping = serde_saphyr::from_str(&text);
    Ok(mapping.map_err(|error| refused(format!("{} is no mapping: {}", file.display(), first_line(&error.to_string()))))?)
}

/// Without the picture of the place, which needs more lines than a refusal has.
fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn refuse(kind: Kind, refuse: bool, why: &str) -> Result<()> {
    if refuse { Err(refused(format!("{kind} {why}")).into()) } else { Ok(()) }
}

fn refused(detail: String) -> ClientError {
    missing(Code::InvalidRequest, detail)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Command, MAPPING_EXAMPLE, SourceCommand, TriggerCommand};

    fn settings(arguments: &[&str]) -> Result<Settings> {
        let all = [&["switchback", "trigger", "source", "create", "a", "--kind"], arguments].concat();
        let command = Arguments::try_parse_from(all)?.command;
        let Command::Trigger { command: TriggerCommand::Source { command: SourceCommand::Create(create) } } = command else {
            panic!("{command:?}")
        };
        of(&create)
    }

    #[test]
    fn what_is_given_becomes_settings() {
        assert_eq!(settings(&["alertmanager"]).unwrap(), Settings::Alertmanager { credential: Credential::Bearer });
        let basic = Settings::Alertmanager { credential: Credential::Basic { user: "am".to_owned() } };
        assert_eq!(settings(&["alertmanager", "--basic", "am"]).unwrap(), basic);
        assert_eq!(settings(&["pagerduty", "--max-age", "10m"]).unwrap(), Settings::PagerDuty { max_age_s: 600 });
        let signed_time = Settings::Grafana { timestamp_header: Some("X-Time".to_owned()) };
        assert_eq!(settings(&["grafana", "--timestamp-header", "X-Time"]).unwrap(), signed_time);
    }

    #[test]
    fn what_does_not_belong_to_the_kind_is_refused() {
        let wrong: [&[&str]; 8] = [
            &["grafana", "--basic", "a"],
            &["alertmanager", "--timestamp-header", "X-Time"],
            &["grafana", "--max-age", "10m"],
            &["alertmanager", "--mapping-file", "/dev/null"],
            &["generic"],
            &["nagios"],
            &["alertmanager", "--basic", "a", "--header", "b"],
            &["grafana", "--timestamp-header", "Host"],
        ];
        for arguments in wrong {
            assert!(settings(arguments).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn the_mapping_that_is_shown_as_an_example_can_be_used() {
        let mapping: Mapping = serde_saphyr::from_str(MAPPING_EXAMPLE).unwrap();
        Settings::Generic { credential: Credential::Bearer, mapping }.check().unwrap();
    }
}
