//! How a source's sender is configured, ready to be pasted.

use alerts::{Credential, Settings};
use api::triggers::SourceKeyed;

use crate::output::visible;

/// Where the sender's host would keep the CA.
const CA_FILE: &str = "/etc/switchback/ca.crt";

pub(super) fn configuration(keyed: &SourceKeyed) -> String {
    let SourceKeyed { source, secret, url } = keyed;
    let secret = secret.as_ref().map_or("(the secret that you gave)", |secret| secret.0.as_str());
    let head = format!("source {} was made; nobody listens to it yet\n\n", source.name);
    let body = match &source.settings {
        Settings::Alertmanager { credential } => alertmanager(url, credential, secret),
        Settings::Grafana { timestamp_header } => grafana(url, timestamp_header.as_deref(), secret),
        Settings::PagerDuty { max_age_s } => pagerduty(url, *max_age_s),
        Settings::CloudEvents { credential, .. } => curl(url, credential, secret, "application/cloudevents+json"),
        Settings::Generic { credential, .. } => curl(url, credential, secret, "application/json"),
    };
    let reach = if url.starts_with('/') {
        "\n\nThe server does not listen on the network yet: start it with --listen IP:PORT, and put https://IP:PORT before the path."
    } else {
        "\n\nWith more than one server on the same database let the sender post to each of them: what comes twice counts once."
    };
    let ca = format!("\n{CA_FILE} is the server's STATE_DIR/pki/ca.crt, copied to the sender's host.");
    let shown = if keyed.secret.is_some() { "\nThe secret is shown this once." } else { "" };
    format!("{head}{body}{reach}{ca}{shown}")
}

fn alertmanager(url: &str, credential: &Credential, secret: &str) -> String {
    let shown = match credential {
        Credential::Bearer => format!("authorization: {{type: Bearer, credentials: \"{secret}\"}}"),
        Credential::Scheme { scheme } => format!("authorization: {{type: \"{}\", credentials: \"{secret}\"}}", visible(scheme)),
        Credential::Basic { user } => format!("basic_auth: {{username: \"{}\", password: \"{secret}\"}}", visible(user)),
        Credential::Header { header } => format!("http_headers: {{\"{}\": {{secrets: [\"{secret}\"]}}}}", visible(header)),
    };
    format!(
        "In alertmanager.yml (a redirection that is followed loses the alert, so none is):\n\n\
         receivers:\n  \
           - name: switchback\n    \
             webhook_configs:\n      \
               - url: \"{url}\"\n        \
                 send_resolved: true\n        \
                 max_alerts: 500\n        \
                 http_config:\n          \
                   follow_redirects: false\n          \
                   {shown}\n          \
                   tls_config: {{ca_file: {CA_FILE}}}"
    )
}

fn grafana(url: &str, timestamp_header: Option<&str>, secret: &str) -> String {
    let time = match timestamp_header {
        Some(header) => visible(header),
        None => "(empty, as this source is configured: a delivery can then be replayed; better make it with --timestamp-header)".to_owned(),
    };
    format!(
        "In Grafana 12 or newer, a contact point with the integration Webhook:\n\n  \
         URL                              {url}\n  \
         HTTP Method                      POST\n  \
         HMAC Signature, Secret           {secret}\n  \
         HMAC Signature, Header           (empty: X-Grafana-Alerting-Signature)\n  \
         HMAC Signature, Timestamp Header {time}\n  \
         TLS, CA Certificate              the content of {CA_FILE}\n  \
         Disable resolved message         off\n  \
         Custom Payload                   none"
    )
}

fn pagerduty(url: &str, max_age_s: u32) -> String {
    format!(
        "In PagerDuty, Integrations, Generic Webhooks (v3), the subscription whose secret you gave:\n\n  \
         Webhook URL   {url}\n  \
         Events        incident.triggered, acknowledged, unacknowledged, reopened, resolved\n\n\
         PagerDuty trusts public authorities only: let a proxy with a public certificate pass the path on, body and headers unchanged.\n\
         Events older than {max_age_s} s are not believed."
    )
}

fn curl(url: &str, credential: &Credential, secret: &str, media_type: &str) -> String {
    let shown = match credential {
        Credential::Bearer => format!("-H 'Authorization: Bearer {secret}'"),
        Credential::Scheme { scheme } => format!("-H 'Authorization: {} {secret}'", visible(scheme)),
        Credential::Basic { user } => format!("-u '{}:{secret}'", visible(user)),
        Credential::Header { header } => format!("-H '{}: {secret}'", visible(header)),
    };
    format!("The sender posts as this does:\n\n  curl --cacert {CA_FILE} {shown} \\\n    -H 'Content-Type: {media_type}' --data-binary @alert.json {url}")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use api::triggers::{SecretText, SourceView};
    use chrono::DateTime;

    use super::*;

    fn keyed(settings: Settings, secret: Option<&str>, url: &str) -> SourceKeyed {
        let source = SourceView {
            name: "prod".parse().unwrap(),
            kind: settings.kind(),
            settings,
            enabled: true,
            allowed_operations: vec![],
            secrets: 1,
            listeners: vec![],
            created_by: "ada".to_owned(),
            created_at: DateTime::UNIX_EPOCH,
            accepted_at: None,
            refused_at: None,
            deliveries: 0,
            alerts: 0,
            firing: 0,
        };
        SourceKeyed { source, secret: secret.map(|secret| SecretText(secret.to_owned())), url: url.to_owned() }
    }

    #[test]
    fn alertmanagers_configuration_can_be_pasted() {
        let settings = Settings::Alertmanager { credential: Credential::Bearer };
        let text = configuration(&keyed(settings, Some("sba_0"), "https://192.0.2.1:7443/v1/triggers/prod"));
        let (_, pasted) = text.split_once("receivers:").unwrap();
        let (pasted, _) = pasted.split_once("\n\n").unwrap();
        let parsed: serde_json::Value = serde_saphyr::from_str(&format!("receivers:{pasted}")).unwrap();
        let expected = serde_json::json!({"receivers": [{"name": "switchback", "webhook_configs": [{
            "url": "https://192.0.2.1:7443/v1/triggers/prod",
            "send_resolved": true,
            "max_alerts": 500,
            "http_config": {
                "follow_redirects": false,
                "authorization": {"type": "Bearer", "credentials": "sba_0"},
                "tls_config": {"ca_file": CA_FILE},
            },
        }]}]});
        assert_eq!(parsed, expected);
        assert!(text.ends_with("The secret is shown this once."));
    }

    #[test]
    fn a_secret_that_was_given_is_not_shown_and_a_server_without_a_network_is_named() {
        let text = configuration(&keyed(Settings::Grafana { timestamp_header: None }, None, "/v1/triggers/prod"));
        assert!(text.contains("(the secret that you gave)") && text.contains("--listen IP:PORT") && text.contains("can then be replayed"), "{text}");
    }
}
