//! PEM: the blocks of a bundle, and a chain of them.
//!
//! Nothing here looks into a block; that a certificate and its key fit is checked where a Secret of their type is made.

use super::{
    budget::{Budget, Draft},
    functions::{Args, Session},
    problem::Problem,
    value::Value,
};

pub(super) fn pem_blocks<'a>(args: &Args<'a>, session: &mut Session) -> Result<Value<'a>, Problem> {
    let budget = &mut session.budget;
    let text = args.subject_text(budget)?;
    let label = args.text(0, budget)?;
    let blocks = blocks(&text, label.as_deref(), budget)?;
    Value::list(blocks.into_iter().map(Value::text).collect())
}

pub(super) fn pem_chain<'a>(args: &Args<'a>, session: &mut Session) -> Result<Value<'a>, Problem> {
    let budget = &mut session.budget;
    let Value::List(list) = &args.subject else { return Err(args.refusal("a list of PEM texts", &args.subject)) };
    let mut chain = Draft::new();
    for item in &list.items {
        let text = item.to_text()?;
        budget.spend_bytes(text.len())?;
        for block in blocks(&text, None, budget)? {
            chain.push(&block.finish(), budget)?;
        }
    }
    Ok(Value::text(chain))
}

/// The blocks of this label, or all; there is at least one. Lines lose the space around them, as in a bundle that was indented.
fn blocks(text: &str, label: Option<&str>, budget: &mut Budget) -> Result<Vec<Draft>, Problem> {
    let mut found = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let Some(this) = between(line, "-----BEGIN ") else { continue };
        budget.spend_items(1)?;
        let mut block = Draft::new();
        let mut next = Some(line);
        let closed = loop {
            let Some(line) = next else { break None };
            block.push(line, budget)?;
            block.push("\n", budget)?;
            if let Some(end) = between(line, "-----END ") {
                break Some(end);
            }
            next = lines.next();
        };
        if closed != Some(this) {
            return Err(Problem::new("a PEM block is cut off: there is no line -----END … that fits its -----BEGIN …"));
        }
        if label.is_none_or(|label| label == this) {
            found.push(block);
        }
    }
    if found.is_empty() {
        let what = if label.is_some() { "PEM block of this label" } else { "PEM block" };
        return Err(Problem::new(format!("there is no {what}, which begins with a line -----BEGIN …")));
    }
    Ok(found)
}

fn between<'t>(line: &'t str, start: &str) -> Option<&'t str> {
    line.strip_prefix(start)?.strip_suffix("-----")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{failure, rendered};

    const BUNDLE: &str = "Bag Attributes\n-----BEGIN CERTIFICATE-----\r\nAAAA\r\n-----END CERTIFICATE-----\r\nsubject=x\n  \
                          -----BEGIN PRIVATE KEY-----\n  BBBB\n  -----END PRIVATE KEY-----\n-----BEGIN CERTIFICATE-----\nCCCC\n\
                          -----END CERTIFICATE-----";

    fn block(label: &str, content: &str) -> String {
        format!("-----BEGIN {label}-----\n{content}\n-----END {label}-----\n")
    }

    #[test]
    fn blocks_are_taken_out_by_label_or_all() {
        let (one, key, two) =
            (block("CERTIFICATE", "AAAA"), block("PRIVATE KEY", "BBBB"), block("CERTIFICATE", "CCCC"));
        let data = &[("b", BUNDLE)];
        assert_eq!(rendered("{{ b | pem_blocks | join }}", data), format!("{one}{key}{two}"));
        assert_eq!(rendered("{{ b | pem_blocks('CERTIFICATE') | pem_chain }}", data), format!("{one}{two}"));
        assert_eq!(rendered("{{ b | pem_blocks(label='PRIVATE KEY') | first }}", data), key);
        assert_eq!(rendered("{{ [b, b] | pem_chain }}", data), format!("{one}{key}{two}{one}{key}{two}"));
    }

    #[test]
    fn no_block_or_half_a_block_is_an_error() {
        assert!(failure("{{ b | pem_blocks('X') }}", &[("b", BUNDLE)]).contains("no PEM block of this label"));
        assert!(failure("{{ b | pem_blocks }}", &[("b", "canary")]).contains("no PEM block"));
        assert!(failure("{{ [b, 'x'] | pem_chain }}", &[("b", BUNDLE)]).contains("no PEM block"));
        for cut in [60, BUNDLE.len() - 3] {
            assert!(failure("{{ b | pem_blocks }}", &[("b", &BUNDLE[..cut])]).contains("cut off"));
        }
        let mixed = "-----BEGIN A-----\n-----END B-----\n";
        assert!(failure("{{ b | pem_blocks }}", &[("b", mixed)]).contains("cut off"));
    }
}
