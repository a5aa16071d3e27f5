//! Templates that the parser mostly takes, made of whatever bytes an input has.
//!
//! Mutated text finds what is wrong with the parser; these find what is wrong behind it.

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use okms_operator::plan::{FunctionDoc, FunctionKind, template_functions};

/// How deep expressions and blocks are put into each other.
const DEPTH: usize = 6;

const OPERATORS: &[&str] = &[
    "~", "~", "+", "-", "*", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or", "|", ".", "is", "if", ",",
];

const LITERALS: &[&str] = &[
    "0",
    "1",
    "-1",
    "2.5",
    "1e3",
    "9223372036854775807",
    "''",
    "'a'",
    "'\\n'",
    "'='",
    "'{}'",
    "'[1,{\"a\":null}]'",
    "'-----BEGIN A-----\\nAA\\n-----END A-----'",
    "none",
    "true",
    "false",
    "[]",
    "{}",
    "loop",
    "loop.index",
    "loop.length",
    "data",
    "x",
    "y",
    "nope",
];

/// A template over keys of these names.
pub fn template(bytes: &[u8], names: &[&str]) -> String {
    let mut maker = Maker { bytes: Unstructured::new(bytes), names, text: String::new() };
    while !maker.bytes.is_empty() && maker.text.len() < 4096 {
        // That the bytes are all used up is no failure: what is there is a template, if one that ends too early.
        if maker.statement(0).is_err() {
            break;
        }
    }
    maker.text
}

struct Maker<'a> {
    bytes: Unstructured<'a>,
    names: &'a [&'a str],
    text: String,
}

impl Maker<'_> {
    fn say(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn body(&mut self, depth: usize) -> Result<()> {
        for _ in 0..self.bytes.int_in_range(0..=3)? {
            self.statement(depth + 1)?;
        }
        Ok(())
    }

    fn statement(&mut self, depth: usize) -> Result<()> {
        let kind = if depth < DEPTH { self.bytes.int_in_range(0..=12)? } else { 0 };
        match kind {
            0..=3 => self.tag("{{ ", depth, " }}")?,
            4 => {
                self.tag("{% if ", depth, " %}")?;
                self.body(depth)?;
                if self.bytes.arbitrary()? {
                    self.tag("{% elif ", depth, " %}")?;
                    self.body(depth)?;
                }
                self.say("{% else %}");
                self.body(depth)?;
                self.say("{% endif %}");
            }
            5 | 6 => {
                let target = *self.bytes.choose(&["x", "y", "x, y", "data"])?;
                self.say("{% for ");
                self.say(target);
                self.tag(" in ", depth, "")?;
                if self.bytes.arbitrary()? {
                    self.tag(" if ", depth, "")?;
                }
                self.say(" %}");
                self.body(depth)?;
                self.say("{% endfor %}");
            }
            7 | 8 => {
                let target = *self.bytes.choose(&["x", "y", "x, y", "loop"])?;
                self.say("{% set ");
                self.say(target);
                self.tag(" = ", depth, " %}")?;
            }
            9 => {
                self.say("{% set x");
                if self.bytes.arbitrary()? {
                    self.filters(depth)?;
                }
                self.say(" %}");
                self.body(depth)?;
                self.say("{% endset %}");
            }
            10 => {
                self.say("{% filter upper");
                self.filters(depth)?;
                self.say(" %}");
                self.body(depth)?;
                self.say("{% endfilter %}");
            }
            11 => {
                self.tag("{% with y = ", depth, " %}")?;
                self.body(depth)?;
                self.say("{% endwith %}");
            }
            _ => {
                let text =
                    *self.bytes.choose(&["\n", " - ", "{% raw %}{{{% endraw %}", "{#- c -#}", "{%- do x() %}"])?;
                self.say(text);
            }
        }
        Ok(())
    }

    fn tag(&mut self, before: &str, depth: usize, after: &str) -> Result<()> {
        self.say(before);
        self.expression(depth)?;
        self.say(after);
        Ok(())
    }

    fn expression(&mut self, depth: usize) -> Result<()> {
        let kind = if depth < DEPTH { self.bytes.int_in_range(0..=15)? } else { 0 };
        match kind {
            0..=2 => {
                let name = if self.names.is_empty() { "data" } else { *self.bytes.choose(self.names)? };
                self.say(name);
            }
            3 | 4 => {
                let literal = *self.bytes.choose(LITERALS)?;
                self.say(literal);
            }
            5..=7 => {
                self.tag("(", depth + 1, ")")?;
                self.filters(depth)?;
            }
            8 => {
                self.tag("(", depth + 1, ") is ")?;
                self.call(FunctionKind::Test, depth)?;
            }
            9 => self.call(FunctionKind::Function, depth)?,
            10 => {
                self.expression(depth + 1)?;
                let operator = *self.bytes.choose(OPERATORS)?;
                self.say(&format!(" {operator} "));
                self.expression(depth + 1)?;
            }
            11 => {
                self.tag("(", depth + 1, ")[")?;
                let from_end: bool = self.bytes.arbitrary()?;
                self.tag("", depth + 1, if from_end { ":]" } else { "]" })?;
            }
            12 => self.tag("(", depth + 1, ").a")?,
            13 => {
                self.tag("[", depth + 1, ", ")?;
                self.tag("", depth + 1, "]")?;
            }
            14 => {
                self.tag("{", depth + 1, ": ")?;
                self.tag("", depth + 1, "}")?;
            }
            _ => {
                self.tag("(", depth + 1, " if ")?;
                self.tag("", depth + 1, " else ")?;
                self.tag("", depth + 1, ")")?;
            }
        }
        Ok(())
    }

    fn filters(&mut self, depth: usize) -> Result<()> {
        for _ in 0..self.bytes.int_in_range(1..=3)? {
            self.say(" | ");
            self.call(FunctionKind::Filter, depth)?;
        }
        Ok(())
    }

    fn call(&mut self, kind: FunctionKind, depth: usize) -> Result<()> {
        let names: Vec<_> = template_functions().filter(|doc| doc.kind == kind).map(FunctionDoc::name).collect();
        let name = *self.bytes.choose(&names)?;
        self.say(name);
        self.say("(");
        for _ in 0..self.bytes.int_in_range(0..=3)? {
            self.tag("", depth + 1, ",")?;
        }
        self.say(")");
        Ok(())
    }
}
