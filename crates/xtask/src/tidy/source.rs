//! Rust text with its parts told apart: code, literals, comments, functions, tests.
//!
//! A reader of characters, no parser: enough to count and to look for names, in milliseconds for the whole tree.

use std::ops::RangeInclusive;

/// One source file. Line numbers start at 1.
pub(crate) struct Source {
    /// The text with comments and the inside of literals replaced by blanks; same lines, same columns.
    pub(crate) code: Vec<String>,
    /// String literals with the line on which they start.
    pub(crate) literals: Vec<(usize, String)>,
    /// Line comments and block comments with their line, without the markers.
    pub(crate) comments: Vec<(usize, String)>,
    pub(crate) functions: Vec<Item>,
    pub(crate) traits: Vec<Item>,
    tests: Vec<RangeInclusive<usize>>,
}

/// A named stretch of code with a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) name: String,
    pub(crate) lines: RangeInclusive<usize>,
}

impl Item {
    pub(crate) fn length(&self) -> usize {
        self.lines.end() - self.lines.start() + 1
    }
}

impl Source {
    /// `is_test` marks a file that holds nothing but tests.
    pub(crate) fn read(text: &str, is_test: bool) -> Self {
        let mut scanner = Scanner::new(text);
        scanner.run();
        let code: Vec<String> = scanner.out.lines().map(str::to_owned).collect();
        let functions = items(&code, "fn");
        let traits = items(&code, "trait");
        let tests = if is_test { vec![1..=code.len()] } else { test_stretches(&code, &functions) };
        Self { code, literals: scanner.literals, comments: scanner.comments, functions, traits, tests }
    }

    pub(crate) fn is_test(&self, line: usize) -> bool {
        self.tests.iter().any(|stretch| stretch.contains(&line))
    }

    /// Number of lines that are no test.
    pub(crate) fn length(&self) -> usize {
        (1..=self.code.len()).filter(|line| !self.is_test(*line)).count()
    }

    /// The innermost function around a line.
    pub(crate) fn function_at(&self, line: usize) -> Option<&Item> {
        self.functions.iter().filter(|function| function.lines.contains(&line)).min_by_key(|function| function.length())
    }

    /// Lines of code with their numbers.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.iter().enumerate().map(|(at, line)| (at + 1, line.as_str()))
    }
}

struct Scanner {
    text: Vec<char>,
    at: usize,
    line: usize,
    out: String,
    literals: Vec<(usize, String)>,
    comments: Vec<(usize, String)>,
}

impl Scanner {
    fn new(text: &str) -> Self {
        let text: Vec<char> = text.chars().collect();
        Self { at: 0, line: 1, out: String::with_capacity(text.len()), text, literals: Vec::new(), comments: Vec::new() }
    }

