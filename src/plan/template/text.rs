//! The plain filters and tests of Jinja, with their usual meaning.
//!
//! What grows a text or makes a list pays for each part before it is made.

#![expect(clippy::unnecessary_wraps, reason = "one signature for all that the table holds")]

use std::collections::BTreeMap;

use super::{
    budget::{Budget, Draft},
    functions::{Args, Session},
    problem::Problem,
    value::{Text, Value},
};

/// The most spaces that `indent` puts before a line.
const MAX_INDENT: usize = 128;

type Answer<'a> = Result<Value<'a>, Problem>;

/// A part of a text as a text of its own.
fn copy<'a>(part: &str, budget: &mut Budget) -> Result<Value<'a>, Problem> {
    let mut draft = Draft::sized(part.len(), budget)?;
    draft.push(part, budget)?;
    Ok(Value::text(draft))
}

pub(super) fn default<'a>(args: &Args<'a>, _: &mut Session) -> Answer<'a> {
    let stands = !matches!(args.subject, Value::Undefined) && (args.subject.is_true() || !args.is_true(1));
    Ok(match args.get(0) {
        _ if stands => args.subject.clone(),
        Some(value) => value.clone(),
        None => Value::Text(Text::Borrowed("")),
    })
}

pub(super) fn upper<'a>(args: &Args<'a>, session: &mut Session) -> Answer<'a> {
    change_case(args, session, char::to_uppercase)
}

pub(super) fn lower<'a>(args: &Args<'a>, session: &mut Session) -> Answer<'a> {
    change_case(args, session, char::to_lowercase)
}

fn change_case<'a, I: Iterator<Item = char>>(
    args: &Args<'a>,
    session: &mut Session,
    change: impl Fn(char) -> I,
) -> Answer<'a> {
    let budget = &mut session.budget;
    let text = args.subject_text(budget)?;
    let mut draft = Draft::sized(text.len(), budget)?;
    for character in text.chars().flat_map(change) {
        draft.push_char(character, budget)?;
    }
    Ok(Value::text(draft))
}

pub(super) fn trim<'a>(args: &Args<'a>, session: &mut Session) -> Answer<'a> {
    let budget = &mut session.budget;
    let text = args.subject_text(budget)?;
    let trimmed = match args.text(0, budget)? {
        Some(characters) => {
            // Each character that goes is looked for among these.
            budget.spend_bytes(text.len().saturating_mul(characters.len()))?;
            text.trim_matches(|character| characters.contains(character))
        }
        None => text.trim(),
    };
    copy(trimmed, budget)
}

pub(super) fn replace<'a>(args: &Args<'a>, session: &mut Session) -> Answer<'a> {
    let budget = &mut session.budget;
    let (text, old, new) = (args.subject_text(budget)?, args.needed_text(0, budget)?, args.needed_text(1, budget)?);
    if old.is_empty() {
        return Err(Problem::new("replace has nothing to look for: give it a text that is not empty"));
    }
    let mut draft = Draft::sized(text.len(), budget)?;
    let mut rest = &*text;
    while let Some((before, after)) = rest.split_once(&*old) {
        draft.push(before, budget)?;
        draft.push(&new, budget)?;
        budget.spend_bytes(old.len())?;
        rest = after;
    }
    draft.push(rest, budget)?;
    Ok(Value::text(draft))
}

pub(super) fn indent<'a>(args: &Args<'a>, session: &mut Session) -> Answer<'a> {
    let budget = &mut session.budget;
    let text = args.subject_text(budget)?;
    let width = match args.get(0) {
        Some(Value::Int(width)) => usize::try_from(*width).ok().filter(|width| *width <= MAX_INDENT),
        _ => None,
    };
    let Some(width) = width else {
        return Err(Problem::new(format!("the width of indent is a number from 0 to {MAX_INDENT}")));
    };
    let margin = " ".repeat(width);
    let mut draft = Draft::sized(text.len(), budget)?;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let empty = matches!(line, "\n" | "\r\n");
        if !empty && (number > 0 || args.is_true(1)) {
            draft.push(&margin, budget)?;
        }
        draft.push(line, budget)?;
    }
    Ok(Value::text(draft))
}

pub(super) fn join<'a>(args: &Args<'a>, session: &mut Session) -> Answer<'a> {
    let budget = &mut session.budget;
    let Value::List(list) = &args.subject else { return Err(args.refusal("a list", &args.subject)) };
    let separator = args.text(0, budget)?.unwrap_or(Text::Borrowed(""));
    let mut draft = Draft::new();
    for (number, item) in list.items.iter().enumerate() {
        budget.spend_step()?;
        if number > 0 {
            draft.push(&separator, budget)?;
        }
        draft.push(&item.to_text()?, budget)?;
    }
    Ok(Value::text(draft))
}

