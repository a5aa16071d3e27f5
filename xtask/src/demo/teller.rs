//! How the demo speaks: calm, at most 100 columns, readable without colours. Colours are for terminals.

use std::{
    env,
    io::{self, IsTerminal, Stdout, Write},
    time::Duration,
};

use anyhow::{Result, bail};

use crate::stage::{Call, Cluster, Printed};

/// Columns that any terminal and any README has.
const WIDTH: usize = 100;

const INDENT: &str = "   ";

pub(super) struct Teller {
    out: Stdout,
    colours: bool,
}

#[derive(Clone, Copy)]
enum Ink {
    Title,
    Typed,
    Printed,
    Good,
}

impl Teller {
    pub(super) fn new() -> Self {
        let out = io::stdout();
        Self { colours: out.is_terminal() && env::var_os("NO_COLOR").is_none(), out }
    }

    /// A part of the story begins.
    pub(super) fn title(&self, text: &str) {
        self.line("");
        self.line(&self.ink(Ink::Title, text));
    }

    /// Prose.
    pub(super) fn say(&self, text: &str) {
        for line in wrapped(text, WIDTH - INDENT.len()) {
            self.line(&format!("{INDENT}{line}"));
        }
    }

    /// Text as it stands, set off.
    pub(super) fn quote(&self, text: &str) {
        let width = WIDTH - INDENT.len() - 2;
        for line in text.trim_end().lines() {
            // What fits is left alone: it may be a table.
            let lines = if line.chars().count() > width { wrapped(line, width) } else { vec![line.to_owned()] };
            for line in lines {
                self.line(&format!("{INDENT}  {}", self.ink(Ink::Printed, &line)));
            }
        }
    }

    /// What came of it.
    pub(super) fn came(&self, text: &str, after: Option<Duration>) {
        let after = after.map(|after| format!(" ({:.1} s)", after.as_secs_f64())).unwrap_or_default();
        let lines = wrapped(&format!("{text}{after}"), WIDTH - INDENT.len() - 2);
        for (index, line) in lines.iter().enumerate() {
            let mark = if index == 0 { self.ink(Ink::Good, "✓") } else { " ".to_owned() };
            self.line(&format!("{INDENT}{mark} {line}"));
        }
    }

    /// What a user would type.
    pub(super) fn typed(&self, call: &Call) {
        let lines = call.lines(WIDTH - INDENT.len() - 2);
        for (index, line) in lines.iter().enumerate() {
            let prompt = if index == 0 { "$ " } else { "  " };
            self.line(&format!("{INDENT}{}", self.ink(Ink::Typed, &format!("{prompt}{line}"))));
        }
    }

    /// Types a call that must succeed, and shows what it prints.
    pub(super) async fn show(&self, cluster: &Cluster, call: Call) -> Result<String> {
        let printed = self.show_any(cluster, &call).await?;
        if !printed.ok {
            bail!("this did not succeed: {}", call.lines(usize::MAX).join("\n"));
        }
        Ok(printed.stdout)
    }

    /// Types a call, and shows what it prints, whether it succeeds or not.
    pub(super) async fn show_any(&self, cluster: &Cluster, call: &Call) -> Result<Printed> {
        self.typed(call);
        let printed = cluster.run(call).await?;
        self.quote(&printed.stdout);
        if !printed.ok {
            self.quote(&printed.stderr);
        }
        Ok(printed)
    }

    fn ink(&self, ink: Ink, text: &str) -> String {
        if !self.colours || text.is_empty() {
            return text.to_owned();
        }
        let code = match ink {
            Ink::Title => "1",
            Ink::Typed => "36",
            Ink::Printed => "2",
            Ink::Good => "32",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    fn line(&self, text: &str) {
        // A reader who left (`| head`) is no reason to leave a cluster half cleaned up.
        drop(writeln!(self.out.lock(), "{text}"));
    }
}

/// Breaks prose between words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_broken_between_words() {
        assert_eq!(wrapped("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrapped("unbreakable", 4), ["unbreakable"]);
        assert_eq!(wrapped("", 4), Vec::<String>::new());
    }
}