    fn run(&mut self) {
        while let Some(here) = self.peek(0) {
            match (here, self.peek(1)) {
                ('/', Some('/')) => self.line_comment(),
                ('/', Some('*')) => self.block_comment(),
                ('"', _) => self.string(),
                ('r', Some('"' | '#')) if !self.in_word() && self.raw_hashes(1).is_some() => self.raw_string(1),
                ('b', Some('r')) if !self.in_word() && self.raw_hashes(2).is_some() => self.raw_string(2),
                ('\'', _) if self.is_char_literal() => self.char_literal(),
                _ => self.keep(),
            }
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.text.get(self.at + ahead).copied()
    }

    fn in_word(&self) -> bool {
        self.at > 0 && (self.text[self.at - 1].is_alphanumeric() || self.text[self.at - 1] == '_')
    }

    fn keep(&mut self) {
        let here = self.text[self.at];
        self.line += usize::from(here == '\n');
        self.out.push(here);
        self.at += 1;
    }

    /// Passes over one character, which leaves a blank of its kind.
    fn blank(&mut self) -> char {
        let here = self.text[self.at];
        self.line += usize::from(here == '\n');
        self.out.push(if here == '\n' { '\n' } else { ' ' });
        self.at += 1;
        here
    }

    fn line_comment(&mut self) {
        let (line, mut said) = (self.line, String::new());
        while self.peek(0).is_some_and(|next| next != '\n') {
            said.push(self.blank());
        }
        self.comments.push((line, said));
    }

    fn block_comment(&mut self) {
        let (line, mut said, mut depth) = (self.line, String::new(), 0_u32);
        while let Some(here) = self.peek(0) {
            match (here, self.peek(1)) {
                ('/', Some('*')) => depth += 1,
                ('*', Some('/')) => depth -= 1,
                _ => {
                    said.push(self.blank());
                    continue;
                }
            }
            self.blank();
            self.blank();
            if depth == 0 {
                break;
            }
        }
        self.comments.push((line, said));
    }

    fn string(&mut self) {
        let (line, mut said) = (self.line, String::new());
        self.keep();
        while let Some(here) = self.peek(0).filter(|here| *here != '"') {
            said.push(self.blank());
            if here == '\\' && self.peek(0).is_some() {
                said.push(self.blank());
            }
        }
        if self.peek(0).is_some() {
            self.keep();
        }
        self.literals.push((line, said));
    }

    /// How many `#` stand before the quote of a raw string that starts `skip` characters from here.
    fn raw_hashes(&self, skip: usize) -> Option<usize> {
        let hashes = (0..).take_while(|n| self.peek(skip + n) == Some('#')).count();
        (self.peek(skip + hashes) == Some('"')).then_some(hashes)
    }

    fn raw_string(&mut self, skip: usize) {
        let (line, mut said) = (self.line, String::new());
        let hashes = self.raw_hashes(skip).unwrap_or(0);
        for _ in 0..=skip + hashes {
            self.keep();
        }
        let closes = |scanner: &Self| {
            scanner.peek(0) == Some('"') && (1..=hashes).all(|n| scanner.peek(n) == Some('#'))
        };
        while self.peek(0).is_some() && !closes(self) {
            said.push(self.blank());
        }
        for _ in 0..=hashes {
            if self.peek(0).is_some() {
                self.keep();
            }
        }
        self.literals.push((line, said));
    }

    /// `'x'` and `'\n'`, but not the lifetime `'x`.
    fn is_char_literal(&self) -> bool {
        self.peek(1) == Some('\\') || self.peek(2) == Some('\'')
    }

    fn char_literal(&mut self) {
        self.keep();
        if self.blank() == '\\' {
            self.blank();
        }
        while self.peek(0).is_some_and(|next| next != '\'' && next != '\n') {
            self.blank();
        }
        if self.peek(0).is_some() {
            self.keep();
        }
    }
}

/// All items of a keyword that have a body.
fn items(code: &[String], keyword: &str) -> Vec<Item> {
    let mut found = Vec::new();
    for (at, line) in code.iter().enumerate() {
        for (column, name) in declared(line, keyword) {
            if let Some(last) = body_end(code, at, column) {
                found.push(Item { name, lines: at + 1..=last + 1 });
            }
        }
    }
    found
}

/// Names that a line declares with a keyword, with the column behind each.
pub(crate) fn declared(line: &str, keyword: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (start, _) in line.match_indices(keyword) {
        let before = line[..start].chars().next_back();
        let rest = &line[start + keyword.len()..];
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') || !rest.starts_with(' ') {
            continue;
        }
        let name: String = rest.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if !name.is_empty() {
            found.push((start + keyword.len(), name));
        }
    }
    found
}

/// The line on which the body ends that starts behind a place; none if a semicolon comes first.
fn body_end(code: &[String], line: usize, column: usize) -> Option<usize> {
    let (mut braces, mut brackets) = (0_u32, 0_u32);
    for (at, text) in code.iter().enumerate().skip(line) {
        let from = if at == line { column } else { 0 };
        for character in text[from..].chars() {
            match character {
                '(' | '[' => brackets += 1,
                ')' | ']' => brackets = brackets.saturating_sub(1),
                '{' => braces += 1,
                '}' if braces == 1 => return Some(at),
                '}' => braces = braces.saturating_sub(1),
                ';' if braces == 0 && brackets == 0 => return None,
                _ => {}
            }
        }
    }
    None
}

/// Modules under `#[cfg(test)]` and functions under `#[test]`.
fn test_stretches(code: &[String], functions: &[Item]) -> Vec<RangeInclusive<usize>> {
    let mut stretches = Vec::new();
    for (at, line) in code.iter().enumerate() {
        let attribute = line.trim_start();
        if attribute.starts_with("#[cfg(test)]") {
            if let Some(end) = body_end(code, at, line.len()) {
                stretches.push(at + 1..=end + 1);
            }
        } else if attribute.starts_with("#[test]") || attribute.starts_with("#[tokio::test") {
            let first = functions.iter().filter(|function| *function.lines.start() > at).min_by_key(|f| *f.lines.start());
            stretches.extend(first.map(|function| at + 1..=*function.lines.end()));
        }
    }
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_comments_are_no_code() {
        let source = Source::read("let a = \"fn x {\"; // fn y {\nlet b = r#\"a \" b\"#; let c = '{'; fn z<'a>() {}\n", false);
        assert_eq!(source.literals, [(1, "fn x {".to_owned()), (2, "a \" b".to_owned())]);
        assert_eq!(source.functions, [Item { name: "z".into(), lines: 2..=2 }]);
        assert_eq!(source.comments, [(1, "// fn y {".to_owned())]);
    }

    #[test]
    fn a_function_ends_at_its_own_brace() {
        let source = Source::read("fn outer(x: [u8; 2]) -> T\nwhere T: X,\n{\n  if a { b }\n}\nfn declared();\n", false);
        assert_eq!(source.functions, [Item { name: "outer".into(), lines: 1..=5 }]);
    }

    #[test]
    fn tests_do_not_count() {
        let source = Source::read("fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() {}\n}\n", false);
        assert_eq!(source.length(), 1);
        assert!(source.is_test(4) && !source.is_test(1));
    }
}
