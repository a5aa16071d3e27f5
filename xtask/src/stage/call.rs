//! A call of kubectl or Helm: what a person would type, and what really runs. Runs nothing itself.

use std::borrow::Cow;

/// The program that is called; which binary that is, and which cluster it talks to, is up to [`super::Cluster`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Kubectl,
    Helm,
}

/// A program with its arguments and, perhaps, its standard input.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(super) program: Program,
    pub(super) arguments: Vec<String>,
    pub(super) input: String,
}

/// The words of a command, split at spaces; what holds spaces itself follows by [`Call::arg`].
pub(crate) fn kubectl(words: &str) -> Call {
    Call::new(Program::Kubectl, words)
}

/// The same for Helm.
pub(crate) fn helm(words: &str) -> Call {
    Call::new(Program::Helm, words)
}

impl Call {
    fn new(program: Program, words: &str) -> Self {
        Self { program, arguments: Vec::new(), input: String::new() }.words(words)
    }

    /// More arguments, split at spaces.
    pub(crate) fn words(mut self, words: &str) -> Self {
        self.arguments.extend(words.split_whitespace().map(str::to_owned));
        self
    }

    pub(crate) fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// What it reads from its standard input.
    pub(crate) fn input(mut self, text: impl Into<String>) -> Self {
        self.input = text.into();
        self
    }

    /// As a person types it into a shell, in lines of at most `width` characters.
    pub(crate) fn lines(&self, width: usize) -> Vec<String> {
        const CONTINUED: &str = " \\";
        let program = match self.program {
            Program::Kubectl => "kubectl",
            Program::Helm => "helm",
        };
        let mut lines = Vec::new();
        let mut line = program.to_owned();
        for argument in &self.arguments {
            let argument = quoted(argument);
            if line.chars().count() + 1 + argument.chars().count() + CONTINUED.len() > width {
                lines.push(line + CONTINUED);
                line = format!("    {argument}");
            } else {
                line.push(' ');
                line.push_str(&argument);
            }
        }
        if self.input.is_empty() {
            lines.push(line);
        } else {
            lines.push(format!("{line} <<EOF"));
            lines.extend(self.input.trim_end().lines().map(str::to_owned));
            lines.push("EOF".to_owned());
        }
        lines
    }
}

/// A word as the shell wants it.
fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        Cow::Borrowed(word)
    } else {
        Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_shell_would_take_apart_is_quoted() {
        let call = kubectl("patch oks db -p").arg(r#"{"it's": 1}"#);
        assert_eq!(call.lines(100), [r#"kubectl patch oks db -p '{"it'\''s": 1}'"#]);
        assert_eq!(kubectl("get secret").arg("").lines(100), ["kubectl get secret ''"]);
    }

    #[test]
    fn long_lines_are_broken_as_a_shell_wants_it() {
        let lines = helm("install okms-operator charts/okms-operator").lines(32);
        assert_eq!(lines, ["helm install okms-operator \\", "    charts/okms-operator"]);
    }

    #[test]
    fn the_input_is_shown_as_a_here_document() {
        let lines = kubectl("apply -f -").input("kind: OkmsSecret\n").lines(100);
        assert_eq!(lines, ["kubectl apply -f - <<EOF", "kind: OkmsSecret", "EOF"]);
    }
}
