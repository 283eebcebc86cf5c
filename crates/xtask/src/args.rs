//! A command line read word by word; whatever nobody asked for is an error.
//!
//! `xtask` must build in seconds on a bare machine, so it does without an argument parser crate.

use std::ffi::OsString;

use anyhow::{Result, anyhow, bail};

/// The words that are still to be read, and those after `--`.
#[derive(Debug)]
pub(crate) struct Args {
    words: Vec<String>,
    rest: Vec<OsString>,
}

impl Args {
    pub(crate) fn new(words: impl IntoIterator<Item = OsString>) -> Result<Self> {
        let mut words = words.into_iter();
        let mut read = Vec::new();
        for word in words.by_ref() {
            if word == "--" {
                break;
            }
            read.push(word.into_string().map_err(|word| anyhow!("argument {} is not UTF-8", word.display()))?);
        }
        Ok(Self { words: read, rest: words.collect() })
    }

    /// Takes the next word that is not an option, if it comes first.
    pub(crate) fn subcommand(&mut self) -> Option<String> {
        let first = self.words.first()?;
        (!first.starts_with('-')).then(|| self.words.remove(0))
    }

    /// Takes `--name`, if present.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let found = self.words.iter().position(|word| word == name);
        found.map(|at| self.words.remove(at)).is_some()
    }

    /// Takes `--name VALUE` or `--name=VALUE`, if present.
    pub(crate) fn value(&mut self, name: &str) -> Result<Option<String>> {
        let inline = format!("{name}=");
        if let Some(at) = self.words.iter().position(|word| word.starts_with(&inline)) {
            return Ok(Some(self.words.remove(at).split_off(inline.len())));
        }
        let Some(at) = self.words.iter().position(|word| word == name) else { return Ok(None) };
        self.words.remove(at);
        if at == self.words.len() || self.words[at].starts_with("--") {
            bail!("{name} needs a value");
        }
        Ok(Some(self.words.remove(at)))
    }

    /// Takes a value that must be there.
    pub(crate) fn required(&mut self, name: &str) -> Result<String> {
        self.value(name)?.ok_or_else(|| anyhow!("{name} is missing"))
    }

    /// Takes the words after `--`.
    pub(crate) fn rest(&mut self) -> Vec<OsString> {
        std::mem::take(&mut self.rest)
    }

    /// Takes all words that are left, for a program that reads them itself.
    pub(crate) fn words(self) -> Vec<OsString> {
        self.words.into_iter().map(OsString::from).chain(self.rest).collect()
    }

    /// Fails when a word was not understood.
    pub(crate) fn finish(self) -> Result<()> {
        let left: Vec<String> =
            self.words.into_iter().chain(self.rest.iter().map(|word| word.to_string_lossy().into_owned())).collect();
        if left.is_empty() { Ok(()) } else { bail!("not understood: {}", left.join(" ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Args {
        Args::new(line.split(' ').map(OsString::from)).expect("test words are UTF-8")
    }

    #[test]
    fn values_flags_and_the_rest_are_told_apart() {
        let mut args = args("exec --site sitea --dir=/x --json -- ls --json");
        assert_eq!(args.subcommand().as_deref(), Some("exec"));
        assert_eq!(args.required("--site").expect("given"), "sitea");
        assert_eq!(args.required("--dir").expect("given"), "/x");
        assert!(args.flag("--json") && !args.flag("--json"));
        assert_eq!(args.rest(), ["ls", "--json"]);
        args.finish().expect("all was read");
    }

    #[test]
    fn an_unknown_option_is_an_error() {
        assert_eq!(args("--yess").finish().expect_err("unknown").to_string(), "not understood: --yess");
    }

    #[test]
    fn an_option_without_its_value_is_an_error() {
        assert!(args("--dir --json").value("--dir").is_err());
    }
}
