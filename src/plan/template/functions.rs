//! What a template can call, and how its arguments find their places.
//!
//! A function sees nothing but its arguments and the [`Session`]: no clock, no file, no network, no random number. Next:
//! [`table`](super::table), which has them all.

use super::{
    super::render::quote,
    budget::Budget,
    problem::Problem,
    table::TABLE,
    value::{Text, Value},
};

/// One filter, test or function, as its documentation tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FunctionDoc {
    pub kind: FunctionKind,
    /// Its name and, where it has some, its arguments, those that may be left out with what they then are.
    pub signature: &'static str,
    /// A sentence.
    pub help: &'static str,
    /// A template that uses it, and needs no keys.
    pub example: &'static str,
    /// What that makes.
    pub result: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FunctionKind {
    /// `{{ value | name(arguments) }}`
    Filter,
    /// `{% if value is name(arguments) %}`
    Test,
    /// `{{ name(arguments) }}`
    Function,
}

impl FunctionDoc {
    pub fn name(&self) -> &'static str {
        self.signature.split('(').next().unwrap_or_default()
    }

    /// The names of the arguments, and whether each may be left out.
    fn parameters(&self) -> impl Iterator<Item = (&'static str, bool)> {
        let list = self.signature.split_once('(').map_or("", |(_, list)| list.trim_end_matches(')'));
        list.split(", ").filter(|one| !one.is_empty()).map(|one| match one.split_once('=') {
            Some((name, _)) => (name, true),
            None => (one, false),
        })
    }
}

/// Everything that templates can call, filters first, each kind sorted by name.
pub fn functions() -> impl ExactSizeIterator<Item = &'static FunctionDoc> {
    TABLE.iter().map(|function| &function.doc)
}

/// What all templates of one Secret share.
pub(super) struct Session {
    pub budget: Budget,
    /// What makes hashes of passwords differ between objects. Not secret.
    pub salt: String,
    /// How many passwords were hashed.
    pub hashes: usize,
}

type Run = for<'a> fn(&Args<'a>, &mut Session) -> Result<Value<'a>, Problem>;

#[derive(Clone, Copy)]
pub(super) struct Function {
    pub doc: FunctionDoc,
    /// Whether it takes what does not exist.
    pub takes_undefined: bool,
    run: Run,
}

pub(super) fn find(kind: FunctionKind, name: &str) -> Option<&'static Function> {
    TABLE.iter().find(|function| function.doc.kind == kind && function.doc.name() == name)
}

/// The names of all of a kind.
pub(super) fn names(kind: FunctionKind) -> String {
    let names = functions().filter(|doc| doc.kind == kind).map(FunctionDoc::name);
    names.collect::<Vec<_>>().join(", ")
}

/// The arguments of one call.
pub(super) struct Args<'a> {
    doc: &'static FunctionDoc,
    /// What a filter or a test is applied to; of a function, undefined.
    pub subject: Value<'a>,
    given: Vec<Option<Value<'a>>>,
}

impl<'a> Args<'a> {
    pub fn bind(
        function: &'static Function,
        subject: Value<'a>,
        mut by_place: Vec<Value<'a>>,
        by_name: Vec<(&'a str, Value<'a>)>,
    ) -> Result<Self, Problem> {
        let doc = &function.doc;
        let refusal = |what: &str| Problem::new(format!("{} {what}: it is used as {}", doc.name(), doc.signature));
        let count = doc.parameters().count();
        if by_place.len() > count {
            return Err(refusal(&format!("takes no more than {count} arguments")));
        }
        let mut by_place = by_place.drain(..);
        let mut by_name = by_name.into_iter().map(Some).collect::<Vec<_>>();
        let mut given = Vec::with_capacity(count);
        for (name, optional) in doc.parameters() {
            let named = by_name.iter_mut().find(|slot| slot.as_ref().is_some_and(|(given, _)| *given == name));
            let named = named.and_then(Option::take).map(|(_, value)| value);
            let value = match (by_place.next(), named) {
                (Some(_), Some(_)) => return Err(refusal(&format!("has its argument {name} twice"))),
                (one, other) => one.or(other),
            };
            if value.is_none() && !optional {
                return Err(refusal(&format!("needs the argument {name}")));
            }
            given.push(value);
        }
        if let Some((name, _)) = by_name.into_iter().flatten().next() {
            return Err(refusal(&format!("has no argument {}", quote(name))));
        }
        Ok(Self { doc, subject, given })
    }

