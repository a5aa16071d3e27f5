//! The names that a place in a template can use.
//!
//! A key is a name, what `set`, `with` and `for` give comes before it, and `data` always is the map of all keys.

use std::collections::BTreeMap;

use minijinja::machinery::ast::Expr;

use super::{
    super::render::{enumerate, quote},
    budget::{Budget, STEP},
    functions::{FunctionKind, find},
    problem::Problem,
    value::Value,
};

/// The name that no key and no `set` can take.
const DATA: &str = "data";

pub(super) struct Scopes<'a> {
    data: Value<'a>,
    inner: Vec<Scope<'a>>,
}

struct Scope<'a> {
    names: BTreeMap<&'a str, Value<'a>>,
    turn: Option<Turn>,
}

/// Where a loop is.
#[derive(Clone, Copy)]
pub(super) struct Turn {
    index: usize,
    length: usize,
}

impl Turn {
    pub fn get<'a>(self, name: &str) -> Value<'a> {
        let number = |number| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
        match name {
            "index" => number(self.index + 1),
            "index0" => number(self.index),
            "first" => Value::Bool(self.index == 0),
            "last" => Value::Bool(self.index + 1 == self.length),
            "length" => number(self.length),
            _ => Value::Undefined,
        }
    }
}

impl<'a> Scopes<'a> {
    /// `data` is the map of all keys.
    pub fn new(data: Value<'a>) -> Self {
        Self { data, inner: vec![Scope { names: BTreeMap::new(), turn: None }] }
    }

    pub fn push(&mut self) {
        self.inner.push(Scope { names: BTreeMap::new(), turn: None });
    }

    /// For one turn of a loop.
    pub fn push_turn(&mut self, index: usize, length: usize) {
        self.inner.push(Scope { names: BTreeMap::new(), turn: Some(Turn { index, length }) });
    }

    pub fn pop(&mut self) {
        self.inner.pop();
    }

    /// The innermost loop.
    pub fn turn(&self) -> Option<Turn> {
        self.inner.iter().rev().find_map(|scope| scope.turn)
    }

    pub fn set(&mut self, name: &'a str, value: Value<'a>) -> Result<(), Problem> {
        if name == DATA {
            return Err(Problem::new("data is the map of all keys and stays it: take another name"));
        }
        if let Some(scope) = self.inner.last_mut() {
            scope.names.insert(name, value);
        }
        Ok(())
    }

    pub fn get(&self, name: &str, budget: &mut Budget) -> Result<Value<'a>, Problem> {
        if name == DATA {
            return Ok(self.data.clone());
        }
        for scope in self.inner.iter().rev() {
            // Loops in loops put many of them over each other.
            budget.spend(STEP / 8)?;
            if let Some(value) = scope.names.get(name) {
                return Ok(value.clone());
            }
        }
        let Value::Map(keys) = &self.data else { return Ok(Value::Undefined) };
        Ok(keys.entries.get(name).cloned().unwrap_or(Value::Undefined))
    }

    /// The first of the keys that is like this.
    fn find(&self, like: impl Fn(&str) -> bool) -> Option<&str> {
        let Value::Map(keys) = &self.data else { return None };
        keys.entries.keys().map(|key| &**key).find(|key| like(key))
    }

    /// The keys there are, which are no secret: they will be those of the Secret, or are written in the `OkmsSecret`.
    fn keys(&self) -> String {
        match &self.data {
            Value::Map(keys) if !keys.entries.is_empty() => {
                format!("the keys are {}", enumerate(keys.entries.keys().map(|key| &**key), quote))
            }
            _ => "there are no keys".to_owned(),
        }
    }
}

/// Says what an expression asked for that is not there. Of what it looked into, only `data` has names that may be shown; and what it
/// looked for may be shown only where the template itself says it.
pub(super) fn missing(expr: &Expr<'_>, scopes: &Scopes<'_>) -> Problem {
    let of_data = |of: &Expr<'_>| matches!(of, Expr::Var(name) if name.id == DATA);
    match expr {
        Expr::Var(name) if name.id == "loop" => {
            Problem::new("loop is used as loop.index, index0, first, last or length, and only within a for")
        }
        Expr::Var(name) => match find(FunctionKind::Function, name.id) {
            Some(function) => {
                Problem::new(format!("{} is a function: it is used as {}", name.id, function.doc.signature))
            }
            None => no_key(name.id, scopes),
        },
        Expr::GetAttr(get) if of_data(&get.expr) => no_key(get.name, scopes),
        Expr::GetAttr(get) => nothing(&quote(get.name)),
        Expr::GetItem(get) => match &get.subscript_expr {
            Expr::Const(constant) => match constant.value.as_str() {
                Some(name) if of_data(&get.expr) => no_key(name, scopes),
                Some(name) => nothing(&quote(name)),
                None => nothing("such item"),
            },
            _ if of_data(&get.expr) => Problem::new(format!("there is no such key: {}", scopes.keys())),
            _ => nothing("such item"),
        },
        Expr::IfExpr(_) => Problem::new("this is nothing where its if does not hold: add an else"),
        _ => nothing("such value"),
    }
}

fn no_key(name: &str, scopes: &Scopes<'_>) -> Problem {
    let (shown, keys) = (quote(name), scopes.keys());
    // What is no word is read as several, such as `tls.crt` or `db-password`.
    let longer = scopes.find(|key| key.strip_prefix(name).is_some_and(|rest| rest.starts_with(['.', '-'])));
    let remedy = match longer {
        Some(longer) => format!("write data['{longer}'] if that is meant, else correct the name"),
        None => "correct the name, or say with default what stands in for it".to_owned(),
    };
    Problem::new(format!("there is no key {shown} ({keys}): {remedy}"))
}

fn nothing(what: &str) -> Problem {
    Problem::new(format!(
        "there is no {what} in it: correct the name, take the text of JSON apart with fromjson first, or say with default what stands \
         in for it"
    ))
}
