//! A TSIG key in the form that `tsig-keygen` prints: `key "NAME" { algorithm hmac-sha256; secret "BASE64"; };`

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::tsig::{Algorithm, Key, KeyName};

/// Reads a key. The error tells nothing of it.
pub(crate) fn key(text: &str) -> Result<Key, String> {
    let words = words(text);
    let after = |word: &str| words.iter().position(|found| found == word).and_then(|at| words.get(at + 1)).map(String::as_str);
    let (Some(name), Some(algorithm), Some(secret)) = (after("key"), after("algorithm"), after("secret")) else {
        return Err("it is not of the form key \"NAME\" { algorithm hmac-sha256; secret \"BASE64\"; };".to_owned());
    };
    let name: KeyName = name.parse().map_err(|error| format!("the name of the key is no domain name: {error}"))?;
    let algorithm = match algorithm.to_ascii_lowercase().trim_end_matches('.') {
        "hmac-sha1" => Algorithm::Sha1,
        "hmac-sha256" => Algorithm::Sha256,
        "hmac-sha384" => Algorithm::Sha384,
        "hmac-sha512" => Algorithm::Sha512,
        other => return Err(format!("algorithm {other:?} is not one of hmac-sha256, hmac-sha384, hmac-sha512 and hmac-sha1")),
    };
    let secret = STANDARD.decode(secret).map_err(|_secret| "its secret is no base64".to_owned())?;
    if secret.is_empty() {
        return Err("its secret is empty".to_owned());
    }
    Key::new(algorithm, &secret, name, None, None).map_err(|error| error.to_string())
}

fn words(text: &str) -> Vec<String> {
    let without_comments = text.lines().map(|line| line.split("//").next().unwrap_or_default().split('#').next().unwrap_or_default());
    // A secret may contain two slashes in a row: it is quoted, and nothing else here may be.
    let lines: Vec<&str> = text.lines().zip(without_comments).map(|(whole, cut)| if whole.contains("secret") { whole } else { cut }).collect();
    let apart = |c: char| c.is_whitespace() || matches!(c, '{' | '}' | ';' | '"');
    lines.join("\n").split(apart).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_tsig_keygen_prints_it() {
        let read = key("# of the zone\nkey \"ddns.example\" {\n\talgorithm hmac-sha512;\n\tsecret \"c2//Y3JldA==\";\n};\n").unwrap();
        assert_eq!((read.name().to_string().as_str(), read.algorithm()), ("ddns.example", Algorithm::Sha512));
        assert!(key("key x { algorithm hmac-sha256; secret \"AA==\"; };").is_ok());
        for wrong in ["", "AA==", "key x { algorithm hmac-md5; secret AA==; };", "key x { algorithm hmac-sha256; secret \"!\"; };", "key x { algorithm hmac-sha256; };"] {
            let why = key(wrong).unwrap_err();
            assert!(!why.contains('!'), "{why}");
        }
    }
}