    pub fn call(&self, function: &'static Function, session: &mut Session) -> Result<Value<'a>, Problem> {
        (function.run)(self, session)
    }

    /// The argument at this place, unless it was left out or is none.
    pub fn get(&self, place: usize) -> Option<&Value<'a>> {
        self.given.get(place)?.as_ref().filter(|value| !matches!(value, Value::None))
    }

    /// What the filter is applied to, to be read once.
    pub fn subject_text(&self, budget: &mut Budget) -> Result<Text<'a>, Problem> {
        self.read(&self.subject, budget)
    }

    pub fn text(&self, place: usize, budget: &mut Budget) -> Result<Option<Text<'a>>, Problem> {
        self.get(place).map(|value| self.read(value, budget)).transpose()
    }

    /// The text of an argument that must be there.
    pub fn needed_text(&self, place: usize, budget: &mut Budget) -> Result<Text<'a>, Problem> {
        self.text(place, budget)?.ok_or_else(|| self.refusal("a text", &Value::None))
    }

    pub fn is_true(&self, place: usize) -> bool {
        self.get(place).is_some_and(Value::is_true)
    }

    pub fn refusal(&self, wanted: &str, got: &Value<'_>) -> Problem {
        Problem::new(format!(
            "{} takes {wanted}, not {}: it is used as {}",
            self.doc.name(),
            got.sort(),
            self.doc.signature
        ))
    }

    fn read(&self, value: &Value<'a>, budget: &mut Budget) -> Result<Text<'a>, Problem> {
        match value {
            Value::None | Value::List(_) | Value::Map(_) => Err(self.refusal("a text", value)),
            value => {
                let text = value.to_text()?;
                budget.spend_bytes(text.len())?;
                Ok(text)
            }
        }
    }
}

const fn entry(kind: FunctionKind, [signature, help, example, result]: [&'static str; 4], run: Run) -> Function {
    Function { doc: FunctionDoc { kind, signature, help, example, result }, takes_undefined: false, run }
}

pub(super) const fn filter(doc: [&'static str; 4], run: Run) -> Function {
    entry(FunctionKind::Filter, doc, run)
}

pub(super) const fn test(doc: [&'static str; 4], run: Run) -> Function {
    entry(FunctionKind::Test, doc, run)
}

pub(super) const fn function(doc: [&'static str; 4], run: Run) -> Function {
    entry(FunctionKind::Function, doc, run)
}

pub(super) const fn lenient(function: Function) -> Function {
    Function { takes_undefined: true, ..function }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_names_each_once() {
        let order: Vec<_> = functions().map(|doc| (doc.kind, doc.name())).collect();
        assert!(order.is_sorted_by(|one, two| one < two), "{order:?}");
    }

    #[test]
    fn a_signature_says_what_may_be_left_out() {
        let parameters = |kind, name| find(kind, name).unwrap().doc.parameters().collect::<Vec<_>>();
        assert_eq!(parameters(FunctionKind::Filter, "indent"), [("width", false), ("first", true)]);
        assert_eq!(parameters(FunctionKind::Filter, "upper"), []);
    }

    #[test]
    fn help_is_sentences() {
        for doc in functions() {
            assert!(doc.help.ends_with('.') && !doc.help.contains('\n'), "{}", doc.signature);
        }
    }
}
