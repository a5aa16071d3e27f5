//! Quoting for the files that secrets end up in, so that no value can leave its place in one.

use super::{
    budget::{Budget, Draft},
    functions::{Args, Session},
    problem::Problem,
    value::Value,
};

/// Writes what stands for one character.
type Escape = fn(char, &mut Draft, &mut Budget) -> Result<(), Problem>;

/// A word for a POSIX shell. Between single quotes nothing has a meaning but the quote that ends them.
pub(super) fn quote_shell<'a>(args: &Args<'a>, session: &mut Session) -> Result<Value<'a>, Problem> {
    quoted(args, session, "'", |character, draft, budget| match character {
        '\'' => draft.push(r"'\''", budget),
        '\0' => Err(Problem::new("a shell has no way to write a NUL: take it out of the value")),
        other => draft.push_char(other, budget),
    })
}

/// A value of a .env file, as Docker Compose and the usual libraries read it between double quotes.
pub(super) fn quote_dotenv<'a>(args: &Args<'a>, session: &mut Session) -> Result<Value<'a>, Problem> {
    quoted(args, session, "\"", |character, draft, budget| match character {
        '\\' => draft.push(r"\\", budget),
        '"' => draft.push("\\\"", budget),
        '$' => draft.push(r"\$", budget),
        '\n' => draft.push(r"\n", budget),
        '\r' => draft.push(r"\r", budget),
        other => draft.push_char(other, budget),
    })
}

/// A double-quoted scalar of YAML 1.2: all that its `nb-json` does not print as it is, is escaped.
pub(super) fn quote_yaml<'a>(args: &Args<'a>, session: &mut Session) -> Result<Value<'a>, Problem> {
    quoted(args, session, "\"", |character, draft, budget| match character {
        '\\' => draft.push(r"\\", budget),
        '"' => draft.push("\\\"", budget),
        '\n' => draft.push(r"\n", budget),
        '\r' => draft.push(r"\r", budget),
        '\t' => draft.push(r"\t", budget),
        // Line ends of YAML 1.1, the byte order mark and what is no character also have to be escaped.
        '\0'..' ' | '\u{7F}'..='\u{A0}' | '\u{2028}' | '\u{2029}' | '\u{FEFF}' | '\u{FFFE}' | '\u{FFFF}' => {
            draft.push(&format!("\\u{:04X}", u32::from(character)), budget)
        }
        other => draft.push_char(other, budget),
    })
}

/// A value of a Java .properties file. All but ASCII is escaped: `Properties.load` reads Latin-1 from a file, which a Secret's UTF-8 is
/// not.
pub(super) fn quote_properties<'a>(args: &Args<'a>, session: &mut Session) -> Result<Value<'a>, Problem> {
    let budget = &mut session.budget;
    let text = args.subject_text(budget)?;
    let mut draft = Draft::sized(text.len(), budget)?;
    let mut leading = true;
    for character in text.chars() {
        leading &= character == ' ';
        match character {
            ' ' if leading => draft.push(r"\ ", budget)?,
            '\n' => draft.push(r"\n", budget)?,
            '\r' => draft.push(r"\r", budget)?,
            '\t' => draft.push(r"\t", budget)?,
            '\\' | ':' | '=' | '#' | '!' => {
                draft.push("\\", budget)?;
                draft.push_char(character, budget)?;
            }
            ' '..='~' => draft.push_char(character, budget)?,
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    draft.push(&format!("\\u{unit:04X}"), budget)?;
                }
            }
        }
    }
    Ok(Value::text(draft))
}

fn quoted<'a>(args: &Args<'a>, session: &mut Session, mark: &str, escape: Escape) -> Result<Value<'a>, Problem> {
    let budget = &mut session.budget;
    let text = args.subject_text(budget)?;
    let mut draft = Draft::sized(text.len().saturating_add(2), budget)?;
    draft.push(mark, budget)?;
    for character in text.chars() {
        escape(character, &mut draft, budget)?;
    }
    draft.push(mark, budget)?;
    Ok(Value::text(draft))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::super::tests::{failure, rendered};

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        for text in ["", "it's", "$(id) `id` \\ \" ! * ~ # & ; | <>", "two\nlines", "é😀", "''", "-n"] {
            let script = rendered("printf %s {{ x | quote_shell }}", &[("x", text)]);
            let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
        }
        assert!(failure("{{ x | quote_shell }}", &[("x", "a\0")]).contains("NUL"));
    }

    #[test]
    fn properties_are_ascii_with_every_sign_of_theirs_escaped() {
        for (text, quoted) in [
            ("", ""),
            ("  a b ", r"\ \ a b "),
            ("a=b:c#d!e\\f", r"a\=b\:c\#d\!e\\f"),
            ("1\n2\r3\t4\u{C}", r"1\n2\r3\t4\u000C"),
            ("é€😀", r"\u00E9\u20AC\uD83D\uDE00"),
        ] {
            assert_eq!(rendered("{{ x | quote_properties }}", &[("x", text)]), quoted);
        }
    }

    #[test]
    fn dotenv_values_cannot_refer_to_others() {
        assert_eq!(rendered("{{ x | quote_dotenv }}", &[("x", "a$B${C}\"\\\r\n")]), r#""a\$B\${C}\"\\\r\n""#);
    }

    proptest! {
        #[test]
        fn yaml_reads_back_what_was_quoted(text in any::<String>()) {
            let yaml = rendered("a: {{ x | quote_yaml }}\nb: 1\n", &[("x", &text)]);
            let read: std::collections::BTreeMap<String, serde_json::Value> = serde_saphyr::from_str(&yaml).unwrap();
            prop_assert_eq!(&read["a"], &serde_json::Value::from(text));
            prop_assert_eq!(&read["b"], &serde_json::Value::from(1));
        }
    }
}
