//! A report as one page: no scripts, nothing from elsewhere, readable on paper, and with the file that it was made of inside.
//!
//! ```text
//!   report, key ──frame──▶ <!doctype html> … <template>   signed with the file
//!   frame, file ──page───▶ <!doctype html> … <template>the file, escaped</template>
//!               ◀─carried─
//! ```
//!
//! Invariants: 1. Text of others goes through [`text`] and through nothing else; no attribute but a number of ours holds any of it.
//! 2. The page is a function of the report, the key and the file. Its digest is signed, so a page that an older build has written
//! can be verified as well.

mod sections;

use std::borrow::Cow;

use super::Report;
use crate::PublicKey;

const BEGINS: &str = "<!doctype html>";
const CARRIES: &str = "\n<template id=\"switchback-evidence\">\n";
const CARRIED: &str = "</template>\n</body>\n</html>\n";
const STYLE: &str = include_str!("html/style.css");

/// The page down to where the file begins that it carries; it is signed with that file. `key` is the one that signs.
#[must_use]
pub(crate) fn frame(report: &Report, key: PublicKey) -> String {
    let title = text(&report.conclusion.sentence);
    let body = sections::all(report, key);
    format!(
        "{BEGINS}\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{body}{CARRIES}"
    )
}

/// The whole page.
#[must_use]
pub(crate) fn page(frame: &str, file: &str) -> String {
    format!("{frame}{}{CARRIED}", escaped(file))
}

/// Whether this is a page and not a file of records.
#[must_use]
pub(crate) fn is_page(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().first() == Some(&b'<')
}

/// What a page is made of.
pub(crate) struct Carried<'a> {
    /// The page above the file.
    pub(crate) frame: &'a str,
    /// The file.
    pub(crate) file: String,
    /// The page's line on which the file begins.
    pub(crate) line: usize,
}

/// Takes a page apart.
///
/// # Errors
/// The line on which the page is none of ours, and why.
pub(crate) fn carried(bytes: &[u8]) -> Result<Carried<'_>, (usize, &'static str)> {
    let line_at = |at: usize| bytes.iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
    let page = std::str::from_utf8(bytes).map_err(|error| (line_at(error.valid_up_to()), "there are bytes that are no text"))?;
    // Where the mark itself is damaged, the file is still found by how it begins and ends: nothing else on a page has bare quotes.
    let near = |mark: &str, or: usize| page.rfind(mark).map_or(or, |at| line_at(at + mark.len()));
    let missing = || (near("\n[\n{\"file\":", 2).saturating_sub(2), "the page carries no file that could be checked");
    let begins = page.find(CARRIES).ok_or_else(missing)? + CARRIES.len();
    let open = || (near("\n]\n", line_at(begins)), "the file inside the page has no end");
    let ends = page.rfind("</template>").filter(|ends| *ends >= begins).ok_or_else(open)?;
    let inside = page.get(begins..ends).unwrap_or_default();
    let file = unescaped(inside).map_err(|at| (line_at(begins + at), "the file inside the page is not in the form in which it is written"))?;
    let tail = page.get(ends..).unwrap_or_default();
    if tail != CARRIED {
        let same = tail.bytes().zip(CARRIED.bytes()).take_while(|(a, b)| a == b).count();
        return Err((line_at(ends + same), "behind the file the page does not end as it is written"));
    }
    Ok(Carried { frame: page.get(..begins).unwrap_or_default(), file, line: line_at(begins) })
}

/// The words of others: harmless in a page, and without power over its direction.
#[must_use]
pub(crate) fn text(words: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut shown = String::with_capacity(words.len());
    for c in words.chars() {
        if (c.is_control() && c != '\n') || turns(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    escaped(&shown).replace('"', "&quot;").replace('\'', "&#39;")
}

/// Only what would end the text.
fn escaped(file: &str) -> String {
    file.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The other way; only those three, so that there is one form.
fn unescaped(inside: &str) -> Result<String, usize> {
    let mut file = String::with_capacity(inside.len());
    let mut rest = inside;
    while let Some(at) = rest.find(['&', '<', '>']) {
        let (plain, entity) = rest.split_at(at);
        file.push_str(plain);
        let known = [("&amp;", '&'), ("&lt;", '<'), ("&gt;", '>')].into_iter().find(|(name, _)| entity.starts_with(name));
        let (name, meant) = known.ok_or(inside.len() - entity.len())?;
        file.push(meant);
        rest = entity.get(name.len()..).unwrap_or_default();
    }
    file.push_str(rest);
    Ok(file)
}

/// A hash in groups, so that it breaks where a page ends and can be compared by eye.
fn grouped(hash: &str) -> Cow<'_, str> {
    if hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Cow::Borrowed(hash);
    }
    let groups: Vec<String> = hash.as_bytes().chunks(8).map(|group| String::from_utf8_lossy(group).into_owned()).collect();
    Cow::Owned(groups.join(" "))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails where its sentence does not hold")]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_stays_a_name() {
        let hostile = "<script>alert('1')</script>\"><img src=x onerror=alert(1)>&lt;\u{202e}gnp\u{0}\u{1b}[31m";
        let shown = text(hostile);
        assert!(!shown.contains(['<', '>', '"', '\'', '\u{202e}', '\u{0}', '\u{1b}']), "{shown}");
        assert!(shown.contains("&amp;lt;") && shown.contains("\\u{202e}"), "{shown}");
    }

    #[test]
    fn what_a_page_carries_reads_back_in_one_form_only() {
        for file in ["", "a & b < c > d", "&lt;", "\"&amp;\"", "ä\n]\n"] {
            assert_eq!(unescaped(&escaped(file)).unwrap(), file);
        }
        assert_eq!(unescaped("ab&quot;"), Err(2));
        assert_eq!(unescaped("a<b"), Err(1));
    }
}