pub(super) fn split<'a>(args: &Args<'a>, session: &mut Session) -> Answer<'a> {
    let budget = &mut session.budget;
    let text = args.subject_text(budget)?;
    match args.text(0, budget)? {
        Some(separator) if separator.is_empty() => {
            Err(Problem::new("split has nothing to look for: give it a separator that is not empty"))
        }
        Some(separator) => parts(text.split(&*separator), budget),
        None => parts(text.split_whitespace(), budget),
    }
}

pub(super) fn lines<'a>(args: &Args<'a>, session: &mut Session) -> Answer<'a> {
    let text = args.subject_text(&mut session.budget)?;
    parts(text.lines(), &mut session.budget)
}

fn parts<'a, 't>(found: impl Iterator<Item = &'t str>, budget: &mut Budget) -> Answer<'a> {
    let mut items = Vec::new();
    for found in found {
        budget.spend_items(1)?;
        items.push(copy(found, budget)?);
    }
    Value::list(items)
}

pub(super) fn first<'a>(args: &Args<'a>, session: &mut Session) -> Answer<'a> {
    end(args, session, <[_]>::first, |text| text.chars().next())
}

pub(super) fn last<'a>(args: &Args<'a>, session: &mut Session) -> Answer<'a> {
    end(args, session, <[_]>::last, |text| text.chars().next_back())
}

fn end<'a>(
    args: &Args<'a>,
    session: &mut Session,
    of_list: impl for<'v> Fn(&'v [Value<'a>]) -> Option<&'v Value<'a>>,
    of_text: impl Fn(&str) -> Option<char>,
) -> Answer<'a> {
    let found = match &args.subject {
        Value::List(list) => of_list(&list.items).cloned(),
        Value::Text(text) => match of_text(text) {
            Some(character) => {
                let mut draft = Draft::new();
                draft.push_char(character, &mut session.budget)?;
                Some(Value::text(draft))
            }
            None => None,
        },
        other => return Err(args.refusal("a list or a text", other)),
    };
    Ok(found.unwrap_or(Value::Undefined))
}

pub(super) fn length<'a>(args: &Args<'a>, session: &mut Session) -> Answer<'a> {
    let length = match &args.subject {
        Value::List(list) => list.items.len(),
        Value::Map(map) => map.entries.len(),
        _ => args.subject_text(&mut session.budget)?.chars().count(),
    };
    Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
}

pub(super) fn items<'a>(args: &Args<'a>, session: &mut Session) -> Answer<'a> {
    let Value::Map(map) = &args.subject else { return Err(args.refusal("a map", &args.subject)) };
    let entries: &BTreeMap<_, _> = &map.entries;
    session.budget.spend_items(entries.len().saturating_mul(3))?;
    let pairs = entries.iter().map(|(name, value)| Value::list(vec![Value::Text(name.clone()), value.clone()]));
    Value::list(pairs.collect::<Result<_, _>>()?)
}

pub(super) fn is_defined<'a>(args: &Args<'a>, _: &mut Session) -> Answer<'a> {
    Ok(Value::Bool(!matches!(args.subject, Value::Undefined)))
}

pub(super) fn is_undefined<'a>(args: &Args<'a>, _: &mut Session) -> Answer<'a> {
    Ok(Value::Bool(matches!(args.subject, Value::Undefined)))
}

pub(super) fn is_none<'a>(args: &Args<'a>, _: &mut Session) -> Answer<'a> {
    Ok(Value::Bool(matches!(args.subject, Value::None)))
}

pub(super) fn is_startingwith<'a>(args: &Args<'a>, session: &mut Session) -> Answer<'a> {
    let budget = &mut session.budget;
    let (text, prefix) = (args.subject_text(budget)?, args.needed_text(0, budget)?);
    Ok(Value::Bool(text.starts_with(&*prefix)))
}

pub(super) fn is_endingwith<'a>(args: &Args<'a>, session: &mut Session) -> Answer<'a> {
    let budget = &mut session.budget;
    let (text, suffix) = (args.subject_text(budget)?, args.needed_text(0, budget)?);
    Ok(Value::Bool(text.ends_with(&*suffix)))
}

pub(super) fn is_eq<'a>(args: &Args<'a>, session: &mut Session) -> Answer<'a> {
    let other = args.get(0).unwrap_or(&Value::None);
    Ok(Value::Bool(args.subject.equals(other, &mut session.budget)?))
}

pub(super) fn is_in<'a>(args: &Args<'a>, session: &mut Session) -> Answer<'a> {
    let other = args.get(0).unwrap_or(&Value::None);
    Ok(Value::Bool(other.holds(&args.subject, &mut session.budget)?))
}
